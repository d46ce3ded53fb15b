/**
 * Keeps a replica's WAL small: SQLite's own passive checkpoint copies frames into the database file, then we restart the
 * WAL at frame 1 (wal-restart.ts).
 *
 * A checkpoint syncs the WAL, copies pages, and at the end of the WAL syncs the database file, all of it while the event
 * loop stands still. So each call copies a bounded number of frames (measured by what the last calls took), and the files
 * are synced beforehand in the thread pool, which leaves SQLite's own syncs little to do:
 *   sync -wal aside · copy all frames but the last, in steps · sync the database file aside · copy the rest · restart
 * Applying goes on meanwhile. SQLite's syncs are the ones that count; ours are a head start and may cover too little.
 *
 * Readers decide how far it gets. A reader of an old version stops the copying at its frame, and any reader of the WAL
 * stops the restart; so the WAL may grow, up to the hard limit, where `needsPause` asks the caller to apply nothing until
 * it is empty: then new readers need the database file only, and the old ones leave sooner or later.
 * After an attempt that met readers the next one waits (2 ms, doubled up to 250 ms; at most 10 ms above the hard limit).
 *
 * Relies on: the write lock; the checkpointing connection syncs (`synchronous` NORMAL or FULL), so that the WAL is durable
 * before its frames are copied and the database file before the WAL is restarted.
 */
import { assert } from '../base/assert.ts'
import type { Clock } from '../base/clock.ts'
import type { LiveFiles } from '../files/live-files.ts'
import { PassiveCheckpoint } from '../sqlite/checkpoint.ts'
import type { Connection } from '../sqlite/connection.ts'
import type { ResolvedApplyOptions } from './apply-options.ts'
import { withBackfillLimit } from './backfill-limit.ts'
import type { CheckpointOutcome } from './checkpoint-outcome.ts'
import { readBackfilledFrames, restartWal } from './wal-restart.ts'
import type { WalTail } from './wal-tail.ts'

const WAIT_MIN_MS = 2
const WAIT_MAX_MS = 250
const WAIT_MAX_PAUSED_MS = 10
/** Each step costs SQLite a look at the whole WAL, so a large WAL is copied in larger steps. */
const STEPS_MAX = 32
/** Steps shrink and grow so that copying takes about so long. */
const STEP_MS = 5
/** No smaller, because each step also waits for a sync of the WAL, however little it copies. */
const STEP_BYTES_MIN = 1 * 1024 * 1024
/** Part of the largest step that may be left for the end, where the database file is synced on the event loop. */
const LAST_STEP_PART = 4
/**
 * A WAL of so many soft limits pauses applying while a file is being synced, so that the end can be reached; up to this
 * size the `-wal` file is kept, because writing over it is cheaper than letting it grow again.
 */
const KEPT_SOFT_LIMITS = 4

export class ReplicaCheckpointer {
  readonly #files: LiveFiles
  readonly #tail: WalTail
  readonly #passive: PassiveCheckpoint
  readonly #options: ResolvedApplyOptions
  readonly #stepFramesMin: number
  readonly #stepFramesMax: number
  #stepFrames: number
  readonly #clock: Clock
  #syncing: Promise<void> | undefined
  #syncError: unknown
  /** The `-wal` was synced aside since the last cycle ended. */
  #hasSyncedWal = false
  /** As of the last look; another process may have copied more since. */
  #backfilledFrames = 0
  #waitMs = 0
  #notBeforeMs = Number.NEGATIVE_INFINITY

  constructor(o: {
    files: LiveFiles
    connection: Connection
    tail: WalTail
    pageSize: number
    options: ResolvedApplyOptions
    clock: Clock
  }) {
    const synchronous = Number(o.connection.pragma('synchronous', { simple: true }))
    assert(synchronous >= 1, `${o.files.databasePath}: a connection that checkpoints must sync`)
    this.#files = o.files
    this.#tail = o.tail
    this.#passive = new PassiveCheckpoint(o.connection)
    this.#options = o.options
    this.#stepFramesMin = Math.ceil(STEP_BYTES_MIN / o.pageSize)
    this.#stepFramesMax = Math.max(1, Math.floor(o.options.checkpointStepBytes / o.pageSize))
    this.#stepFrames = Math.ceil(this.#stepFramesMax / 2)
    this.#clock = o.clock
  }

  get needsPause(): boolean {
    const { walHardLimitBytes } = this.#options
    return this.#tail.bytes > walHardLimitBytes || (this.#syncing !== undefined && this.#tail.bytes > this.#keptBytes)
  }

  /** Resolves when no sync is under way. */
  async settled(): Promise<void> {
    await this.#syncing
  }

