/**
 * The transaction log of one database: every record from `start` to `tail`, without a hole (I2).
 *
 * Relies on: one owner; record bytes that nobody changes. The bytes on disk are described in segment-format.ts.
 * Promises: when `append` returns, the records survive the process; when `sync` does, a power cut. What can fail and how
 * it stays failed is told in log-appender.ts: after a failure that is final, everything that changes the log throws
 * `STORAGE_FAILED` until it is opened again, while reading goes on as far as it can. A record found damaged when it is
 * read is never handed out: the log then begins after it.
 * After a crash: see log-recovery.ts and log-reset.ts.
 */
import path from 'node:path'
import type { Clock } from '../base/clock.ts'
import type { Disk } from '../files/disk.ts'
import type { LtxHeader } from '../ltx/ltx-header.ts'
import type { Checksum } from '../position/checksum.ts'
import { type EpochStart, type EpochTable, epochOf, NO_EPOCH } from '../position/epoch.ts'
import { type Position, ZERO_POSITION } from '../position/position.ts'
import type { Txid } from '../position/txid.ts'
import { EpochFile, type EpochRepair } from './epoch-file.ts'
import { LogAppender } from './log-appender.ts'
import type { ResolvedLogOptions } from './log-options.ts'
import { type FoundRecords, LogReader } from './log-reader.ts'
import { loggedEpochs } from './logged-epochs.ts'
import { type LogRecovery, recoverLog } from './log-recovery.ts'
import { commitReset, prepareReset } from './log-reset.ts'
import { type PrunableSegment, prunableCount } from './retention.ts'
import { type LogEntry, Segment } from './segment.ts'
import { type LogTail, segmentName } from './segment-format.ts'
import { TailCache } from './tail-cache.ts'

export type { LogEntry } from './segment.ts'
export type { LogTail } from './segment-format.ts'

export interface TransactionLogOptions {
  readonly disk: Disk
  /** Made when it does not exist. Holds nothing but the log. */
  readonly directory: string
  readonly options: ResolvedLogOptions
  readonly clock: Clock
}

/** `gone`: too old for this log. `diverged`: a position that this history never had or has not reached. */
export type ReadAfter =
  | ({ readonly kind: 'records' } & FoundRecords)
  | { readonly kind: 'at-end' }
  | { readonly kind: 'gone' }
  | { readonly kind: 'diverged' }

export interface PruneLimits {
  /** Connected replicas need the records after this one; left out when none is connected. */
  readonly keepAfter?: Txid | undefined
  /** The database file itself durably holds everything up to this TXID. */
  readonly durableInDatabase: Txid
}

const ZERO_TAIL: LogTail = Object.freeze({ position: ZERO_POSITION, epoch: NO_EPOCH })

export class TransactionLog {
  /** What `open` repaired. */
  readonly recovery: LogRecovery
  /** The epoch table was damaged, and made anew from this. */
  readonly epochRepair: EpochRepair | undefined
  readonly #disk: Disk
  readonly #directory: string
  readonly #options: ResolvedLogOptions
  readonly #clock: Clock
  readonly #epochs: EpochFile
  readonly #cache: TailCache
  /** Oldest first; reader and appender share it. Empty only in a log that never had a record or a reset. */
  readonly #segments: Segment[]
  readonly #reader: LogReader
  readonly #appender: LogAppender
  #start: LogTail
  #lastHeader: LtxHeader | undefined

  /**
   * Opens or makes the log of a database, with the repairs that `recovery` then tells.
   * Throws `UNSUPPORTED_FORMAT` for files of a newer version, before anything is changed; `STORAGE_FAILED`.
   */
  static open(o: TransactionLogOptions): TransactionLog {
    return new TransactionLog(o)
  }

