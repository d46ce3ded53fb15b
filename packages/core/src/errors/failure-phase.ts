/**
 * How far a write had come when it failed: `details.phase` of the `ClusterError` that `run()`, `batch()` and procedures reject with.
 * The outcome follows from it.
 */
import type { ClusterError } from './cluster-error.ts'

export type FailurePhase =
  /** It was refused before it ran, or ran and was rolled back: nothing of this attempt is applied. */
  | 'before-commit'
  /** It was handed to the network and no answer came: it may have run, or run later. */
  | 'sending'
  /** SQLite's COMMIT failed in a way that only a restart can tell from success. */
  | 'commit'
  /** It is committed on the primary, which then could not make it known; after its restart it normally is. */
  | 'announcement'
  /** The primary answered, and the answer cannot be read, or was too large to be kept or sent. */
  | 'answer'
  /** It is applied; the awaited level was not reached in time. */
  | 'visibility'

/** The phase an error of the write path stands for, also where the error does not name it. */
export function failurePhase({ code, details, outcome }: ClusterError): FailurePhase {
  const named = details['phase']
  if (typeof named === 'string') return named as FailurePhase
  if (outcome === 'applied') return code === 'NOT_YET_VISIBLE' ? 'visibility' : 'answer'
  return code === 'WRITE_OUTCOME_UNKNOWN' ? 'commit' : 'before-commit'
}
