/**
 * The clock of one process: monotonic time that runs a little fast or slow, a wall clock that is wrong and may jump.
 *
 * The wall clock belongs to the machine and survives the process; monotonic time begins with the process.
 */
import type { Clock, Timer } from '../../packages/core/src/base/clock.ts'
import type { TimerOwner, WorldTime } from './world-time.ts'

/** Some Wednesday. */
const EPOCH_MS = 1_700_000_000_000

/** What is wrong with a machine's clock. */
export interface ClockFault {
  /** Added to the wall clock, ms. */
  skewMs: number
  /** 1.001: a second of this machine is 1 ms shorter. */
  rate: number
}

export class MachineClock implements Clock {
  readonly #time: WorldTime
  readonly #owner: TimerOwner
  readonly #fault: ClockFault
  readonly #rate: number
  readonly #bornMs: number

  constructor(time: WorldTime, owner: TimerOwner, fault: ClockFault) {
    this.#time = time
    this.#owner = owner
    this.#fault = fault
    this.#rate = fault.rate
    this.#bornMs = time.nowMs
  }

  nowMs(): number {
    return Math.floor(EPOCH_MS + this.#time.nowMs + this.#fault.skewMs)
  }

  monotonicMs(): number {
    return 1_000 + (this.#time.nowMs - this.#bornMs) * this.#rate
  }

  setTimer(delayMs: number, action: () => void): Timer {
    // Whole milliseconds and at least one, as Node's own timers.
    return this.#time.setTimer(Math.max(1, Math.trunc(delayMs)) / this.#rate, this.#owner, action)
  }
}
