/** Where the records of one segment stand and what they lead to: 24 bytes of memory per record. */
import { type Checksum, checksumFromHalves } from '../position/checksum.ts'

const FIRST_CAPACITY = 64

export class SegmentIndex {
  #count = 0
  #offsets = new Uint32Array(FIRST_CAPACITY)
  #lengths = new Uint32Array(FIRST_CAPACITY)
  #checksumHighs = new Uint32Array(FIRST_CAPACITY)
  #checksumLows = new Uint32Array(FIRST_CAPACITY)
  #timestampsMs = new Float64Array(FIRST_CAPACITY)

  get count(): number {
    return this.#count
  }

  /** Byte offset of the envelope of record `i` (from 0) in its file. */
  offset(i: number): number {
    return this.#offsets[i]!
  }

  /** Bytes of its LTX, without the envelope. */
  ltxBytes(i: number): number {
    return this.#lengths[i]!
  }

  /** Checksum of the database after it. */
  checksum(i: number): Checksum {
    return checksumFromHalves(this.#checksumHighs[i]!, this.#checksumLows[i]!)
  }

  /** When its transaction committed, by the clock of its writer. */
  timestampMs(i: number): number {
    return this.#timestampsMs[i]!
  }

  /** @param checksum of the database after the record */
  push(offset: number, ltxBytes: number, checksum: Checksum, timestampMs: number): void {
    this.pushHalves(offset, ltxBytes, Number(checksum >> 32n), Number(checksum & 0xffffffffn), timestampMs)
  }

  pushHalves(offset: number, ltxBytes: number, high: number, low: number, timestampMs: number): void {
    const i = this.#count
    if (i === this.#offsets.length) this.#grow()
    this.#offsets[i] = offset
    this.#lengths[i] = ltxBytes
    this.#checksumHighs[i] = high
    this.#checksumLows[i] = low
    this.#timestampsMs[i] = timestampMs
    this.#count = i + 1
  }

  /** Forgets all records from `count` on. */
  truncate(count: number): void {
    if (count < this.#count) this.#count = count
  }

  /** The last record that led to this checksum; -1 when none did. */
  lastWithChecksum(checksum: Checksum): number {
    const high = Number(checksum >> 32n)
    const low = Number(checksum & 0xffffffffn)
    let i = this.#count - 1
    while (i >= 0 && (this.#checksumLows[i] !== low || this.#checksumHighs[i] !== high)) i--
    return i
  }

  /** Gives back the memory that stays unused in a segment that takes no more records. */
  seal(): void {
    if (this.#count < this.#offsets.length) this.#resize(this.#count)
  }

  #grow(): void {
    this.#resize(Math.max(FIRST_CAPACITY, this.#offsets.length * 2))
  }

  #resize(capacity: number): void {
    this.#offsets = resized(this.#offsets, new Uint32Array(capacity), this.#count)
    this.#lengths = resized(this.#lengths, new Uint32Array(capacity), this.#count)
    this.#checksumHighs = resized(this.#checksumHighs, new Uint32Array(capacity), this.#count)
    this.#checksumLows = resized(this.#checksumLows, new Uint32Array(capacity), this.#count)
    this.#timestampsMs = resized(this.#timestampsMs, new Float64Array(capacity), this.#count)
  }
}

function resized<T extends Uint32Array | Float64Array>(from: T, to: T, count: number): T {
  to.set(from.subarray(0, count))
  return to
}
