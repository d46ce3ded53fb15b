/**
 * The contract of a lease: at most one node of the cluster may act as primary, and everybody can learn which.
 *
 * A backend (static, host, consul, etcd) knows nothing of data, roles or the network between nodes. What it owes:
 *
 * 1. Exclusion. Between the moment `acquire` answers `held` and the moment `isHeld(0)` answers false, no other node's
 *    `isHeld` answers true, as far as the backend can know. A backend with a time to live measures it from *before* the
 *    request that acquired or renewed it was sent, on the largest of the monotonic clock, `os.uptime()` and the wall
 *    clock, because monotonic time stops in a suspended machine.
 * 2. `isHeld` answers from memory and at once; it is asked before each commit and before each announcement. With a
 *    margin it answers whether the lease is held for so much longer. A backend whose lease cannot run out by itself
 *    ignores the margin.
 * 3. Loss is told as soon as it is known: `lost` aborts once, `isHeld` is false before its listeners run, and the same
 *    held lease is never valid again. A renewal that fails is no loss before the time runs out.
 * 4. Epochs. Each acquisition has an epoch larger than any epoch this backend ever gave to any node, and larger than
 *    `epochAbove`, which is the largest one the candidate has seen anywhere. The epoch is durable before `acquire`
 *    answers: a crash may skip epochs and never repeats one. Consul's ModifyIndex grows by itself; etcd and `host` keep a
 *    counter beside the lease; `static` uses an `EpochCounter`.
 * 5. Release. After `release()` resolves another node may acquire at once; it is idempotent and also ends renewal.
 *    Closing the backend releases what it holds. A process that dies holds the lease no longer than the backend
 *    documents.
 * 6. Observation. A listener is told at once what is known (`undefined`: nobody, or nothing yet) and then whenever it
 *    changes, never twice the same in a row; the holder's own node is told too. `refresh()` means "my news may be
 *    stale": look again soon. It may be called often.
 * 7. Office. Not everybody who holds the lease gets to commit: a candidate may find that others have more. `recordOffice` says that this
 *    one does, durably and only while it holds the lease; `lastOffice` is what the one before said. So a node that was the last one in office
 *    knows that nothing was committed since, without asking anybody. A LiteFS node in the same election says nothing of the kind.
 *
 * `test-support/lease-conformance.ts` is one suite that runs over every backend.
 */
import type { Epoch } from '../position/epoch.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { LeaseHolder } from './lease-holder.ts'

export type LeaseKind = 'static' | 'host' | 'consul' | 'etcd'

export interface AcquireRequest {
  /** What others shall read about this node. */
  readonly self: LeaseHolder
  /** The new epoch must be larger. */
  readonly epochAbove: Epoch
  readonly signal: AbortSignal
}

export type AcquireOutcome =
  | { readonly kind: 'held'; readonly lease: HeldLease }
  /** Somebody else has it, or nobody can; an observation tells when trying again makes sense. */
  | { readonly kind: 'taken'; readonly holder: LeaseHolder | undefined }

export interface Lease {
  readonly kind: LeaseKind
  /** False when this node can never hold it. */
  readonly isCandidate: boolean
  /** After which a holder that is not heard of is replaced, in ms; 0: it has no time to live. */
  readonly ttlMs: number
  /** Where the backend keeps which cluster its nodes are; a static lease has no such place. */
  readonly clusterId?: ClusterIdKey | undefined
  /** One attempt. Rejects when the backend cannot be reached; the caller backs off. */
  acquire(request: AcquireRequest): Promise<AcquireOutcome>
  /**
   * Goes on with the lease of a LiteFS primary that hands it to this node, under a new epoch. Absent where no LiteFS node can hold one.
   * @param leaseId what the primary's HANDOFF frame said
   */
  takeOver?(leaseId: string, request: AcquireRequest): Promise<AcquireOutcome>
  /** Ends such a lease instead, so that anybody may acquire one. Rejects when the backend cannot be reached: then its time ends it. */
  decline?(leaseId: string): Promise<void>
  /** Starts to watch the holder. */
  observe(listener: (holder: LeaseHolder | undefined) => void): LeaseObservation
  /** Releases what is held and ends all observations. Idempotent. */
  close(): Promise<void>
}

export interface LeaseObservation {
  /** Looks again now instead of at the next interval. */
  refresh(): void
  stop(): void
}

export interface HeldLease {
  readonly epoch: Epoch
  /** The newest epoch whose holder recorded that it took office before this one; `NO_EPOCH` where the backend knows of none. */
  readonly lastOffice: Epoch
  /** Aborted when the lease is lost or released; the reason says which. */
  readonly lost: AbortSignal
  isHeld(marginMs: number): boolean
  /** To be awaited before the first commit. Rejects when the lease is lost, or the backend cannot be reached. */
  recordOffice(): Promise<void>
  release(): Promise<void>
  /**
   * Renews it for a LiteFS node, which goes on with it by its id: `release` leaves it alone from then on. Absent where no LiteFS node can hold one.
   * Rejects when it is not held any more, or the backend cannot be reached.
   * @param give takes the id to that node; when it answers false this node keeps the lease
   * @returns what `give` answered
   */
  handOver?(give: (leaseId: string) => boolean): Promise<boolean>
}

/** One value beside the lease, written once: `LFSC` and 16 upper-case hex digits. */
export interface ClusterIdKey {
  /** `undefined`: no cluster was founded yet. Rejects when the backend cannot be reached. */
  read(signal: AbortSignal): Promise<string | undefined>
  /** Called by the holder of the lease. Answers the id that is there afterwards: another one when somebody was faster. */
  found(id: string, signal: AbortSignal): Promise<string>
}

/** Throws `NOT_PRIMARY` once the lease is lost or released. */
export function requireHeld({ lost }: HeldLease): void {
  if (!lost.aborted) return
  throw new ClusterError('NOT_PRIMARY', `the lease is not held any more: ${String(lost.reason)}`)
}

/** Where a backend without a counter of its own gets its epochs. */
export interface EpochCounter {
  /** An epoch larger than `above` and than all answers before, durable (fsynced) when the promise resolves. */
  next(above: Epoch): Promise<Epoch>
}
