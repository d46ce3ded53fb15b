/** Keys of a configuration that nobody knows, and values of the wrong kind: errors that say what was meant or what is accepted. */
import { ClusterError } from '@litefleet/core'
import { closest, distance } from 'fastest-levenshtein'
import { inspect } from 'node:util'

/** Throws `INVALID_OPTION` for a key of `given` that is not in `known`. `where` names the place, e.g. `litefleet.yml: listen`. */
export function rejectUnknownKeys(given: object, known: readonly string[], where: string): void {
  for (const key of Object.keys(given)) {
    if (known.includes(key)) continue
    const near = closest(key, known)
    const isNear = distance(key, near) <= Math.max(2, key.length / 3)
    throw new ClusterError('INVALID_OPTION', `${where}: unknown key "${key}"`, {
      hint: isNear ? `Did you mean "${near}"?` : `Known keys: ${known.join(', ')}.`,
    })
  }
}

/** Throws `INVALID_OPTION` that says what the key holds and what it accepts. */
export function invalidValue(where: string, key: string, value: unknown, accepts: string): never {
  throw new ClusterError('INVALID_OPTION', `${where}: "${key}" is ${shown(value)}`, {
    hint: `It accepts ${accepts}.`,
  })
}

/** As JSON, which is YAML; a value that contains itself (`&a [*a]`) has no such text. */
function shown(value: unknown): string {
  try {
    return JSON.stringify(value) ?? String(value)
  } catch {
    return inspect(value, { depth: 1 })
  }
}
