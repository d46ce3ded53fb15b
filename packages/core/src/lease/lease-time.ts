/**
 * How long a lease with a time to live is surely still ours.
 *
 * No clock alone can tell. The monotonic one stops while the machine is suspended, and so does that of a virtual machine that is moved; the one that
 * counts from the boot goes on through a suspension and starts anew with the machine; the wall clock is set by people and programs. Each may count too
 * little, so the one that counts most is believed: a wall clock that is set forward ends a lease early, which costs an election and no write.
 *
 * Order: the instant is taken *before* the request that acquires or renews the lease is sent, because the backend may count from any moment
 * between the request and its answer.
 */
import os from 'node:os'
import type { Clock } from '../base/clock.ts'

/** One moment, as each clock shows it; to be compared by the same process only. */
export interface LeaseInstant {
  readonly monotonicMs: number
  /** Since the machine was started, suspensions included. */
  readonly uptimeMs: number
  readonly wallMs: number
}

export class LeaseTime {
  readonly #clock: Clock
  readonly #uptimeMs: () => number

  constructor(clock: Clock, uptimeMs: () => number = () => os.uptime() * 1000) {
    this.#clock = clock
    this.#uptimeMs = uptimeMs
  }

  now(): LeaseInstant {
    return { monotonicMs: this.#clock.monotonicMs(), uptimeMs: this.#uptimeMs(), wallMs: this.#clock.nowMs() }
  }

  /** In ms, by the clock that says most; never negative. */
  elapsedMs(since: LeaseInstant): number {
    const now = this.now()
    return Math.max(0, now.monotonicMs - since.monotonicMs, now.uptimeMs - since.uptimeMs, now.wallMs - since.wallMs)
  }
}

/** Of one lease, from its acquisition on. */
export class LeaseValidity {
  readonly ttlMs: number
  readonly #time: LeaseTime
  #askedAt: LeaseInstant

  /**
   * @param ttlMs after which the backend may give the lease to another node
   * @param askedAt before the request that acquired it was sent
   */
  constructor(time: LeaseTime, ttlMs: number, askedAt: LeaseInstant) {
    this.#time = time
    this.ttlMs = ttlMs
    this.#askedAt = askedAt
  }

  /** A renewal succeeded. One whose time was over before it was asked for does not bring the lease back: see `isSure`. */
  renewed(askedAt: LeaseInstant): void {
    if (this.isSure(0)) this.#askedAt = askedAt
  }

  /** How long it still is ours, in ms; 0 when it is not sure any more. */
  get leftMs(): number {
    return Math.max(0, this.ttlMs - this.#time.elapsedMs(this.#askedAt))
  }

  /** Whether it is surely ours for so much longer. */
  isSure(marginMs: number): boolean {
    return this.leftMs > marginMs
  }
}
