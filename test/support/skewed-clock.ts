/** A clock whose wall time is wrong by an offset that may change while the node runs. Waits and order are not affected. */
import { type Clock, systemClock } from '../../packages/core/src/base/clock.ts'

export class SkewedClock {
  skewMs: number
  readonly clock: Clock = { ...systemClock, nowMs: () => systemClock.nowMs() + this.skewMs }

  constructor(skewMs: number) {
    this.skewMs = skewMs
  }
}
