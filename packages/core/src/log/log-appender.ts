/**
 * The writing side of the log: appends to the newest segment, begins new ones, makes them durable.
 *
 * Order: a segment is durable before the next one is created, so only the newest can be torn by a power cut. To keep the
 * event loop from waiting for that, a sync is started in the thread pool every few MiB, and a full segment may grow to
 * twice its size meanwhile. A record larger than a segment begins a new one.
 * Promises: `append` takes all entries or none. A sync that fails is final, because the kernel may have dropped the bytes
 * and will not say so twice: they are written once more, so that the next sync speaks of them, or else cut off; and from then on
 * everything here throws `STORAGE_FAILED`. So it does after an append that failed and could not be taken back.
 */
import { assert } from '../base/assert.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { Disk } from '../files/disk.ts'
import { formatPosition, samePosition } from '../position/position.ts'
import { entryBytes, type LogEntry, Segment } from './segment.ts'
import type { LogTail } from './segment-format.ts'
import { SharedFlush } from './shared-flush.ts'
import type { TailCache } from './tail-cache.ts'

/** Unsynced bytes at which a sync is started in the background. */
const BACKGROUND_SYNC_BYTES = 4 * 1024 * 1024
/** Unsynced bytes up to which closing a segment may wait for a sync before it is twice its size. */
const ROLL_SYNC_BYTES = 1024 * 1024
/** Entries are gathered into one write up to this size; a larger one is written from its own buffer and not cached. */
const GATHER_BYTES = 1024 * 1024

export interface LogAppenderOptions {
  readonly disk: Disk
  readonly directory: string
  readonly segmentBytes: number
  /** The list of the log, oldest first; the appender adds new segments to it. */
  readonly segments: Segment[]
  readonly cache: TailCache
  /** Where the log ends while it has no segment. */
  readonly zero: LogTail
}