  run(force: boolean): CheckpointOutcome {
    const mxFrame = this.#tail.mxFrame
    const isDue = this.#tail.bytes >= this.#options.walSoftLimitBytes && this.#clock.monotonicMs() >= this.#notBeforeMs
    if (mxFrame === 0 || !(isDue || force)) return this.#untouched('not-due')
    this.#throwSyncError()
    if (!force && this.#mustSyncFirst()) return this.#untouched('syncing')
    const before = this.#lookAtBackfill()
    const target = this.#target(before, force)
    if (before < target) {
      if (target < mxFrame) withBackfillLimit(this.#files, target, () => this.#copy())
      else this.#copy()
    }
    const after = this.#lookAtBackfill()
    const copied = { copiedFrames: after - before, pendingFrames: mxFrame - after }
    if (after < target) return this.#met({ kind: 'busy', ...copied })
    if (after < mxFrame) {
      if (target === mxFrame - 1 && !force) this.#sync('apply.sync-database', this.#files.databaseFd)
      return { kind: 'partial', ...copied }
    }
    if (!restartWal(this.#files, this.#tail, this.#keptBytes)) return this.#met({ kind: 'backfilled', ...copied })
    this.#waitMs = 0
    this.#notBeforeMs = Number.NEGATIVE_INFINITY
    this.#hasSyncedWal = false
    this.#backfilledFrames = 0
    return { kind: 'restarted', ...copied }
  }

  get #keptBytes(): number {
    return this.#options.walSoftLimitBytes * KEPT_SOFT_LIMITS
  }

  /** The frame to copy up to: the end when little is left, else at most one step and not the very end. */
  #target(backfilled: number, force: boolean): number {
    const mxFrame = this.#tail.mxFrame
    const step = Math.max(this.#stepFrames, Math.ceil(mxFrame / STEPS_MAX))
    if (force) return Math.min(mxFrame, backfilled + step)
    const isLast = mxFrame - backfilled <= Math.max(1, Math.floor(this.#stepFramesMax / LAST_STEP_PART))
    return isLast ? mxFrame : Math.min(mxFrame - 1, backfilled + step)
  }

  #copy(): void {
    const beganMs = this.#clock.monotonicMs()
    const before = this.#backfilledFrames
    const result = this.#passive.run()
    this.#adaptStep(result.checkpointedFrames - before, this.#clock.monotonicMs() - beganMs)
    const isOurs = result.logFrames === -1 || result.logFrames === this.#tail.mxFrame
    assert(isOurs, `${this.#files.databasePath}: the WAL has ${result.logFrames} frames, not ${this.#tail.mxFrame}`)
  }

  #adaptStep(copiedFrames: number, tookMs: number): void {
    if (copiedFrames < this.#stepFrames / 2) return
    const factor = Math.min(2, Math.max(0.5, STEP_MS / Math.max(tookMs, 1)))
    const wanted = Math.max(Math.round(this.#stepFrames * factor), this.#stepFramesMin)
    this.#stepFrames = Math.min(wanted, this.#stepFramesMax)
  }

  #mustSyncFirst(): boolean {
    if (this.#syncing !== undefined) return true
    if (this.#hasSyncedWal) return false
    this.#hasSyncedWal = true
    this.#sync('apply.sync-wal', this.#files.walFd)
    return true
  }

  #sync(operation: string, fd: number): void {
    if (this.#syncing !== undefined) return
    this.#syncing = this.#files.disk.dataSync(operation, fd).then(
      () => {
        this.#syncing = undefined
      },
      (error: unknown) => {
        this.#syncing = undefined
        this.#syncError = error
      },
    )
  }

  #throwSyncError(): void {
    const error = this.#syncError
    if (error === undefined) return
    this.#syncError = undefined
    throw error
  }

  /** Readers, or another checkpointer, are in the way. */
  #met(outcome: CheckpointOutcome): CheckpointOutcome {
    const longest = this.needsPause ? WAIT_MAX_PAUSED_MS : WAIT_MAX_MS
    this.#waitMs = Math.min(Math.max(this.#waitMs * 2, WAIT_MIN_MS), longest)
    this.#notBeforeMs = this.#clock.monotonicMs() + this.#waitMs
    this.#hasSyncedWal = false
    return outcome
  }

  #untouched(kind: 'not-due' | 'syncing'): CheckpointOutcome {
    const { mxFrame } = this.#tail
    return { kind, copiedFrames: 0, pendingFrames: mxFrame === 0 ? 0 : mxFrame - this.#backfilledFrames }
  }

  #lookAtBackfill(): number {
    this.#backfilledFrames = readBackfilledFrames(this.#files)
    return this.#backfilledFrames
  }
}
