/**
 * How received transactions become visible on a replica:
 *
 *   decoded and verified → appended to the log → fdatasync (grouped) → applied as one new version → announced
 *
 * Relies on: records arrive in order from one stream at a time.
 * Promises: a record is durable in the log before its first frame goes to the WAL; while one batch is applied the next one
 * is being flushed. `accept` asks the stream to pause above `queueBytesMax`.
 * After a crash: the log is ahead of the database by at most what was queued here; `recovery.ts` applies the rest.
 */
import type { Clock, Timer } from '../../base/clock.ts'
import { ClusterError } from '../../errors/cluster-error.ts'
import type { Epoch } from '../../position/epoch.ts'
import { formatPosition, type Position, samePosition } from '../../position/position.ts'
import type { PositionTracker } from '../../position/position-tracker.ts'
import { APPLY_DEFAULTS } from '../../apply/apply-options.ts'
import type { WalApplier } from '../../apply/wal-applier.ts'
import type { LogEntry, TransactionLog } from '../../log/transaction-log.ts'
import { decodeLtxRecord, type LtxRecord } from '../../ltx/ltx-record.ts'

export interface ApplyParts {
  readonly database: string
  readonly clock: Clock
  readonly log: TransactionLog
  readonly applier: Pick<WalApplier, 'apply' | 'checkpoint' | 'needsPause' | 'position' | 'settled' | 'walBytes'>
  readonly tracker: PositionTracker
  /** The epoch that wrote a TXID, from the table the primary announced. */
  epochOf(record: LtxRecord): Epoch
  /** A transaction that the primary committed at this time, by its clock, is visible here. */
  onVisible(committedAtMs: number): void
  /** The log became durable up to its synced tail, or the database moved: tell the primary. */
  onProgress(): void
  /** The database cannot go on from here; the queue is dropped. */
  fail(error: unknown): void
}

/** One batch keeps the event loop for a few ms at most. */
const BATCH_BYTES_MAX = 2 << 20
const BATCH_RECORDS_MAX = 512
/** How soon a checkpoint that could not be finished goes on while nothing is applied. */
const CHECKPOINT_AGAIN_MS = 50
/** While the WAL is above its hard limit: how often to look whether the readers that hold it have gone. */
const PAUSE_POLL_MS = 5
/** What may wait to be logged and applied before the stream is paused. */
const QUEUE_BYTES_MAX = 16 << 20

export class ApplyPipeline {
  readonly #parts: ApplyParts
  readonly #queueBytesMax: number
  #queue: LtxRecord[] = []
  #queueBytes = 0
  /** Position after everything accepted. */
  #accepted: Position
  #running: Promise<void> | undefined
  #drained: (() => void)[] = []
  #stopped = false
  #isStopping = false
  #checkpointed: Position
  #checkpointTimer: Timer | undefined

  constructor(parts: ApplyParts, queueBytesMax = QUEUE_BYTES_MAX) {
    this.#parts = parts
    this.#queueBytesMax = queueBytesMax
    this.#checkpointed = parts.log.start.position
    this.#accepted = parts.log.tail.position
  }

  /** Where the stream must continue. */
  get position(): Position {
    return this.#accepted
  }

  /** Everything up to here is in the database file itself, durably. */
  get checkpointed(): Position {
    return this.#checkpointed
  }

