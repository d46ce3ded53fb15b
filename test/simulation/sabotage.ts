/**
 * Guards that a run leaves out, to see that an oracle notices: a simulation that cannot fail proves nothing.
 *
 * They are left out where the simulated node wires the real parts together, so the product itself stays as it is.
 */
export type Sabotage =
  /** The lease is not looked at again between the commit and the announcement (I4). */
  | 'announces-without-lease'
  /** Requests reach the primary's queue without their ids, so the ledger never sees them (I7). */
  | 'forgets-request-ids'
  /** A replica reports what is in its log before it is synced (I1). */
  | 'reports-before-sync'
  /** A commit is announced and answered, but not durable (I1). */
  | 'commits-without-sync'
  /** A replica announces records before it has applied them (I3). */
  | 'announces-before-apply'
  /** A node that promised a candidate goes on with the older primary (I1, D13). */
  | 'forgets-promises'
  /** A candidate takes office with what it has, whatever others have (I1). */
  | 'takes-office-unasked'
  /** A replica whose history differs is seeded without a comparison (I10). */
  | 'gives-up-without-report'
