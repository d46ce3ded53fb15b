/**
 * Broken assumptions. An `InvariantError` is a defect of ours or damage on disk, never an expected failure:
 * it is not caught for control flow, and in the commit and apply pipelines it stops that database on that node,
 * because going on would spread the damage.
 */
export class InvariantError extends Error {
  override readonly name = 'InvariantError'
}

/** Throws `InvariantError` with `message` unless `condition` holds. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantError(message)
}

/** Marks a place that an exhaustive `switch` can never reach. */
export function unreachable(value: never, what: string): never {
  throw new InvariantError(`unexpected ${what}: ${String(value)}`)
}
