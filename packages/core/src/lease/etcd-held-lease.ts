/**
 * A lease of etcd while it is held: renewed every third of its time, watched, given back.
 *
 * Promises: `isHeld` is true only while etcd cannot have given the key to another node (see lease-time.ts), and never again after it was false for
 * want of time. A renewal that fails is tried again until the time is over. Somebody who deletes the key by hand ends the lease as
 * soon as this node is told, which is no earlier than others are told.
 */
import type { Clock, Timer } from '../base/clock.ts'
import type { Epoch } from '../position/epoch.ts'
import type { EtcdClient, EtcdEntry } from './etcd-client.ts'
import { EtcdKeyWatch } from './etcd-key-watch.ts'
import { type HeldLease, requireHeld } from './lease.ts'
import type { LeaseTime, LeaseValidity } from './lease-time.ts'

export interface HeldEtcdLeaseParts {
  readonly client: EtcdClient
  readonly clock: Clock
  readonly time: LeaseTime
  readonly validity: LeaseValidity
  readonly epoch: Epoch
  readonly lastOffice: Epoch
  readonly key: string
  /** Where it is recorded that the holder took office. */
  readonly officeKey: string
  /** Of the lease at etcd. */
  readonly id: string
  readonly ttlMs: number
  /** Of the key: another one is another node's. */
  readonly createRevision: number
  random(): number
  /** It is over; called once. */
  onEnd(): void
}

/** Parts of the time to live. */
const RENEWALS = 3
const RETRIES = 20

export class HeldEtcdLease implements HeldLease {
  readonly #parts: HeldEtcdLeaseParts
  readonly #lost = new AbortController()
  readonly #watch: EtcdKeyWatch
  #renewal: Timer
  #expiry: Timer
  #isOver = false
  #released: Promise<void> | undefined

  constructor(parts: HeldEtcdLeaseParts) {
    this.#parts = parts
    const { clock, client, key, ttlMs, validity } = parts
    this.#renewal = clock.setTimer(ttlMs / RENEWALS, () => void this.#renew())
    this.#expiry = clock.setTimer(validity.leftMs, () => this.#expire())
    this.#watch = new EtcdKeyWatch({
      client,
      key,
      clock,
      random: () => parts.random(),
      onEntry: (entry) => this.#look(entry),
    })
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
    const { client, key, officeKey, createRevision, epoch } = this.#parts
    requireHeld(this)
    const { succeeded } = await client.txn(
      {
        compare: [{ result: 'EQUAL', target: 'CREATE', key: Buffer.from(key), createRevision: String(createRevision) }],
        success: [{ requestPut: { key: Buffer.from(officeKey), value: Buffer.from(String(epoch)) } }],
      },
      this.lost,
    )
    if (!succeeded) this.#lose('another node has it')
    requireHeld(this)
  }

  /** When etcd cannot be reached, others wait for the rest of its time. */
  release(): Promise<void> {
    this.#released ??= this.#giveBack()
    return this.#released
  }

  async #giveBack(): Promise<void> {
    const stopped = this.#end('released')
    const { client, id } = this.#parts
    await Promise.all([stopped, client.revoke(id).catch(() => undefined)])
  }

  async #renew(): Promise<void> {
    const { client, clock, id, time, ttlMs, validity } = this.#parts
    const askedAt = time.now()
    let waitMs = ttlMs / RETRIES
    try {
      if ((await client.keepAlive(id, this.lost)) === 0) return this.#lose('etcd says that it is over')
      validity.renewed(askedAt)
      waitMs = ttlMs / RENEWALS
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

  #look({ createRevision }: EtcdEntry): void {
    if (createRevision === this.#parts.createRevision) return
    this.#lose(createRevision === 0 ? 'its key was deleted' : 'another node has it')
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
