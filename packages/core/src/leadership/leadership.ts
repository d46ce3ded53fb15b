/**
 * The role of this node: who is primary, may this node write now, tell me when it changes.
 *
 * Relies on: the lease for exclusion; `takeOffice` for everything a node must do between holding the lease and
 * committing.
 * Promises: the role changes only by the table in `node-role.ts`; listeners are told in the turn of the change, after
 * `role` shows it. `requirePrimary` throws from the moment the lease is no longer held with margin, also before anybody
 * noticed the loss (I4).
 *
 * Order on the way up: lease won → `candidate` → `takeOffice` → `primary`. On the way down: the role changes first, so
 * nothing new is admitted, then `leaveOffice` is awaited, then the lease is given back: whoever is next never overlaps
 * with a commit of ours. A preparation that fails gives the lease back and tries again later.
 * Bound: `WAITERS_MAX` callers wait for a primary; one more is refused.
 */
import type { Clock } from '../base/clock.ts'
import { CoarseTimer } from '../base/coarse-timer.ts'
import { RunLoop } from '../base/run-loop.ts'
import { ClusterError, isClusterError } from '../errors/cluster-error.ts'
import { type Epoch, NO_EPOCH } from '../position/epoch.ts'
import { type LeaseHolder, sameHolder } from '../lease/lease-holder.ts'
import type { Lease, LeaseObservation } from '../lease/lease.ts'
import type { ResolvedLeadershipOptions } from './leadership-options.ts'
import type { NodeRole, NotPrimaryReason, PrimaryInfo, RoleEvent, Term } from './node-role.ts'
import { nextRole } from './role-machine.ts'

export interface LeadershipParts {
  readonly lease: Lease
  readonly clock: Clock
  readonly options: ResolvedLeadershipOptions
  random(): number
  /** What others shall read about this node; asked when the lease is acquired, so that listeners are up by then. */
  self(): LeaseHolder
  /** The largest epoch this node has seen anywhere. */
  newestEpoch(): Epoch
  /**
   * Everything between holding the lease and committing. Honours the signal, which also says that the lease is gone.
   */
  takeOffice(term: Term, signal: AbortSignal): Promise<void>
  /** Ends what `takeOffice` began; the node commits no more. Called also after a preparation that failed. */
  leaveOffice(): Promise<void>
  /** Told of what the node cannot return to anybody: a backend that cannot be reached, a preparation that failed. */
  onFailure(error: unknown): void
}

/** A LiteFS primary hands its lease over. */
export interface LeaseOffer {
  readonly leaseId: string
  /** URL of that primary. */
  readonly from: string
}

interface Waiter {
  readonly deadlineMs: number
  resolve(primary: PrimaryInfo): void
  reject(error: ClusterError): void
}

const SWEEP_MS = 10
const WAITERS_MAX = 100_000

export class Leadership {
  readonly #parts: LeadershipParts
  readonly #listeners = new Set<(role: NodeRole, before: NodeRole) => void>()
  readonly #waiters = new Set<Waiter>()
  readonly #sweep: CoarseTimer
  readonly #election: RunLoop
  #observation: LeaseObservation | undefined
  #role: NodeRole = { kind: 'detached', reason: 'starting' }
  #endTerm: (() => void) | undefined
  /** From winning the lease to the last commit. */
  #serving: Promise<void> = Promise.resolve()
  /** Until then the lease is for somebody else to take. */
  #standsBackUntilMs = 0
  #endPause: (() => void) | undefined
  /** A lease that is this node's for the asking. */
  #offer: LeaseOffer | undefined
  /** What kept this node from the office the last time it tried. */
  #failure: unknown

