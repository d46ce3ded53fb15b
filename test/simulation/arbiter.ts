/**
 * A lease service that all machines reach over the network: one holder at a time, for a time, with a larger epoch each
 * time. What Consul and etcd are in a real fleet; their leases are to stand here when they exist.
 *
 * Exclusion: the service lets nobody in before the time it gave has passed on its own clock; a holder counts from before
 * it asked, on a clock that may run a little slow, and keeps a margin for that.
 * Whoever is first gets it; whether that one may take office is the candidate's business (node/election.ts).
 */
import type { Clock, Timer } from '../../packages/core/src/base/clock.ts'
import {
  type AcquireOutcome,
  type AcquireRequest,
  type HeldLease,
  type Lease,
  type LeaseObservation,
  requireHeld,
} from '../../packages/core/src/lease/lease.ts'
import { type LeaseHolder, sameHolder } from '../../packages/core/src/lease/lease-holder.ts'
import { type Epoch, epoch, NO_EPOCH } from '../../packages/core/src/position/epoch.ts'
import type { Endpoint, Host, Network } from './network.ts'
import type { WorldTime } from './world-time.ts'

/** The name of the machine it runs on. */
export const ARBITER = 'arbiter'
const TTL_MS = 2_000
const RENEW_MS = 500
const WATCH_MS = 300
const ANSWER_MS_MAX = 1_000
const MESSAGE_BYTES = 100

type Question =
  | { readonly kind: 'acquire'; readonly self: LeaseHolder; readonly above: Epoch }
  | { readonly kind: 'renew' | 'release' | 'office'; readonly epoch: Epoch }
  | { readonly kind: 'watch' }

interface Answer {
  readonly granted: Epoch | undefined
  /** Of who was in office last. */
  readonly lastOffice: Epoch
  readonly holder: LeaseHolder | undefined
}

export class Arbiter implements Host {
  readonly name = ARBITER
  readonly slowMs = 0
  readonly isMachineUp = true
  readonly isDead = false
  readonly isPaused = false
  readonly #time: WorldTime
  #held: { readonly epoch: Epoch; readonly holder: LeaseHolder; untilMs: number } | undefined
  #lastEpoch = 0
  #lastOffice = NO_EPOCH

  constructor(time: WorldTime) {
    this.#time = time
  }

  /** Name of the node that holds it at this moment, by the service's clock. */
  get holder(): string | undefined {
    return this.#current()?.holder.name
  }

