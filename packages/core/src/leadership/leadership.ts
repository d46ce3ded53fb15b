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
import type { Epoch } from '../position/epoch.ts'
import { type LeaseHolder, sameHolder } from '../lease/lease-holder.ts'
import type { HeldLease, Lease, LeaseObservation } from '../lease/lease.ts'
import type { ResolvedLeadershipOptions } from './leadership-options.ts'
import type { NodeRole, PrimaryInfo, RoleEvent, Term } from './node-role.ts'
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

  /** Whether a write may run here now: in office, and the lease is held with margin. */
  get isPrimary(): boolean {
    return this.#role.kind === 'primary' && this.#role.term.lease.isHeld(this.#parts.options.marginMs)
  }

  /**
   * The term in which this node may commit now. Throws `NOT_PRIMARY`, with the primary and the reason in the details.
   */
  requirePrimary(): Term {
    if (this.#role.kind === 'primary' && this.#role.term.lease.isHeld(this.#parts.options.marginMs))
      return this.#role.term
    throw this.notPrimary()
  }

  /** The error that tells a caller where the primary is and why this node is not it. */
  notPrimary(): ClusterError {
    const { name } = this.#parts.self()
    const primary = this.primary()
    const reason =
      this.#role.kind === 'detached'
        ? this.#role.reason
        : this.#role.kind === 'primary'
          ? 'lease-lost'
          : this.#role.kind
    const where =
      primary === undefined || primary.isSelf ? 'no primary is known here' : `the primary is "${primary.name}"`
    return new ClusterError('NOT_PRIMARY', `node "${name}" is not the primary (${reason}); ${where}`, {
      details: { node: name, reason, primary: primary?.isSelf === false ? primary : undefined },
    })
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
    const outcome = await lease.acquire({ self: self(), epochAbove: newestEpoch(), signal })
    if (outcome.kind === 'taken') return this.#untilVacant(signal)
    try {
      if (!signal.aborted) await this.#serve(outcome.lease, signal, progress)
    } finally {
      await outcome.lease.release()
    }
  }

  /** Waits until nobody seems to hold the lease, or for the longest wait: news may have been missed. */
  #untilVacant(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        timer.cancel()
        stopListening()
        signal.removeEventListener('abort', done)
        resolve()
      }
      const timer = this.#parts.clock.setTimer(this.#parts.options.retryMaxMs, done)
      const stopListening = this.onChange((role) => role.kind === 'detached' && done())
      signal.addEventListener('abort', done, { once: true })
    })
  }

  /** One term, from winning the lease to the last commit. */
  async #serve(lease: HeldLease, signal: AbortSignal, progress: () => void): Promise<void> {
    const over = new AbortController()
    const end = (): void => over.abort()
    const lost = (): void => this.#apply({ kind: 'lease-lost' })
    lease.lost.addEventListener('abort', lost, { once: true })
    signal.addEventListener('abort', end, { once: true })
    this.#endTerm = end
    try {
      if (lease.lost.aborted) return
      const term: Term = { epoch: lease.epoch, lease }
      this.#apply({ kind: 'lease-won', term })
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
