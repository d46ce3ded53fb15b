/**
 * SQLite's own look through a database: structure of every page, order of every index, rows against indexes and constraints.
 *
 * What it cannot see: a flipped byte inside a value that no index and no constraint speaks of. Only page checksums can.
 */
import type { Connection } from './connection.ts'
import { isUnreadable } from './sqlite-error.ts'

export type Integrity =
  | { readonly kind: 'intact' }
  | { readonly kind: 'damaged'; readonly reason: string }
  /** SQLite could not run the check, for want of an application's function, say. */
  | { readonly kind: 'unchecked'; readonly reason: string }

/**
 * Reads the whole database, blocking.
 * @param connect a new connection: one that was used may see shadow tables that others changed since as damage
 */
export function findDamage(connect: () => Connection): Integrity {
  let connection: Connection | undefined
  try {
    connection = connect()
    const [first] = connection.prepare('PRAGMA integrity_check(1)').pluck().all()
    return first === 'ok' ? { kind: 'intact' } : { kind: 'damaged', reason: String(first) }
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    return { kind: isUnreadable(error) ? 'damaged' : 'unchecked', reason }
  } finally {
    connection?.close()
  }
}
