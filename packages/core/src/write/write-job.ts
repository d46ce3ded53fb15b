/** What waits for, or passes through, the writer queue of its database. */
import type { RequestId } from '../request/request-id.ts'
import type { Resolution, WriteOperation, WriteResult } from '../request/write-request.ts'

export type WriteJob = RunJob | ResolveJob

/** A write. */
export interface RunJob extends QueuedJob {
  readonly kind: 'run'
  readonly operation: WriteOperation
  /** Given to every write that left its node: under one id a write takes effect at most once. */
  readonly requestId: RequestId | undefined
  /** The caller's own name for the write, 1 … 255 characters. */
  readonly idempotencyKey: string | undefined
}

/**
 * The question what became of a write. It stands in line with the writes, because finding nothing is recorded, so that the
 * write cannot run later.
 */
export interface ResolveJob extends QueuedJob {
  readonly kind: 'resolve'
  readonly requestId: RequestId
}

interface QueuedJob {
  /** On the clock's monotonic scale. A job that has begun is not interrupted. */
  readonly deadlineMs: number
  /** What the job counts for in the bounds of queue and batch. */
  readonly bytes: number
  /** Tells the caller. The first call counts, later ones are ignored. */
  settle(outcome: JobOutcome): void
}

export type JobOutcome =
  /** `replayed`: the ledger knew the request; `result` is its first answer and nothing ran now. */
  | { readonly kind: 'done'; readonly result: WriteResult; readonly replayed: boolean }
  /** Of a `ResolveJob`. */
  | { readonly kind: 'resolved'; readonly resolution: Resolution }
  /** `error` as it was thrown: SQLite's, the procedure's, or a `ClusterError`. */
  | { readonly kind: 'failed'; readonly error: unknown }
