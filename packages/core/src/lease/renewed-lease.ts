/**
 * A lease with a time to live while it is held: renewed, watched, given back. What the backend is stands in `LeaseKeeping`.
 *
 * Promises: `isHeld` is true only while the backend cannot have given the lease to another node (see lease-time.ts), and never again after it was
 * false for want of time. A renewal that fails is tried again until the time is over. Somebody who takes the key away by hand ends the lease as
 * soon as this node is told, which is no earlier than others are told.
 */
import type { Clock, Timer } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { Epoch } from '../position/epoch.ts'
import { type HeldLease, requireHeld } from './lease.ts'
import type { LeaseTime, LeaseValidity } from './lease-time.ts'

/** One lease at its backend. What is asked of the backend rejects when it cannot be reached. */
export interface LeaseKeeping {
  /** Under which a LiteFS node can go on with it; `undefined`: none can. */
  readonly leaseId?: string | undefined
  /** False: it is over. */
  renew(signal: AbortSignal): Promise<boolean>
  /** Records the epoch as the last office, if this node still has the lease; false: it has not. */
  recordOffice(signal: AbortSignal): Promise<boolean>
  /** Others may have it at once. */
  giveBack(): Promise<void>
  /** Tells when the lease is somebody else's, or nobody's. Answers how to stop. */
  watch(lose: (reason: string) => void): { stop(): Promise<void> }
}

export interface RenewedLeaseParts {
  readonly keeping: LeaseKeeping
  readonly clock: Clock
  readonly time: LeaseTime
  readonly validity: LeaseValidity
  readonly epoch: Epoch
  readonly lastOffice: Epoch
  readonly renewEveryMs: number
  /** After a renewal that failed. */
  readonly retryEveryMs: number
  /** It is over; called once. */
  onEnd(): void
}

export class RenewedLease implements HeldLease {
  readonly #parts: RenewedLeaseParts
  readonly #lost = new AbortController()
  readonly #watch: { stop(): Promise<void> }
  #renewal: Timer
  #expiry: Timer
  #isOver = false
  #isHandedOver = false
  #released: Promise<void> | undefined

  constructor(parts: RenewedLeaseParts) {
    this.#parts = parts
    const { clock, keeping, renewEveryMs, validity } = parts
    this.#renewal = clock.setTimer(renewEveryMs, () => void this.#renew())
    this.#expiry = clock.setTimer(validity.leftMs, () => this.#expire())
    this.#watch = keeping.watch((reason) => this.#lose(reason))
  }

  get epoch(): Epoch {
    return this.#parts.epoch
  }

  get lastOffice(): Epoch {
    return this.#parts.lastOffice
  }

  get lost(): AbortSignal {
    return this.#lost.signal
  }

  isHeld(marginMs: number): boolean {
    if (this.#isOver) return false
    const { leftMs } = this.#parts.validity
    if (leftMs > 0) return leftMs > marginMs
    // A clock that is set back does not bring it back. Whoever asks may be in the middle of a commit: it is told after that.
    this.#isOver = true
    queueMicrotask(() => this.#lose('its time is over'))
    return false
  }

  async recordOffice(): Promise<void> {
    requireHeld(this)
    if (!(await this.#parts.keeping.recordOffice(this.lost))) this.#lose('another node has it')
    requireHeld(this)
  }

  async handOver(give: (leaseId: string) => boolean): Promise<boolean> {
    const { keeping } = this.#parts
    if (keeping.leaseId === undefined)
      throw new ClusterError('HANDOFF_FAILED', 'no LiteFS node can go on with a lease of this kind')
    requireHeld(this)
    if (!(await keeping.renew(this.lost))) this.#lose('the backend says that it is over')
    requireHeld(this)
    this.#isHandedOver = give(keeping.leaseId)
    return this.#isHandedOver
  }

  /** When the backend cannot be reached, others wait for the rest of its time. */
  release(): Promise<void> {
    this.#released ??= this.#giveBack()
    return this.#released
  }

  async #giveBack(): Promise<void> {
    const stopped = this.#end('released')
    if (this.#isHandedOver) await stopped
    else await Promise.all([stopped, this.#parts.keeping.giveBack().catch(() => undefined)])
  }

  async #renew(): Promise<void> {
    const { keeping, clock, time, renewEveryMs, retryEveryMs, validity } = this.#parts
    const askedAt = time.now()
    let waitMs = retryEveryMs
    try {
      if (!(await keeping.renew(this.lost))) return this.#lose('the backend says that it is over')
      validity.renewed(askedAt)
      waitMs = renewEveryMs
    } catch {
      // Its time decides.
    }
    if (this.lost.aborted) return
    this.#renewal = clock.setTimer(waitMs, () => void this.#renew())
  }

  #expire(): void {
    if (!this.isHeld(0)) return
    this.#expiry = this.#parts.clock.setTimer(this.#parts.validity.leftMs, () => this.#expire())
  }

  #lose(reason: string): void {
    if (!this.lost.aborted) void this.#end(reason)
  }

  async #end(reason: string): Promise<void> {
    this.#isOver = true
    this.#renewal.cancel()
    this.#expiry.cancel()
    if (!this.lost.aborted) {
      this.#lost.abort(reason)
      this.#parts.onEnd()
    }
    await this.#watch.stop()
  }
}
