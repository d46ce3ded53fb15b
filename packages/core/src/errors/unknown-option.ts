/** Option objects with a name nobody knows: an error that says which known name is nearest. */
import { closest, distance } from 'fastest-levenshtein'
import { ClusterError } from './cluster-error.ts'

/**
 * Throws `INVALID_OPTION` when `given` has a key that is not in `known`.
 * @param where what the options belong to, for the message, e.g. `openCluster`
 */
export function rejectUnknownOptions(given: object, known: readonly string[], where: string): void {
  for (const key of Object.keys(given)) {
    if (known.includes(key)) continue
    const near = closest(key, known)
    const hint =
      distance(key, near) <= Math.max(2, key.length / 3) ? `Did you mean "${near}"?` : `Known: ${known.join(', ')}.`
    throw new ClusterError('INVALID_OPTION', `${where}: unknown option "${key}"`, { hint })
  }
}

/** Throws `INVALID_OPTION` naming the option, what it got and what it accepts. */
export function invalidOption(where: string, name: string, got: unknown, accepts: string): never {
  throw new ClusterError('INVALID_OPTION', `${where}: option "${name}" is ${JSON.stringify(got) ?? String(got)}`, {
    hint: `It accepts ${accepts}.`,
  })
}
