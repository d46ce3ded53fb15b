/**
 * The announced position of one database on this node, and everybody who waits for it.
 *
 * Relies on: `advance` is called only after a new read on this node sees the transaction (I3), in ascending order.
 * Promises: a waiter wakes in the turn in which its position was passed, nobody polls; a waiter holds a position and not
 * a number, so it also learns when history parted: at its TXID this database has another checksum.
 * Bound: `waitersMax` waiters; one more is refused.
 */
import type { Clock, Timer } from '../base/clock.ts'
import { ClusterError, isClusterError } from '../errors/cluster-error.ts'
import type { Checksum } from './checksum.ts'
import { type Epoch, NO_EPOCH } from './epoch.ts'
import { formatPosition, type Position } from './position.ts'
import { nextTxid, type Txid } from './txid.ts'

export interface TrackedPosition {
  readonly position: Position
  /** The epoch of the last transaction. */
  readonly epoch: Epoch
}

export interface PositionTrackerOptions {
  readonly database: string
  readonly clock: Clock
  readonly initial: TrackedPosition
  /** Checksum of the database after `txid`, while the log still knows it. */
  checksumAt(txid: Txid): Checksum | undefined
  /** The epoch that wrote `txid` in this node's history. */
  epochAt(txid: Txid): Epoch
  /** Default: 100,000. */
  readonly waitersMax?: number | undefined
}

interface Waiter {
  readonly target: Position
  readonly epoch: Epoch | undefined
  readonly deadlineMs: number
  resolve(): void
  reject(error: Error): void
}

export type AdvanceListener = (positions: readonly TrackedPosition[]) => void

export class PositionTracker {
  readonly #options: PositionTrackerOptions
  readonly #waitersMax: number
  readonly #listeners = new Set<AdvanceListener>()
  /** Ascending by TXID of the target. */
  #waiters: Waiter[] = []
  #current: TrackedPosition
  #timer: Timer | undefined
  #timerDeadlineMs = Number.POSITIVE_INFINITY
  #closed: ClusterError | undefined

  constructor(options: PositionTrackerOptions) {
    this.#options = options
    this.#waitersMax = options.waitersMax ?? 100_000
    this.#current = options.initial
  }

  get current(): TrackedPosition {
    return this.#current
  }

