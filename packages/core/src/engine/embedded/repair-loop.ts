/**
 * Tries to bring a database that stopped back to work, again and again, ever more rarely, for as long as the node lives: a disk
 * that was full or gone comes back without anybody having to restart the node.
 *
 * Bound: one attempt at a time; waits double from `REPAIR_MIN_MS` to `REPAIR_MAX_MS`.
 */
import type { Clock, Timer } from '../../base/clock.ts'

export interface RepairParts {
  readonly clock: Clock
  /** Resolves when the database works again. */
  attempt(): Promise<void>
  /** An attempt failed. Answers whether another one may help. */
  onFailure(error: unknown): boolean
}

export const REPAIR_MIN_MS = 1_000
export const REPAIR_MAX_MS = 60_000

export class RepairLoop {
  readonly #parts: RepairParts
  #timer: Timer | undefined
  #running: Promise<void> | undefined
  #delayMs = REPAIR_MIN_MS
  #closed = false

  constructor(parts: RepairParts) {
    this.#parts = parts
  }

  /** An attempt is due or under way. */
  get isActive(): boolean {
    return this.#timer !== undefined || this.#running !== undefined
  }

  /** The database stopped. The first attempt is made after the shortest wait. */
  start(): void {
    if (this.isActive || this.#closed) return
    this.#delayMs = REPAIR_MIN_MS
    this.#schedule()
  }

  /** Makes an attempt now, without another one after it, and resolves when it is over. */
  async lastAttempt(): Promise<void> {
    const isDue = this.isActive
    await this.close()
    if (isDue) await this.#parts.attempt().catch(() => undefined) // what closes next copes with a database that stopped
  }

  /** What was to be repaired is over; resolves when an attempt under way is. It may be started again. */
  async interrupt(): Promise<void> {
    this.#cancel()
    await this.#running
    this.#cancel() // the attempt may have failed
  }

  /** No attempt is made any more; resolves when one under way is over. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true
    this.#cancel()
    await this.#running
  }

  #cancel(): void {
    this.#timer?.cancel()
    this.#timer = undefined
  }

  #schedule(): void {
    this.#timer = this.#parts.clock.setTimer(this.#delayMs, () => {
      this.#timer = undefined
      this.#running = this.#attempt().finally(() => {
        this.#running = undefined
      })
    })
  }

  async #attempt(): Promise<void> {
    const { attempt, onFailure } = this.#parts
    try {
      await attempt()
    } catch (error) {
      if (this.#closed || !onFailure(error)) return
      this.#delayMs = Math.min(this.#delayMs * 2, REPAIR_MAX_MS)
      this.#schedule()
    }
  }
}