  /**
   * Takes records in order. Resolves later than at once when the queue is above its bound.
   * @throws POSITION_DIVERGED when a record does not continue what was accepted; CORRUPT_DATA when it is damaged
   */
  accept(encoded: readonly Buffer[]): void | Promise<void> {
    if (this.#stopped) throw new ClusterError('CLOSED', `database "${this.#parts.database}": applying has ended`)
    for (const bytes of encoded) {
      const record = decodeLtxRecord(bytes)
      if (!samePosition(record.preApply, this.#accepted)) {
        throw new ClusterError(
          'POSITION_DIVERGED',
          `database "${this.#parts.database}": a record after ${formatPosition(record.preApply)} does not continue ${formatPosition(this.#accepted)}`,
        )
      }
      this.#accepted = record.postApply
      this.#queue.push(record)
      this.#queueBytes += record.bytes.length
    }
    if (this.#queue.length > 0) this.#running ??= this.#run()
    if (this.#queueBytes <= this.#queueBytesMax) return
    return new Promise((resolve) => this.#drained.push(resolve))
  }

  /** Resolves when nothing is queued or under way. */
  async settled(): Promise<void> {
    while (this.#running !== undefined) await this.#running
  }

  /** Finishes what is queued, then takes nothing more. Idempotent. */
  async stop(): Promise<void> {
    this.#isStopping = true
    await this.settled()
    this.#stopped = true
    this.#checkpointTimer?.cancel()
    await this.#parts.applier.settled()
    this.#release()
  }

  async #run(): Promise<void> {
    // Lets the rest of this turn's records join the first batch.
    await new Promise((resolve) => setImmediate(resolve))
    let flushed: LtxRecord[] = []
    try {
      while (!this.#stopped && (this.#queue.length > 0 || flushed.length > 0)) {
        const batch = this.#take()
        const syncing = batch.length > 0 ? this.#log(batch) : undefined
        try {
          if (flushed.length > 0) await this.#apply(flushed)
        } finally {
          // Also when applying failed: a flush that is under way must not end as an unhandled rejection.
          await syncing
        }
        flushed = batch
      }
    } catch (error) {
      this.#stopped = true
      this.#queue = []
      this.#queueBytes = 0
      this.#parts.fail(error)
    } finally {
      this.#running = undefined
      this.#release()
    }
  }

  #take(): LtxRecord[] {
    const batch: LtxRecord[] = []
    let bytes = 0
    for (const record of this.#queue) {
      if (batch.length > 0 && (bytes + record.bytes.length > BATCH_BYTES_MAX || batch.length >= BATCH_RECORDS_MAX))
        break
      batch.push(record)
      bytes += record.bytes.length
    }
    this.#queue.splice(0, batch.length)
    this.#queueBytes -= bytes
    if (this.#queueBytes <= this.#queueBytesMax / 2) this.#release()
    return batch
  }

  async #log(batch: readonly LtxRecord[]): Promise<void> {
    const entries: LogEntry[] = batch.map((record) => ({ epoch: this.#parts.epochOf(record), record }))
    this.#parts.log.append(entries)
    await this.#parts.log.sync()
    this.#parts.onProgress()
  }

  async #apply(batch: readonly LtxRecord[]): Promise<void> {
    const { applier, tracker } = this.#parts
    applier.apply(batch)
    tracker.advance(batch.map((record) => ({ position: record.postApply, epoch: this.#parts.epochOf(record) })))
    const last = batch.at(-1)
    if (last !== undefined) this.#parts.onVisible(last.header.timestampMs)
    this.#parts.onProgress()
    this.#checkpoint()
    // Above the WAL's hard limit: apply waits for the readers that keep it from shrinking, the stream waits for apply.
    while (applier.needsPause && !this.#isStopping) {
      await new Promise<void>((resolve) => this.#parts.clock.setTimer(PAUSE_POLL_MS, resolve))
      this.#checkpoint()
    }
  }

  #checkpoint(): void {
    const { applier, clock } = this.#parts
    const { kind } = applier.checkpoint()
    if (kind === 'restarted' || kind === 'backfilled') this.#checkpointed = applier.position
    const isSmall = applier.walBytes < APPLY_DEFAULTS.walSoftLimitBytes
    if (isSmall || this.#isStopping || this.#checkpointTimer !== undefined) return
    // What is left goes on in later turns, also when nothing arrives any more.
    this.#checkpointTimer = clock.setTimer(CHECKPOINT_AGAIN_MS, () => {
      this.#checkpointTimer = undefined
      if (this.#running === undefined && !this.#isStopping) this.#checkpointIdle()
    })
  }

  #checkpointIdle(): void {
    try {
      this.#checkpoint()
    } catch (error) {
      this.#stopped = true
      this.#parts.fail(error)
    }
  }

  #release(): void {
    for (const resolve of this.#drained.splice(0)) resolve()
  }
}
