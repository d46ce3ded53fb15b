/** A database that is a list of LTX-shaped records in memory. Its checksums are made up: a number derived from TXID and history. */
import type { PageChecksums } from '../../ltx/page-checksums.ts'
import { encodeLtxHeader } from '../../ltx/ltx-header.ts'
import { type Checksum, NO_CHECKSUM } from '../../position/checksum.ts'
import { type Epoch, type EpochTable, epoch } from '../../position/epoch.ts'
import { type Position, samePosition, ZERO_POSITION } from '../../position/position.ts'
import { type Txid, txid } from '../../position/txid.ts'
import { databaseName, type DatabaseName } from '../../request/database-name.ts'
import type { SnapshotSpool } from '../snapshot-spool.ts'
import type { LogRead, StreamableDatabase } from '../streamable-database.ts'

export const FAKE_NODE_ID = 0xabcdn

/** @param history two histories never share a checksum */
export function fakePosition(id: number | bigint, history = 1): Position {
  return id === 0
    ? ZERO_POSITION
    : { txid: txid(BigInt(id)), checksum: ((1n << 63n) | (BigInt(history) << 40n) | BigInt(id)) as Checksum }
}

/** LTX-shaped bytes: a true header, then `payloadBytes` of filling and a trailer's length of zeros. */
export function fakeLtx(min: number, max: number, payloadBytes: number, history = 1, timestampMs = 5000): Buffer {
  const header = encodeLtxHeader({
    compressed: false,
    pageSize: 512,
    commit: 2,
    minTxid: txid(BigInt(min)),
    maxTxid: txid(BigInt(max)),
    timestampMs,
    preApplyChecksum: min === 1 ? NO_CHECKSUM : fakePosition(min - 1, history).checksum,
    walOffset: 0,
    walBytes: 0,
    walSalt1: 0,
    walSalt2: 0,
    nodeId: FAKE_NODE_ID,
  })
  // A prime period, so that a lost or doubled piece shows.
  const payload = Buffer.alloc(payloadBytes, Buffer.from(Array.from({ length: 251 }, (_, i) => (i * 7 + max) & 0xff)))
  return Buffer.concat([header, payload, Buffer.alloc(16)])
}

export class FakeDatabase implements StreamableDatabase {
  readonly name: DatabaseName
  readonly history: number
  /** TXID → record. */
  readonly records = new Map<bigint, Buffer>()
  position: Position = ZERO_POSITION
  /** Records up to this TXID are no longer held. */
  goneUpTo = 0n
  hwm = 0n
  epochs: EpochTable = []
  snapshotPayloadBytes = 300
  /** Set to make snapshots wait. */
  beforeSnapshot: () => Promise<void> = () => Promise.resolve()
  /** Set to let a snapshot fail after its first piece. */
  failSnapshot = false
  readBytes = 0
  /** What differences were asked to. */
  readonly differencesFrom: PageChecksums[] = []
  openSpools = 0
  readonly #listeners = new Set<() => void>()

  constructor(name: string, history = 1) {
    this.name = databaseName(name)
    this.history = history
  }

  get listenerCount(): number {
    return this.#listeners.size
  }

  /** Commits `count` transactions and announces the last. */
  commit(count = 1, payloadBytes = 200): void {
    for (let i = 0; i < count; i++) this.commitSilently(payloadBytes)
    this.announce()
  }

  commitSilently(payloadBytes = 200): void {
    const next = Number(this.#lastTxid) + 1
    this.records.set(BigInt(next), fakeLtx(next, next, payloadBytes, this.history))
  }

  announce(): void {
    this.position = fakePosition(this.#lastTxid, this.history)
    for (const listener of this.#listeners) listener()
  }

  tail(): { position: Position; epoch: Epoch } {
    return { position: this.position, epoch: this.epochs.at(-1)?.epoch ?? epoch(0) }
  }

  epochTable(): EpochTable {
    return this.epochs
  }

  highWaterMark(): Txid {
    return txid(this.hwm)
  }

  readAfter(after: Position, maxBytes: number): LogRead {
    if (after.txid < this.goneUpTo || !this.records.has(after.txid + 1n)) {
      return after.txid === this.#lastTxid ? { kind: 'at-end' } : { kind: 'gone' }
    }
    if (!samePosition(after, fakePosition(after.txid, this.history))) return { kind: 'diverged' }
    const records: Buffer[] = []
    let bytes = 0
    let end = after
    for (let next = this.records.get(end.txid + 1n); next !== undefined; next = this.records.get(end.txid + 1n)) {
      if (records.length > 0 && bytes + next.length > maxBytes) break
      records.push(next)
      bytes += next.length
      end = fakePosition(end.txid + 1n, this.history)
    }
    this.readBytes += bytes
    return { kind: 'records', records, epochs: records.map(() => epoch(1)), end }
  }

  async openSnapshot(signal: AbortSignal): Promise<SnapshotSpool> {
    await this.beforeSnapshot()
    signal.throwIfAborted()
    return this.#spool(fakeLtx(1, Number(this.position.txid), this.snapshotPayloadBytes, this.history))
  }

  /** Answers the LTX of its newest position, as a record; none to a copy of another page size than 4096. */
  async openDifference(from: PageChecksums, signal: AbortSignal): Promise<SnapshotSpool | undefined> {
    await this.beforeSnapshot()
    signal.throwIfAborted()
    this.differencesFrom.push(from)
    if (from.pageSize !== 4096) return undefined
    const last = Number(this.position.txid)
    return this.#spool(fakeLtx(last, last, this.snapshotPayloadBytes, this.history))
  }

  async openImage(signal: AbortSignal): Promise<SnapshotSpool> {
    await this.beforeSnapshot()
    signal.throwIfAborted()
    return this.#spool(Buffer.from('SQLite format 3\0'.repeat(100)))
  }

  onAdvance(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  get #lastTxid(): bigint {
    return [...this.records.keys()].at(-1) ?? 0n
  }

  #spool(bytes: Buffer): SnapshotSpool {
    const fails = this.failSnapshot
    this.openSpools++
    let isOpen = true
    return {
      position: this.position,
      sizeBytes: bytes.length,
      done: Promise.resolve(),
      async *read(): AsyncIterable<Buffer> {
        for (let offset = 0; offset < bytes.length; offset += 1_000_000) {
          yield bytes.subarray(offset, offset + 1_000_000)
          await Promise.resolve()
          if (fails) throw new Error('the disk broke')
        }
      },
      close: () => {
        if (isOpen) this.openSpools--
        isOpen = false
      },
    }
  }
}