  private constructor(o: TransactionLogOptions) {
    this.#disk = o.disk
    this.#directory = o.directory
    this.#options = o.options
    this.#clock = o.clock
    this.#epochs = EpochFile.open(o.disk, o.directory)
    const { segments, lastHeader, recovery } = recoverLog(o.disk, o.directory)
    this.recovery = recovery
    this.epochRepair = this.#repairEpochs(segments)
    this.#segments = segments
    this.#cache = new TailCache(o.options.tailCacheBytes)
    this.#reader = new LogReader(segments, this.#cache)
    this.#appender = new LogAppender({
      disk: o.disk,
      directory: o.directory,
      segmentBytes: o.options.segmentBytes,
      segments,
      cache: this.#cache,
      zero: ZERO_TAIL,
    })
    this.#start = segments[0]?.base ?? ZERO_TAIL
    this.#lastHeader = lastHeader
  }

  /** The position before the first record held. */
  get start(): LogTail {
    return this.#start
  }

  /** The position after the last record. */
  get tail(): LogTail {
    return this.#appender.tail
  }

  /** The newest position up to which all records survive a power cut. */
  get syncedTail(): LogTail {
    return this.#appender.syncedTail
  }

  /** False after a failure that is final, until it is opened again. */
  get isUsable(): boolean {
    return this.#appender.isUsable
  }

  /** Size of all segment files. */
  get bytes(): number {
    return this.#segments.reduce((sum, segment) => sum + segment.bytes, 0)
  }

  get recordCount(): number {
    return Number(this.tail.position.txid - this.#start.position.txid)
  }

  /**
   * Adds records; they are not synced. Each must begin at the position where the one before it ended, and hold one TXID.
   * Throws `STORAGE_FAILED` (disk full, …): none of the entries is in the log then.
   */
  append(entries: readonly LogEntry[]): void {
    this.#appender.append(entries)
    this.#lastHeader = entries.at(-1)?.record.header ?? this.#lastHeader
  }

  /** Makes everything appended so far durable. Concurrent callers share one `fdatasync`. Throws `STORAGE_FAILED`. */
  sync(): Promise<void> {
    return this.#appender.sync()
  }

  /** The same, blocking. */
  syncNow(): void {
    this.#appender.syncNow()
  }

  /**
   * The LTX of the records after `after`: up to `maxBytes` of them, but at least one record. The buffers may be kept and
   * must not be changed.
   */
  readAfter(after: Position, maxBytes: number): ReadAfter {
    this.#appender.requireOpen()
    const { txid } = after
    const tail = this.tail.position
    if (txid > tail.txid) return { kind: 'diverged' }
    if (txid < this.#start.position.txid) return { kind: 'gone' }
    if (this.#checksumAt(txid) !== after.checksum) return { kind: 'diverged' }
    if (txid === tail.txid) return { kind: 'at-end' }
    const { found, damaged } = this.#reader.readAfter(txid, maxBytes)
    if (damaged !== undefined) this.#startAfter(damaged)
    return found === undefined ? { kind: 'gone' } : { kind: 'records', ...found }
  }

  /** One record, verified; `undefined` when the log does not hold it. Throws `CORRUPT_DATA`. */
  readRecord(txid: Txid): LogEntry | undefined {
    this.#appender.requireOpen()
    if (txid <= this.#start.position.txid || txid > this.tail.position.txid) return undefined
    return this.#reader.readRecord(txid)
  }

  /** What the transaction of a record was asked for; `undefined` when this log does not know. */
  readRequests(txid: Txid): Buffer | undefined {
    this.#appender.requireOpen()
    if (txid <= this.#start.position.txid || txid > this.tail.position.txid) return undefined
    return this.#reader.readRequests(txid)
  }

  /** Header of the newest record; `undefined` when there is none. */
  lastRecordHeader(): LtxHeader | undefined {
    return this.#lastHeader
  }

  /** The newest position at which the database had this checksum, among `start` and all records. */
  findChecksum(checksum: Checksum): Position | undefined {
    for (const segment of this.#segments.toReversed()) {
      const record = segment.index.lastWithChecksum(checksum)
      const txid = (segment.base.position.txid + BigInt(record + 1)) as Txid
      if (record >= 0 && txid > this.#start.position.txid) return { txid, checksum }
    }
    return this.#start.position.checksum === checksum ? this.#start.position : undefined
  }

  /** Checksum of the database after `txid`; `undefined` when the log does not reach there. */
  checksumAt(txid: Txid): Checksum | undefined {
    if (txid < this.#start.position.txid || txid > this.tail.position.txid) return undefined
    return this.#checksumAt(txid)
  }

  epochTable(): EpochTable {
    return this.#epochs.table
  }

  /** Notes durably that an epoch begins; to be called before its first record is appended. */
  recordEpochStart(start: EpochStart): void {
    this.#epochs.record(start)
  }

  /** Replaces the table durably by that of the primary. Throws `CORRUPT_DATA` when it is none. */
  adoptEpochTable(table: EpochTable): void {
    this.#epochs.adopt(table)
  }

  /** Drops every record and begins anew at `start`, durably; the epoch table stays. */
  reset(start: LogTail): void {
    this.#appender.requireUsable()
    prepareReset(this.#disk, this.#directory, start)
    try {
      commitReset(this.#disk, this.#directory)
    } catch (error) {
      this.#appender.fail(error)
      throw error
    }
    const header = { base: start, takesRequests: true }
    const segment = new Segment(this.#disk, path.join(this.#directory, segmentName(start)), header)
    segment.noteSynced()
    for (const old of this.#segments.splice(0, Infinity, segment)) old.close()
    this.#cache.clear()
    this.#appender.restart()
    this.#start = start
    this.#lastHeader = undefined
  }

  /** Removes old segments by the rules of retention.ts. */
  prune(limits: PruneLimits): { removedBytes: number; removedRecords: number } {
    this.#appender.requireUsable()
    const before = { bytes: this.bytes, records: this.recordCount }
    const newest = this.#segments.findLastIndex((segment) => segment.index.count > 0)
    const older = this.#segments.slice(0, Math.max(0, newest))
    const state = { logBytes: before.bytes, nowMs: this.#clock.nowMs(), keepAfter: limits.keepAfter }
    const count = prunableCount(older.map(summaryOf), this.#options, {
      ...state,
      durableInDatabase: limits.durableInDatabase,
    })
    for (const segment of older.slice(0, count)) {
      this.#disk.remove('log.prune', segment.file)
      segment.close()
      this.#segments.shift()
      if (segment.end.position.txid > this.#start.position.txid) this.#start = segment.end
    }
    // A crash may bring a removed segment back in front of a gap; recovery then drops it again.
    if (count > 0) this.#disk.syncDirectory('log.prune', this.#directory)
    return { removedBytes: before.bytes - this.bytes, removedRecords: before.records - this.recordCount }
  }

  /** Syncs what can be synced and closes the files. Idempotent. Throws `STORAGE_FAILED` when the last sync fails. */
  async close(): Promise<void> {
    try {
      await this.#appender.close()
    } finally {
      for (const segment of this.#segments) segment.close()
      this.#cache.clear()
    }
  }

  #repairEpochs(segments: readonly Segment[]): EpochRepair | undefined {
    try {
      return this.#epochs.repair(() => loggedEpochs(segments))
    } catch (error) {
      for (const segment of segments) segment.close()
      throw error
    }
  }

  #checksumAt(txid: Txid): Checksum {
    return txid === this.#start.position.txid ? this.#start.position.checksum : this.#reader.checksumAt(txid)
  }

  #startAfter(damaged: Txid): void {
    // After a failed sync the unsynced bytes may have been cut off the file: missing, not damaged.
    this.#appender.requireUsable()
    const position = { txid: damaged, checksum: this.#checksumAt(damaged) }
    this.#start = { position, epoch: epochOf(this.#epochs.table, damaged) }
  }
}

function summaryOf(segment: Segment): PrunableSegment {
  const newestMs = segment.index.count === 0 ? 0 : segment.index.timestampMs(segment.index.count - 1)
  return { bytes: segment.bytes, lastTxid: segment.end.position.txid, newestMs }
}
