/**
 * Where requests wait that could not be sent: until something changed (another primary, a channel opened) or a short
 * time passed.
 *
 * Promises: `open()` wakes everybody who waits; a wait ends at its time at the latest. One timer serves all of them.
 */
import type { Clock } from '../base/clock.ts'
import { CoarseTimer } from '../base/coarse-timer.ts'

interface Waiter {
  readonly untilMs: number
  wake(): void
}

const SWEEP_MS = 10

export class RetryGate {
  readonly #sweep: CoarseTimer
  #waiters: Waiter[] = []
  #isClosed = false

  constructor(clock: Clock) {
    this.#sweep = new CoarseTimer(clock, SWEEP_MS, (nowMs) => this.#expire(nowMs))
  }

  /** @param untilMs on the clock's monotonic scale */
  wait(untilMs: number): Promise<void> {
    if (this.#isClosed) return Promise.resolve()
    return new Promise((wake) => {
      this.#waiters.push({ untilMs, wake })
      this.#sweep.arm()
    })
  }

  open(): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const waiter of waiters) waiter.wake()
  }

  /** Wakes everybody; later waits end at once. */
  close(): void {
    this.#isClosed = true
    this.#sweep.stop()
    this.open()
  }

  #expire(nowMs: number): boolean {
    const due = this.#waiters.filter((waiter) => waiter.untilMs <= nowMs)
    if (due.length > 0) this.#waiters = this.#waiters.filter((waiter) => waiter.untilMs > nowMs)
    for (const waiter of due) waiter.wake()
    return this.#waiters.length > 0
  }
}
