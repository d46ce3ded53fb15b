/**
 * Cuts a byte stream that arrives in arbitrary chunks into fields of known length. For incremental parsers.
 *
 * A field that lies whole in one chunk is given as a view of that chunk; only a field that a chunk boundary cuts is
 * copied together. Memory: one field of at most `fieldBytesMax` bytes.
 */
import { assert } from './assert.ts'

export class ByteCollector {
  readonly #fieldBytesMax: number
  #pending: Buffer = Buffer.alloc(0)
  #pendingBytes = 0
  #next = 0

  constructor(fieldBytesMax: number) {
    this.#fieldBytesMax = fieldBytesMax
  }

  /** Where in the chunk the last `take` stopped. */
  get next(): number {
    return this.#next
  }

  /** Bytes of an unfinished field that are held. */
  get pendingBytes(): number {
    return this.#pendingBytes
  }

  /**
   * Takes a field of `fieldBytes` bytes from `chunk` at `from`; `undefined` when the chunk ended first: call again with
   * the next chunk and the same length. The result is valid until the next call or change of the chunk.
   */
  take(chunk: Buffer, from: number, fieldBytes: number): Buffer | undefined {
    const held = this.#pendingBytes
    const missing = fieldBytes - held
    assert(missing >= 0 && fieldBytes <= this.#fieldBytesMax, `field of ${fieldBytes} bytes`)
    if (chunk.length - from >= missing) {
      this.#next = from + missing
      if (held === 0) return chunk.subarray(from, this.#next)
      chunk.copy(this.#pending, held, from, this.#next)
      this.#pendingBytes = 0
      return this.#pending.subarray(0, fieldBytes)
    }
    if (this.#pending.length < fieldBytes) {
      const larger = Buffer.allocUnsafeSlow(fieldBytes)
      this.#pending.copy(larger, 0, 0, held)
      this.#pending = larger
    }
    this.#pendingBytes += chunk.copy(this.#pending, held, from)
    this.#next = chunk.length
    return undefined
  }
}
