/**
 * The roles of a node and every way from one to another: what the table below does not allow cannot happen.
 *
 * `detached`: knows no primary, or must not follow one. `replica`: follows a primary. `candidate`: holds the lease and
 * prepares for office (new epoch, last records applied). `primary`: commits. `handing-off`: still holds the lease,
 * takes no new writes. Reads are served in every role but `closed`.
 */
import type { Epoch } from '../position/epoch.ts'
import type { LeaseHolder } from '../lease/lease-holder.ts'
import type { HeldLease } from '../lease/lease.ts'

export interface PrimaryInfo extends LeaseHolder {
  readonly isSelf: boolean
}

/** One time in office. */
export interface Term {
  readonly epoch: Epoch
  readonly lease: HeldLease
  /** URL of the LiteFS primary that gave the lease to this node; `undefined`: it won it. */
  readonly givenBy?: string | undefined
}

export type DetachReason =
  | 'starting'
  /** Nobody holds the lease, or the holder is not known yet. */
  | 'no-primary'
  | 'lease-lost'
  /** The operator took the office away. */
  | 'demoted'
  /** The lease was given to another node on purpose. */
  | 'handed-off'
  /** This node's history is not the cluster's; it must be re-seeded before it may hold office. */
  | 'history-diverged'

/** Why a node does not take a write, in the details of `NOT_PRIMARY`. */
export type NotPrimaryReason = DetachReason | 'moved' | 'candidate' | 'handing-off' | 'lease-lost' | 'closed'

export type NodeRole =
  | { readonly kind: 'detached'; readonly reason: DetachReason }
  | { readonly kind: 'replica'; readonly primary: PrimaryInfo }
  | { readonly kind: 'candidate'; readonly term: Term }
  | { readonly kind: 'primary'; readonly term: Term }
  | { readonly kind: 'handing-off'; readonly term: Term; readonly to: string }
  | { readonly kind: 'closed' }

export type RoleEvent =
  /** This node holds the lease; also: a handoff failed and it still does. */
  | { readonly kind: 'lease-won'; readonly term: Term }
  /** Preparing is done. */
  | { readonly kind: 'office-taken' }
  | { readonly kind: 'primary-found'; readonly primary: PrimaryInfo }
  | { readonly kind: 'primary-lost' }
  /** A LiteFS primary gave this node the lease. */
  | { readonly kind: 'handoff-offered'; readonly term: Term }
  /** The operator or the primary's own shutdown wants another node in office. */
  | { readonly kind: 'handoff-asked'; readonly to: string }
  | { readonly kind: 'lease-lost' }
  | { readonly kind: 'demoted' }
  | { readonly kind: 'history-diverged' }
  | { readonly kind: 'close' }

/**
 * What becomes of the role. `stay`: the event is late or says nothing new. `never`: only a defect can cause it.
 * A `primary-found` always names another node; in office it means that the lease was lost without our noticing.
 */
type Step = 'stay' | 'never' | NodeRole['kind']

export const roleTable: Readonly<Record<NodeRole['kind'], Readonly<Record<RoleEvent['kind'], Step>>>> = {
  detached: {
    'lease-won': 'candidate',
    'office-taken': 'never',
    'primary-found': 'replica',
    'primary-lost': 'stay',
    'handoff-offered': 'candidate',
    'handoff-asked': 'stay',
    'lease-lost': 'stay',
    demoted: 'stay',
    'history-diverged': 'detached',
    close: 'closed',
  },
  replica: {
    'lease-won': 'candidate',
    'office-taken': 'never',
    'primary-found': 'replica',
    'primary-lost': 'detached',
    'handoff-offered': 'candidate',
    'handoff-asked': 'stay',
    'lease-lost': 'stay',
    demoted: 'stay',
    // Re-seeding is the business of the database; the node goes on following.
    'history-diverged': 'stay',
    close: 'closed',
  },
  candidate: {
    'lease-won': 'stay',
    'office-taken': 'primary',
    'primary-found': 'replica',
    'primary-lost': 'stay',
    'handoff-offered': 'stay',
    'handoff-asked': 'stay',
    'lease-lost': 'detached',
    demoted: 'detached',
    'history-diverged': 'detached',
    close: 'closed',
  },
  primary: {
    'lease-won': 'stay',
    'office-taken': 'never',
    'primary-found': 'replica',
    'primary-lost': 'stay',
    'handoff-offered': 'stay',
    'handoff-asked': 'handing-off',
    'lease-lost': 'detached',
    demoted: 'detached',
    'history-diverged': 'detached',
    close: 'closed',
  },
  'handing-off': {
    'lease-won': 'primary',
    'office-taken': 'never',
    'primary-found': 'replica',
    'primary-lost': 'stay',
    'handoff-offered': 'stay',
    'handoff-asked': 'stay',
    'lease-lost': 'detached',
    demoted: 'detached',
    'history-diverged': 'detached',
    close: 'closed',
  },
  closed: {
    'lease-won': 'stay',
    'office-taken': 'stay',
    'primary-found': 'stay',
    'primary-lost': 'stay',
    'handoff-offered': 'stay',
    'handoff-asked': 'stay',
    'lease-lost': 'stay',
    demoted: 'stay',
    'history-diverged': 'stay',
    close: 'stay',
  },
}
