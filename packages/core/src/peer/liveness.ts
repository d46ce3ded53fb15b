/**
 * Tells a quiet connection from a dead one, the same on both sides: pings at intervals, and gives up after a silence.
 *
 * TCP keeps a connection "open" for many minutes when the other machine is gone. A dead replica would hold up `all`
 * writes so long, and a dead primary every write.
 *
 * Promises: `dead` is called at most once, and never because this process itself did not run for a while: after a late
 * tick the other side first gets the chance to be heard.
 */
import type { Clock, Timer } from '../base/clock.ts'

export interface LivenessOptions {
  readonly clock: Clock
  readonly keepaliveMs: number
  readonly silenceMs: number
  /** Sends a ping with this number. */
  ping(nonce: number): void
  /** Nothing was heard for `silenceMs`. */
  dead(silentMs: number): void
}

export class Liveness {
  readonly #options: LivenessOptions
  #heardMs: number
  #tickedMs: number
  #nonce = 0
  #pingedMs = 0
  #rttMs: number | undefined
  #timer: Timer | undefined

  constructor(options: LivenessOptions) {
    this.#options = options
    this.#heardMs = options.clock.monotonicMs()
    this.#tickedMs = this.#heardMs
    this.#schedule()
  }

  /** The last measured round trip, with the other side's queueing in it. */
  get rttMs(): number | undefined {
    return this.#rttMs
  }

  /** Something arrived. */
  heard(): void {
    this.#heardMs = this.#options.clock.monotonicMs()
  }

  pong(nonce: number): void {
    if (nonce === this.#nonce) this.#rttMs = this.#options.clock.monotonicMs() - this.#pingedMs
  }

  /** Sends a ping now, so that a round trip is known before the first interval is over. */
  measure(): void {
    this.#nonce = (this.#nonce + 1) >>> 0
    this.#pingedMs = this.#options.clock.monotonicMs()
    this.#options.ping(this.#nonce)
  }

  stop(): void {
    this.#timer?.cancel()
    this.#timer = undefined
  }

  #schedule(): void {
    this.#timer = this.#options.clock.setTimer(this.#options.keepaliveMs, () => this.#tick())
  }

  #tick(): void {
    const { clock, keepaliveMs, silenceMs, dead } = this.#options
    const nowMs = clock.monotonicMs()
    const isLate = nowMs - this.#tickedMs > 2 * keepaliveMs
    this.#tickedMs = nowMs
    const silentMs = nowMs - this.#heardMs
    if (silentMs >= silenceMs && !isLate) {
      this.#timer = undefined
      dead(silentMs)
      return
    }
    this.measure()
    this.#schedule()
  }
}
