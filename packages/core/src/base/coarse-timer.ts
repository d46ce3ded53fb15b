/**
 * One timer for any number of deadlines: while there is something to watch, `sweep` runs every `periodMs`.
 *
 * A timer per request would cost more than the request; a deadline that is met `periodMs` late costs nobody anything.
 * Promises: no timer exists while the sweep last answered `false` and nobody called `arm()` since; none after `stop()`.
 */
import type { Clock, Timer } from './clock.ts'

export class CoarseTimer {
  readonly #clock: Clock
  readonly #periodMs: number
  readonly #sweep: (nowMs: number) => boolean
  #timer: Timer | undefined
  #stopped = false

  /** @param sweep gets the monotonic time and answers whether anything is left to watch */
  constructor(clock: Clock, periodMs: number, sweep: (nowMs: number) => boolean) {
    this.#clock = clock
    this.#periodMs = periodMs
    this.#sweep = sweep
  }

  /** There is something to watch. Cheap when the timer already runs. */
  arm(): void {
    if (this.#timer !== undefined || this.#stopped) return
    this.#timer = this.#clock.setTimer(this.#periodMs, () => {
      this.#timer = undefined
      if (this.#sweep(this.#clock.monotonicMs())) this.arm()
    })
  }

  stop(): void {
    this.#stopped = true
    this.#timer?.cancel()
    this.#timer = undefined
  }
}