export class LogAppender {
  readonly #disk: Disk
  readonly #directory: string
  readonly #segmentBytes: number
  readonly #segments: Segment[]
  readonly #cache: TailCache
  readonly #zero: LogTail
  readonly #flush = new SharedFlush(
    () => this.#flushNewest(),
    () => this.#appends,
  )
  /** Calls of `append`, failed ones too. */
  #appends = 0
  #syncedTail: LogTail
  #failure: unknown
  #isClosed = false

  constructor(o: LogAppenderOptions) {
    this.#disk = o.disk
    this.#directory = o.directory
    this.#segmentBytes = o.segmentBytes
    this.#segments = o.segments
    this.#cache = o.cache
    this.#zero = o.zero
    this.#syncedTail = this.tail
  }

  get tail(): LogTail {
    return this.#segments.at(-1)?.end ?? this.#zero
  }

  get syncedTail(): LogTail {
    return this.#syncedTail
  }

  /** False after a failure that is final, and after `close`. */
  get isUsable(): boolean {
    return this.#failure === undefined && !this.#isClosed
  }

  /** Throws `CLOSED` after `close`. */
  requireOpen(): void {
    if (this.#isClosed) throw new ClusterError('CLOSED', `log ${this.#directory} is closed`)
  }

  /** Throws `STORAGE_FAILED` after a failure that is final, `CLOSED` after `close`. */
  requireUsable(): void {
    this.requireOpen()
    if (this.#failure === undefined) return
    throw new ClusterError('STORAGE_FAILED', `log ${this.#directory} stopped after an earlier failure`, {
      cause: this.#failure,
      details: { directory: this.#directory },
      hint: 'Check the disk, then restart the node: the log is repaired when it is opened.',
    })
  }

  append(entries: readonly LogEntry[]): void {
    this.requireUsable()
    requireContiguous(this.tail, entries)
    const mark = this.#mark()
    this.#appends++
    try {
      const kept = this.#segments.at(-1)?.takesRequests === false ? entries.map(withoutRequests) : entries
      for (let i = 0; i < kept.length; ) i += this.#appendSome(kept, i)
    } catch (error) {
      this.#takeBack(mark)
      throw error
    }
    if (this.#unsyncedBytes() >= BACKGROUND_SYNC_BYTES) this.#syncInBackground()
  }

  async sync(): Promise<void> {
    this.requireUsable()
    if (this.#unsyncedBytes() > 0) await this.#flush.run()
  }

  syncNow(): void {
    this.requireUsable()
    const newest = this.#segments.at(-1)
    if (newest !== undefined && this.#unsyncedBytes() > 0) this.#syncNewest(newest)
  }

  /** After a reset, when the list holds the new segment only. */
  restart(): void {
    this.#syncedTail = this.tail
  }

  /** From now on everything throws. */
  fail(error: unknown): void {
    this.#failure ??= error
  }

  /** Syncs what can be synced and waits for running syncs. Idempotent. */
  async close(): Promise<void> {
    try {
      if (!this.#isClosed && this.#failure === undefined) await this.sync()
    } finally {
      this.#isClosed = true
      await this.#flush.idle()
    }
  }

  /** Appends entries from `first` on that fit one write into one segment; answers how many. */
  #appendSome(entries: readonly LogEntry[], first: number): number {
    let length = entryBytes(entries[first]!)
    const segment = this.#segmentFor(length)
    const isDirect = length > GATHER_BYTES
    let end = first + 1
    for (; end < entries.length; end++) {
      const next = entryBytes(entries[end]!)
      if (length + next > GATHER_BYTES || segment.bytes + length + next > this.#segmentBytes) break
      length += next
    }
    const some = first === 0 && end === entries.length ? entries : entries.slice(first, end)
    segment.append(some, length, isDirect ? undefined : this.#cache)
    return end - first
  }

  /** The segment that takes the next `length` bytes. */
  #segmentFor(length: number): Segment {
    const newest = this.#segments.at(-1)
    if (newest !== undefined && !this.#mustRoll(newest, length)) return newest
    if (newest !== undefined) {
      if (this.#unsyncedBytes() > 0) this.#syncNewest(newest)
      newest.index.seal()
      newest.close()
    }
    const segment = Segment.create(this.#disk, this.#directory, this.tail)
    this.#segments.push(segment)
    this.#disk.syncDirectory('log.new-segment', this.#directory)
    return segment
  }

  #mustRoll(newest: Segment, length: number): boolean {
    if (newest.index.count === 0) return false
    if (length > this.#segmentBytes) return true
    if (newest.bytes + length <= this.#segmentBytes) return false
    if (this.#unsyncedBytes() <= ROLL_SYNC_BYTES) return true
    this.#syncInBackground()
    return newest.bytes + length > 2 * this.#segmentBytes
  }

  #syncNewest(newest: Segment): void {
    try {
      newest.syncNow()
    } catch (error) {
      this.#failSync(newest, error)
      throw error
    }
    this.#syncedTail = newest.end
  }

  #syncInBackground(): void {
    // A failure is kept in `#failure`; the next append or sync throws it.
    this.#flush.run().catch(() => {})
  }

  async #flushNewest(): Promise<void> {
    const newest = this.#segments.at(-1)
    if (newest === undefined || this.#unsyncedBytes() === 0) return
    this.requireUsable()
    const end = newest.end
    let isCovered: boolean
    try {
      isCovered = await newest.sync()
    } catch (error) {
      if (!this.#segments.includes(newest)) return
      this.#failSync(newest, error)
      throw error
    }
    // Of a segment that a reset dropped meanwhile nothing needs to be durable.
    if (!this.#segments.includes(newest)) return
    // An append was taken back meanwhile: once more for what stands there now.
    if (!isCovered) return this.#flushNewest()
    if (end.position.txid > this.#syncedTail.position.txid) this.#syncedTail = end
  }

  #failSync(segment: Segment, error: unknown): void {
    this.fail(error)
    try {
      segment.rewriteUnsynced()
    } catch {
      this.#cutUnsynced(segment)
    }
  }

  #cutUnsynced(segment: Segment): void {
    try {
      segment.cutUnsynced()
    } catch {
      // Best effort: without it the next open takes bytes for durable that may be in the page cache only.
    }
  }

  #unsyncedBytes(): number {
    const newest = this.#segments.at(-1)
    return newest === undefined ? 0 : newest.bytes - newest.syncedBytes
  }

  #mark(): AppendMark {
    const newest = this.#segments.at(-1)
    return {
      segments: this.#segments.length,
      bytes: newest?.bytes ?? 0,
      records: newest?.index.count ?? 0,
      tail: this.tail,
    }
  }

  /** Undoes an append that failed in the middle: new segments go first, and durably, so that none is left behind a gap. */
  #takeBack(mark: AppendMark): void {
    if (this.#failure !== undefined) return
    try {
      const added = this.#segments.splice(mark.segments)
      for (const segment of added.toReversed()) {
        segment.close()
        this.#disk.remove('log.truncate', segment.file)
        this.#cache.truncate(segment, 0)
      }
      if (added.length > 0) this.#disk.syncDirectory('log.truncate', this.#directory)
      const newest = this.#segments.at(-1)
      if (newest !== undefined) {
        this.#cache.truncate(newest, mark.bytes)
        newest.truncate(mark.bytes, mark.records, mark.tail)
      }
      if (this.#syncedTail.position.txid > mark.tail.position.txid) this.#syncedTail = mark.tail
    } catch (error) {
      this.fail(error)
    }
  }
}

/** For a segment that an earlier release began. */
function withoutRequests({ epoch, record }: LogEntry): LogEntry {
  return { epoch, record }
}

/** The state to go back to when an append fails. */
interface AppendMark {
  readonly segments: number
  /** Size and records of the newest segment. */
  readonly bytes: number
  readonly records: number
  readonly tail: LogTail
}

function requireContiguous(tail: LogTail, entries: readonly LogEntry[]): void {
  let position = tail.position
  let epoch = tail.epoch
  for (const entry of entries) {
    const { header, preApply, postApply } = entry.record
    // The messages are built only when needed: this runs for every commit.
    if (header.minTxid !== header.maxTxid)
      assert(false, `a record of TXIDs ${header.minTxid}–${header.maxTxid} in a log`)
    if (!samePosition(preApply, position))
      assert(false, `a record after ${formatPosition(preApply)} follows ${formatPosition(position)}`)
    if (entry.epoch < epoch) assert(false, `a record of epoch ${entry.epoch} follows one of epoch ${epoch}`)
    position = postApply
    epoch = entry.epoch
  }
}
