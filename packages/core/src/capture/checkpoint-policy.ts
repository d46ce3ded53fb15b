/**
 * Keeps the primary's WAL from growing without end.
 *
 * As long as our guard holds a read mark no writer can restart the WAL, so nobody but us decides when frames go. A turn is:
 * capture and move the guard to the end; let SQLite copy the frames into the main file (PASSIVE, nobody waits); move the
 * guard once more. When everything was copied, the guard now holds slot 0 and the next writer restarts the WAL.
 *
 * Where other processes write without a pause the copy never catches up. Above the hard limit the bulk is copied as above
 * first, and then the rest under the write lock, which is short. SQLite's own waiting for that lock sleeps and starves
 * among busy writers, so it is tried in a bounded loop without a timeout.
 *
 * Order (I6): before a guard that may have let the WAL restart replaces the old one, everything is captured, handed to
 * `onCaptured`, and `beforeDiscard` has made it durable. Any rotation may be that one, since another process may have
 * copied everything, so each one of ours does all three.
 * Promises: a failed duty leaves the old guard where it is, so nothing is discarded.
 */
import type { Clock } from '../base/clock.ts'
import type { LtxRecord } from '../ltx/ltx-record.ts'
import { type CheckpointResult, isComplete, type PassiveCheckpoint } from '../sqlite/checkpoint.ts'
import type { Connection } from '../sqlite/connection.ts'
import { isBusy } from '../sqlite/sqlite-error.ts'
import type { WalGuards } from '../sqlite/wal-guards.ts'
import type { ResolvedCheckpointOptions } from './checkpoint-options.ts'
import type { WalCapture } from './wal-capture.ts'
import { isSameGeneration, type WalCursor } from './wal-cursor.ts'

export interface PrimaryCheckpointerParts {
  readonly capture: WalCapture
  readonly guards: WalGuards
  /** On a connection of its own. */
  readonly checkpoint: PassiveCheckpoint
  /** A connection that can take the write lock; not inside a transaction when `run` is called. */
  readonly locker: Connection
  readonly clock: Clock
  readonly options: ResolvedCheckpointOptions
}

/** What must happen to records before frames may be discarded. */
export interface CheckpointDuties {
  /** Appends the records to the log and announces them; called before `beforeDiscard`, never with none. */
  onCaptured(records: readonly LtxRecord[]): void
  /** Makes the log durable, blocking. */
  beforeDiscard(): void
}

export type WalPressure = 'none' | 'threshold' | 'hard-limit'

export interface CheckpointOutcome {
  /**
   * `complete`: everything is in the main file; unless another process has just committed, the next writer restarts the WAL.
   * `partial`: a reader holds an older
   * snapshot, or others wrote meanwhile. `busy`: somebody else is checkpointing or holds the write lock.
   */
  readonly kind: 'complete' | 'partial' | 'busy'
  /** Frames in the WAL; −1 when unknown. */
  readonly walFrames: number
  /** Frames of it in the main file; −1 when unknown. */
  readonly backfilledFrames: number
  readonly usedWriteLock: boolean
}

/** Tries of the short checkpoint under the write lock, while another checkpoint is running. */
const LOCKED_TRIES = 5

export class PrimaryCheckpointer {
  readonly #parts: PrimaryCheckpointerParts
  /** The WAL as it was when the last turn ended; no new turn before it has grown by a step. */
  #last: WalCursor | undefined

  constructor(parts: PrimaryCheckpointerParts) {
    this.#parts = parts
  }

  /** Whether `run` is due, from what was captured; costs nothing. `none` also shortly after a turn that could do no more. */
  get pressure(): WalPressure {
    const { capture, options } = this.#parts
    const { cursor } = capture
    if (cursor.frame < options.thresholdFrames) return 'none'
    const step = Math.max(1, Math.floor(options.thresholdFrames / 4))
    const last = this.#last
    if (last !== undefined && isSameGeneration(last, cursor) && cursor.frame < last.frame + step) return 'none'
    return cursor.frame < options.hardLimitFrames ? 'threshold' : 'hard-limit'
  }

  /** One turn, blocking. Takes the write lock only at `hard-limit` pressure. */
  run(duties: CheckpointDuties): CheckpointOutcome {
    const isHard = this.pressure === 'hard-limit'
    try {
      const outcome = this.#turn(duties, false)
      return isHard && outcome.kind !== 'complete' ? this.#lockedTurn(duties, outcome) : outcome
    } finally {
      this.#last = this.#parts.capture.cursor
    }
  }

  #turn(duties: CheckpointDuties, usedWriteLock: boolean): CheckpointOutcome {
    if (!this.#rotate(duties)) return outcomeOf('busy', undefined, usedWriteLock)
    const result = this.#copyFrames(usedWriteLock ? LOCKED_TRIES : 1)
    if (!isComplete(result)) return outcomeOf(result.busy ? 'busy' : 'partial', result, usedWriteLock)
    return outcomeOf(this.#rotate(duties) ? 'complete' : 'busy', result, usedWriteLock)
  }

  #copyFrames(triesMax: number): CheckpointResult {
    const { checkpoint } = this.#parts
    let result = checkpoint.run()
    for (let tries = 1; result.busy && tries < triesMax; tries++) result = checkpoint.run()
    return result
  }

  #lockedTurn(duties: CheckpointDuties, before: CheckpointOutcome): CheckpointOutcome {
    if (!this.#takeWriteLock()) return { ...before, kind: 'busy' }
    try {
      return this.#turn(duties, true)
    } finally {
      // Nothing was written: this only gives the lock back.
      this.#parts.locker.prepare('COMMIT').run()
    }
  }

  /** Moves the guard; what was committed until then is captured and durable before the old guard goes. */
  #rotate({ onCaptured, beforeDiscard }: CheckpointDuties): boolean {
    const { guards, capture } = this.#parts
    return guards.rotate(() => {
      // Among the records may be commits of other processes, whose frames nobody has synced yet.
      const records = capture.capture({ syncWalFirst: true })
      if (records.length > 0) onCaptured(records)
      beforeDiscard()
    })
  }

  #takeWriteLock(): boolean {
    const { locker, clock, options } = this.#parts
    const begin = locker.prepare('BEGIN IMMEDIATE')
    const deadlineMs = clock.monotonicMs() + options.lockWaitMs
    do {
      try {
        begin.run()
        return true
      } catch (error) {
        if (!isBusy(error)) throw error
      }
    } while (clock.monotonicMs() < deadlineMs)
    return false
  }
}

function outcomeOf(
  kind: CheckpointOutcome['kind'],
  result: CheckpointResult | undefined,
  usedWriteLock: boolean,
): CheckpointOutcome {
  const { logFrames = -1, checkpointedFrames = -1 } = result ?? {}
  return { kind, walFrames: logFrames, backfilledFrames: checkpointedFrames, usedWriteLock }
}