  /** The operator, or the service itself, takes it away: the holder learns of it when it renews, or when its time is up. */
  expire(): void {
    const held = this.#current()
    if (held !== undefined) held.untilMs = Math.min(held.untilMs, this.#time.nowMs + TTL_MS)
    if (held !== undefined) this.#revoked = held.epoch
  }

  /** The holder's time is up now. */
  forfeit(name: string): void {
    if (this.#held?.holder.name === name) this.#held = undefined
  }

  accept(_door: string, connection: Endpoint): boolean {
    connection.onData = (payload) => connection.send(this.#answer(payload as Question), MESSAGE_BYTES)
    return true
  }

  #revoked: Epoch | undefined

  #current() {
    if (this.#held !== undefined && this.#held.untilMs <= this.#time.nowMs) this.#held = undefined
    return this.#held
  }

  #answer(question: Question): Answer {
    const held = this.#current()
    const untilMs = this.#time.nowMs + TTL_MS
    const lastOffice = this.#lastOffice
    if (question.kind === 'acquire' && held === undefined) {
      this.#lastEpoch = Math.max(this.#lastEpoch, question.above) + 1
      this.#held = { epoch: epoch(this.#lastEpoch), holder: question.self, untilMs }
      return { granted: this.#held.epoch, lastOffice, holder: question.self }
    }
    if (question.kind === 'renew' && held?.epoch === question.epoch && this.#revoked !== question.epoch) {
      held.untilMs = untilMs
      return { granted: held.epoch, lastOffice, holder: held.holder }
    }
    if (question.kind === 'office' && held?.epoch === question.epoch && this.#revoked !== question.epoch) {
      this.#lastOffice = question.epoch
      return { granted: held.epoch, lastOffice, holder: held.holder }
    }
    if (question.kind === 'release' && held?.epoch === question.epoch) this.#held = undefined
    return { granted: undefined, lastOffice, holder: this.#current()?.holder }
  }
}

/** The lease of one process. */
export class ArbiterLease implements Lease {
  readonly kind = 'consul'
  readonly isCandidate = true
  readonly ttlMs = TTL_MS
  readonly #network: Network
  readonly #host: Host
  readonly #clock: Clock
  readonly #overstayMs: number
  readonly #observations = new Set<Watch>()
  #isClosed = false
  #held: Held | undefined

  /** @param overstayMs for how much longer it believes that it has the lease */
  constructor(network: Network, host: Host, clock: Clock, overstayMs: number) {
    this.#overstayMs = overstayMs
    this.#network = network
    this.#host = host
    this.#clock = clock
  }

  async acquire({ self, epochAbove }: AcquireRequest): Promise<AcquireOutcome> {
    const askedMs = this.#clock.monotonicMs()
    const answer = await this.#ask({ kind: 'acquire', self, above: epochAbove })
    if (answer.granted === undefined || this.#isClosed) return { kind: 'taken', holder: answer.holder }
    const { granted, lastOffice } = answer
    const ttlMs = TTL_MS + this.#overstayMs
    const lease = new Held(granted, lastOffice, askedMs, ttlMs, this.#clock, (question) => this.#ask(question))
    this.#held = lease
    return { kind: 'held', lease }
  }

  /** As if the process had been stopped until the lease was over; it does not know yet. */
  forfeit(): void {
    this.#held?.runOut()
    const arbiter = this.#network.host(ARBITER)
    if (arbiter instanceof Arbiter) arbiter.forfeit(this.#host.name)
  }

  observe(listener: (holder: LeaseHolder | undefined) => void): LeaseObservation {
    const watch = new Watch(this.#clock, listener, () => this.#ask({ kind: 'watch' }))
    this.#observations.add(watch)
    return { refresh: () => watch.look(), stop: () => (this.#observations.delete(watch), watch.stop()) }
  }

  close(): Promise<void> {
    this.#isClosed = true
    for (const watch of this.#observations) watch.stop()
    return Promise.resolve()
  }

  #ask(question: Question): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const connection = this.#network.dial(this.#host, ARBITER, 'lease')
      const fail = (): void => (connection.close(), reject(new Error('the lease service does not answer')))
      const timer = this.#clock.setTimer(ANSWER_MS_MAX, fail)
      connection.onEnd = () => (timer.cancel(), fail())
      connection.onData = (payload) => {
        timer.cancel()
        connection.close()
        resolve(payload as Answer)
      }
      connection.send(question, MESSAGE_BYTES)
    })
  }
}

class Held implements HeldLease {
  readonly epoch: Epoch
  readonly lastOffice: Epoch
  readonly #lost = new AbortController()
  readonly #clock: Clock
  readonly #ask: (question: Question) => Promise<Answer>
  readonly #ttlMs: number
  #untilMs: number
  #timer: Timer

  constructor(
    held: Epoch,
    lastOffice: Epoch,
    askedMs: number,
    ttlMs: number,
    clock: Clock,
    ask: (question: Question) => Promise<Answer>,
  ) {
    this.epoch = held
    this.lastOffice = lastOffice
    this.#ttlMs = ttlMs
    this.#untilMs = askedMs + ttlMs
    this.#clock = clock
    this.#ask = ask
    this.#timer = clock.setTimer(RENEW_MS, () => this.#renew())
  }

  get lost(): AbortSignal {
    return this.#lost.signal
  }

  isHeld(marginMs: number): boolean {
    return !this.#lost.signal.aborted && this.#clock.monotonicMs() + marginMs < this.#untilMs
  }

  async recordOffice(): Promise<void> {
    requireHeld(this)
    const { granted } = await this.#ask({ kind: 'office', epoch: this.epoch })
    if (granted !== this.epoch && !this.#lost.signal.aborted) this.#lost.abort('another node has it')
    requireHeld(this)
  }

  runOut(): void {
    this.#untilMs = 0
  }

  async release(): Promise<void> {
    if (!this.#lost.signal.aborted) this.#lost.abort('released')
    this.#timer.cancel()
    await this.#ask({ kind: 'release', epoch: this.epoch }).catch(() => undefined)
  }

  #renew(): void {
    if (this.#lost.signal.aborted) return
    const askedMs = this.#clock.monotonicMs()
    if (askedMs >= this.#untilMs) return this.#lost.abort('its time is up')
    this.#timer = this.#clock.setTimer(RENEW_MS, () => this.#renew())
    this.#ask({ kind: 'renew', epoch: this.epoch }).then(
      ({ granted }) => {
        if (this.#lost.signal.aborted) return
        if (granted === this.epoch) this.#untilMs = Math.max(this.#untilMs, askedMs + this.#ttlMs)
        else this.#lost.abort('another node has it')
      },
      // A renewal that fails is no loss before the time runs out.
      () => undefined,
    )
  }
}

class Watch {
  readonly #clock: Clock
  readonly #listener: (holder: LeaseHolder | undefined) => void
  readonly #ask: () => Promise<Answer>
  #known: LeaseHolder | undefined
  #isAsking = false
  #isStopped = false
  #timer: Timer | undefined

  constructor(clock: Clock, listener: (holder: LeaseHolder | undefined) => void, ask: () => Promise<Answer>) {
    this.#clock = clock
    this.#listener = listener
    this.#ask = ask
    listener(undefined)
    this.look()
  }

  look(): void {
    if (this.#isAsking || this.#isStopped) return
    this.#isAsking = true
    this.#timer?.cancel()
    this.#ask()
      .then(
        ({ holder }) => this.#tell(holder),
        () => undefined,
      )
      .finally(() => {
        this.#isAsking = false
        if (!this.#isStopped) this.#timer = this.#clock.setTimer(WATCH_MS, () => this.look())
      })
  }

  stop(): void {
    this.#isStopped = true
    this.#timer?.cancel()
  }

  #tell(holder: LeaseHolder | undefined): void {
    if (this.#isStopped || sameHolder(holder, this.#known)) return
    this.#known = holder
    this.#listener(holder)
  }
}