  /** Announces transactions that a new read now sees. */
  advance(positions: readonly TrackedPosition[]): void {
    const last = positions.at(-1)
    if (last === undefined) return
    this.#current = last
    this.#wakePassed()
    for (const listener of this.#listeners) listener(positions)
  }

  /** Announces a state that is not the continuation of the last one: a snapshot replaced the database. */
  replace(to: TrackedPosition): void {
    this.advance([to])
  }

  /**
   * Resolves once a read on this node sees `target`.
   * @param deadlineMs on the clock's monotonic scale
   * @param epoch of the transaction that led to `target`, where it is known: it tells histories apart that the log has forgotten
   * @throws WAIT_TIMEOUT, POSITION_DIVERGED, CLOSED
   */
  waitFor(target: Position, deadlineMs: number, epoch?: Epoch): Promise<void> {
    if (this.#closed !== undefined) return Promise.reject(this.#closed)
    if (target.txid <= this.#current.position.txid) {
      const diverged = this.#divergence(target, epoch)
      return diverged === undefined ? Promise.resolve() : Promise.reject(diverged)
    }
    if (this.#waiters.length >= this.#waitersMax) {
      return Promise.reject(
        new ClusterError(
          'WAIT_TIMEOUT',
          `database "${this.#options.database}": ${this.#waitersMax} callers already wait`,
        ),
      )
    }
    return new Promise((resolve, reject) => {
      this.#insert({ target, epoch, deadlineMs, resolve, reject })
      this.#armTimer(deadlineMs)
    })
  }

  /** Resolves at the next advance, whatever it brings. Throws `WAIT_TIMEOUT` at `deadlineMs`, `CLOSED`. */
  async nextAdvance(deadlineMs: number): Promise<void> {
    const { txid, checksum } = this.#current.position
    await this.waitFor({ txid: nextTxid(txid), checksum }, deadlineMs).catch((error: unknown) => {
      // The checksum of what comes next is not known beforehand, so it never matches.
      if (!isClusterError(error, 'POSITION_DIVERGED')) throw error
    })
  }

  /** Calls `listener` after each advance, in the same turn. Answers how to stop. */
  onAdvance(listener: AdvanceListener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Fails all waiters and refuses new ones. Idempotent. */
  close(): void {
    if (this.#closed !== undefined) return
    this.#closed = new ClusterError('CLOSED', `database "${this.#options.database}" was closed`)
    this.#timer?.cancel()
    const waiters = this.#waiters
    this.#waiters = []
    for (const waiter of waiters) waiter.reject(this.#closed)
    this.#listeners.clear()
  }

  #insert(waiter: Waiter): void {
    // Almost always at the end: later callers wait for later transactions.
    let index = this.#waiters.length
    while (index > 0 && (this.#waiters[index - 1] as Waiter).target.txid > waiter.target.txid) index--
    if (index === this.#waiters.length) this.#waiters.push(waiter)
    else this.#waiters.splice(index, 0, waiter)
  }

  #wakePassed(): void {
    const reached = this.#current.position.txid
    let count = 0
    while (count < this.#waiters.length && (this.#waiters[count] as Waiter).target.txid <= reached) count++
    if (count === 0) return
    for (const waiter of this.#waiters.splice(0, count)) {
      const diverged = this.#divergence(waiter.target, waiter.epoch)
      if (diverged === undefined) waiter.resolve()
      else waiter.reject(diverged)
    }
  }

  #divergence(target: Position, epoch: Epoch | undefined): ClusterError | undefined {
    const current = this.#current.position
    const here = target.txid === current.txid ? current.checksum : this.#options.checksumAt(target.txid)
    if (here === target.checksum) return undefined
    // A state older than the log remembers has only its epoch to compare, and where that is not known the TXID, which was passed.
    if (here === undefined && (epoch === undefined || epoch === NO_EPOCH)) return undefined
    if (here === undefined && this.#options.epochAt(target.txid) === epoch) return undefined
    return new ClusterError(
      'POSITION_DIVERGED',
      `database "${this.#options.database}": position ${formatPosition(target)} is not in the history of this node`,
      { details: { awaited: formatPosition(target), current: formatPosition(current) } },
    )
  }

  #armTimer(deadlineMs: number): void {
    if (deadlineMs >= this.#timerDeadlineMs) return
    this.#timer?.cancel()
    this.#timerDeadlineMs = deadlineMs
    const delayMs = Math.max(0, deadlineMs - this.#options.clock.monotonicMs())
    this.#timer = this.#options.clock.setTimer(delayMs, () => this.#expire())
  }

  #expire(): void {
    this.#timerDeadlineMs = Number.POSITIVE_INFINITY
    const nowMs = this.#options.clock.monotonicMs()
    const waiting: Waiter[] = []
    const expired: Waiter[] = []
    let nextMs = Number.POSITIVE_INFINITY
    for (const waiter of this.#waiters) {
      if (waiter.deadlineMs <= nowMs) {
        expired.push(waiter)
      } else {
        waiting.push(waiter)
        nextMs = Math.min(nextMs, waiter.deadlineMs)
      }
    }
    this.#waiters = waiting
    if (waiting.length > 0) this.#armTimer(nextMs)
    for (const waiter of expired) {
      waiter.reject(
        new ClusterError(
          'WAIT_TIMEOUT',
          `database "${this.#options.database}": position ${formatPosition(waiter.target)} was not reached in time`,
          { details: { awaited: formatPosition(waiter.target), current: formatPosition(this.#current.position) } },
        ),
      )
    }
  }
}
