/** Functions that run inside a transaction are synchronous: SQLite would otherwise be held by one request while others wait. */
import { ClusterError } from '../errors/cluster-error.ts'

/** Answers `value`, or throws `ASYNC_PROCEDURE` when it is a promise or anything else with a `then` method. */
export function refusePromise<T>(value: T, what: string): T {
  if (typeof value !== 'object' || value === null || !('then' in value) || typeof value.then !== 'function')
    return value
  // It fails later, when its transaction is gone; nobody listens any more, and that must not end the process.
  value.then(undefined, () => undefined)
  throw new ClusterError('ASYNC_PROCEDURE', `${what} returned a promise`, {
    hint: 'Do what is asynchronous before the write, or after it, and remove "async".',
  })
}