  constructor(parts: LeadershipParts) {
    this.#parts = parts
    this.#sweep = new CoarseTimer(parts.clock, SWEEP_MS, (nowMs) => this.#expire(nowMs))
    this.#election = new RunLoop({
      clock: parts.clock,
      minDelayMs: parts.options.retryMinMs,
      maxDelayMs: parts.options.retryMaxMs,
      random: () => parts.random(),
      task: (signal, progress) => this.#stand(signal, progress),
      onFailure: (error) => {
        this.#failure = error
        parts.onFailure(error)
      },
    })
  }

  /** Starts to watch the lease and, on a candidate, to stand for it. */
  open(): void {
    if (this.#observation !== undefined || this.#role.kind === 'closed') return
    this.#observation = this.#parts.lease.observe((holder) => this.#observed(holder))
    if (this.#parts.lease.isCandidate) this.#election.start()
  }

  get role(): NodeRole {
    return this.#role
  }

  /** What kept this node from the office when it tried last; `undefined` once somebody is in office. */
  get failure(): unknown {
    return this.#failure
  }

  /** Whether a write may be admitted here now: in office, and the lease is held with margin. */
  get isPrimary(): boolean {
    return this.#role.kind === 'primary' && this.isInOffice
  }

  /** Whether what was admitted may still be committed and sent: also while the office is being handed off. */
  get isInOffice(): boolean {
    return this.#term?.lease.isHeld(this.#parts.options.marginMs) === true
  }

  /** Epoch of this node's time in office; `NO_EPOCH` when it is not in office. */
  get epoch(): Epoch {
    return this.#term?.epoch ?? NO_EPOCH
  }

  get #term(): Term | undefined {
    return this.#role.kind === 'primary' || this.#role.kind === 'handing-off' ? this.#role.term : undefined
  }

  /** Throws `NOT_PRIMARY`, with the primary and the reason in the details, unless a write may be admitted here now. */
  requirePrimary(): void {
    if (!this.isPrimary) throw this.notPrimary()
  }

  /** The same for what was admitted before. */
  requireOffice(): void {
    if (!this.isInOffice) throw this.notPrimary()
  }

  /** The error that tells a caller where the primary is and why this node is not it. */
  notPrimary(): ClusterError {
    const { name } = this.#parts.self()
    const primary = this.primary()
    const reason = this.#whyNotPrimary()
    const where =
      primary === undefined || primary.isSelf ? 'no primary is known here' : `the primary is "${primary.name}"`
    return new ClusterError('NOT_PRIMARY', `node "${name}" is not the primary (${reason}); ${where}`, {
      details: { node: name, reason, primary: primary?.isSelf === false ? primary : undefined },
    })
  }

  /** `moved`: another node is the primary; `handing-off`: another one is about to be; `lease-lost`: nobody is, for all that is known here. */
  #whyNotPrimary(): NotPrimaryReason {
    switch (this.#role.kind) {
      case 'detached':
        return this.#role.reason
      case 'replica':
        return 'moved'
      case 'primary':
        return 'lease-lost'
      default:
        return this.#role.kind
    }
  }

  /**
   * The node that takes writes, this one included; `undefined` while there is none or it is preparing or handing off.
   */
  primary(): PrimaryInfo | undefined {
    if (this.#role.kind === 'replica') return this.#role.primary
    return this.isPrimary ? { ...this.#parts.self(), isSelf: true } : undefined
  }

  /**
   * Resolves with the primary as soon as there is one.
   * @param deadlineMs on the clock's monotonic scale
   * @throws NO_PRIMARY at the deadline, CLOSED
   */
  waitForPrimary(deadlineMs: number, signal?: AbortSignal): Promise<PrimaryInfo> {
    const primary = this.primary()
    if (primary !== undefined) return Promise.resolve(primary)
    if (this.#role.kind === 'closed') return Promise.reject(closed())
    if (this.#waiters.size >= WAITERS_MAX || deadlineMs <= this.#parts.clock.monotonicMs())
      return Promise.reject(this.#noPrimary())
    return new Promise((resolve, reject) => {
      const abort = (): void => {
        this.#waiters.delete(waiter)
        reject(closed())
      }
      const settled = (): void => signal?.removeEventListener('abort', abort)
      const waiter: Waiter = {
        deadlineMs,
        resolve: (found) => (settled(), resolve(found)),
        reject: (error) => (settled(), reject(error)),
      }
      if (signal?.aborted === true) return reject(closed())
      signal?.addEventListener('abort', abort, { once: true })
      this.#waiters.add(waiter)
      this.#sweep.arm()
    })
  }

  /** Calls `listener` after each change of role, or of the primary this node follows. Answers how to stop. */
  onChange(listener: (role: NodeRole, before: NodeRole) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** What this node knows of the primary did not hold: the lease is looked at again. */
  refresh(): void {
    this.#observation?.refresh()
  }

  /** This node's history is not the cluster's. In office that ends the term. */
  historyDiverged(): void {
    this.#apply({ kind: 'history-diverged' })
  }

  /**
   * Another node holds a lease of this epoch: an older office of this one has ended, whether its lease says so yet or not. Resolves when it
   * commits no more.
   */
  async supersede(by: Epoch): Promise<void> {
    if ('term' in this.#role && this.#role.term.epoch < by) this.#apply({ kind: 'lease-lost' })
    if (!('term' in this.#role)) await this.#serving.catch(() => undefined)
  }

  /**
   * Gives the office to another node: from now on no write is admitted; `prepare` has the other one catch up, while what was admitted before is
   * still committed and sent; then the office is left and the lease given back. Resolves when another node is known to be the primary.
   * @param prepare rejects to stay in office
   * @param standBackMs for how long this node leaves the lease to the other one
   * @throws NOT_PRIMARY; what `prepare` throws; NO_PRIMARY, HANDOFF_FAILED when no other node took office in that time
   */
  async handOff(to: string, prepare: (term: Term) => Promise<void>, standBackMs: number): Promise<PrimaryInfo> {
    this.requirePrimary()
    this.#apply({ kind: 'handoff-asked', to })
    const term = this.#role.kind === 'handing-off' ? this.#role.term : undefined
    if (term === undefined) throw this.notPrimary()
    try {
      await prepare(term)
    } catch (error) {
      const isStillOurs = this.#role.kind === 'handing-off' && this.#role.term === term && term.lease.isHeld(0)
      if (isStillOurs) this.#apply({ kind: 'lease-won', term })
      throw error
    }
    this.standBack(standBackMs)
    if (this.#role.kind === 'handing-off') this.#apply({ kind: 'lease-lost' })
    const next = await this.waitForPrimary(this.#parts.clock.monotonicMs() + standBackMs)
    if (!next.isSelf) return next
    throw new ClusterError(
      'HANDOFF_FAILED',
      `the office was given up, but "${to}" did not take it: this node has it again`,
    )
  }

  /** Leaves the lease to others for so long, from now. */
  standBack(forMs: number): void {
    this.#standsBackUntilMs = Math.max(this.#standsBackUntilMs, this.#parts.clock.monotonicMs() + forMs)
  }

  /** Stands for the lease at once, with the one of a LiteFS primary that hands it over. */
  takeOver(offer: LeaseOffer): void {
    this.#offer = offer
    this.standNow()
  }

  /** Stands for the lease at once, whatever it waits for. */
  standNow(): void {
    this.#standsBackUntilMs = 0
    this.#endPause?.()
    this.#election.wake()
  }

  /** Leaves office and stops. The lease itself is closed by its owner. Idempotent. */
  async close(): Promise<void> {
    this.#apply({ kind: 'close' })
    this.#observation?.stop()
    this.#sweep.stop()
    for (const waiter of this.#waiters) waiter.reject(closed())
    this.#waiters.clear()
    await this.#election.stop()
    this.#listeners.clear()
  }

  async #stand(signal: AbortSignal, progress: () => void): Promise<void> {
    const { lease, newestEpoch, self } = this.#parts
    for (;;) {
      await this.#untilAllowed(signal)
      if (signal.aborted) return
      const offer = this.#offer
      this.#offer = undefined
      const request = { self: self(), epochAbove: newestEpoch(), signal }
      const outcome =
        offer === undefined || lease.takeOver === undefined
          ? await lease.acquire(request)
          : await lease.takeOver(offer.leaseId, request)
      if (outcome.kind === 'held') {
        try {
          const term: Term = { epoch: outcome.lease.epoch, lease: outcome.lease, givenBy: offer?.from }
          this.#serving = signal.aborted ? Promise.resolve() : this.#serve(term, signal, progress)
          return await this.#serving
        } finally {
          this.#serving = Promise.resolve()
          await outcome.lease.release()
        }
      }
      // Nobody has it any more: at once, before somebody else does. Otherwise news may have been missed.
      if ((await this.#untilVacant(signal)) === 'late') return
    }
  }

  /** Waits until nobody seems to hold the lease, or for the longest wait. */
  #untilVacant(signal: AbortSignal): Promise<'vacant' | 'late'> {
    return this.#pause(this.#parts.options.retryMaxMs, signal, (role) => role.kind === 'detached')
  }

  /** While the lease is for somebody else; that one's office ends the wait. */
  async #untilAllowed(signal: AbortSignal): Promise<void> {
    const leftMs = this.#standsBackUntilMs - this.#parts.clock.monotonicMs()
    if (leftMs <= 0 || signal.aborted) return
    await this.#pause(leftMs, signal, (role) => role.kind === 'replica')
    this.#standsBackUntilMs = 0
  }

  #pause(forMs: number, signal: AbortSignal, isOver: (role: NodeRole) => boolean): Promise<'vacant' | 'late'> {
    return new Promise((resolve) => {
      const end = (how: 'vacant' | 'late'): void => {
        timer.cancel()
        stopListening()
        signal.removeEventListener('abort', late)
        this.#endPause = undefined
        resolve(how)
      }
      const late = (): void => end('late')
      const timer = this.#parts.clock.setTimer(forMs, late)
      const stopListening = this.onChange((role) => isOver(role) && end('vacant'))
      this.#endPause = () => end('vacant')
      signal.addEventListener('abort', late, { once: true })
    })
  }

  /** One term, from winning the lease to the last commit. */
  async #serve(term: Term, signal: AbortSignal, progress: () => void): Promise<void> {
    const { lease, givenBy } = term
    const over = new AbortController()
    const end = (): void => over.abort()
    const lost = (): void => this.#apply({ kind: 'lease-lost' })
    lease.lost.addEventListener('abort', lost, { once: true })
    signal.addEventListener('abort', end, { once: true })
    this.#endTerm = end
    try {
      if (lease.lost.aborted) return
      this.#apply({ kind: givenBy === undefined ? 'lease-won' : 'handoff-offered', term })
      if (this.#role.kind !== 'candidate') return
      await this.#parts.takeOffice(term, over.signal)
      if (over.signal.aborted) return
      progress()
      this.#apply({ kind: 'office-taken' })
      if (!over.signal.aborted)
        await new Promise((resolve) => over.signal.addEventListener('abort', resolve, { once: true }))
    } finally {
      this.#endTerm = undefined
      lease.lost.removeEventListener('abort', lost)
      signal.removeEventListener('abort', end)
      // After a preparation that failed nobody else has changed the role yet.
      this.#apply({ kind: 'lease-lost' })
      await this.#parts.leaveOffice()
    }
  }

  #observed(holder: LeaseHolder | undefined): void {
    const self = this.#parts.self()
    if (holder === undefined) return this.#apply({ kind: 'primary-lost' })
    if (holder.name === self.name) {
      // Our own office begins with the acquisition, not with reading about it.
      if (holder.nodeId === '' || holder.nodeId === self.nodeId) return
      // An earlier process of this node held it when it died: nobody is in office, and this node must not follow itself.
      return this.#apply({ kind: 'primary-lost' })
    }
    if (this.#role.kind === 'replica' && sameHolder(this.#role.primary, holder)) return
    this.#apply({ kind: 'primary-found', primary: { ...holder, isSelf: false } })
  }

  #apply(event: RoleEvent): void {
    const before = this.#role
    this.#role = nextRole(before, event)
    if (this.#role === before) return
    const isInOffice = 'term' in this.#role
    if ('term' in before && !isInOffice) this.#endTerm?.()
    for (const listener of this.#listeners) listener(this.#role, before)
    this.#wake()
  }

  #wake(): void {
    const primary = this.primary()
    if (primary === undefined) return
    this.#failure = undefined
    const waiters = [...this.#waiters]
    this.#waiters.clear()
    for (const waiter of waiters) waiter.resolve(primary)
  }

  #expire(nowMs: number): boolean {
    for (const waiter of this.#waiters) {
      if (waiter.deadlineMs > nowMs) continue
      this.#waiters.delete(waiter)
      waiter.reject(this.#noPrimary())
    }
    return this.#waiters.size > 0
  }

  #noPrimary(): ClusterError {
    const role = this.#role
    const reason = role.kind === 'detached' ? role.reason : role.kind
    const why = this.#failure === undefined ? '' : `, and cannot take office: ${summaryOf(this.#failure)}`
    return new ClusterError('NO_PRIMARY', `no primary was known before the deadline (this node: ${reason}${why})`, {
      cause: this.#failure,
      details: { reason },
    })
  }
}

function summaryOf(error: unknown): string {
  return isClusterError(error) ? error.summary : error instanceof Error ? error.message : String(error)
}

function closed(): ClusterError {
  return new ClusterError('CLOSED', 'the node was closed')
}
