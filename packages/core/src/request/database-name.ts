/**
 * Names of databases: what LiteFS accepts as a file name in its flat mount, so that either engine can hold them.
 * Not empty, at most 255 bytes, no `/` or NUL, not starting with a dot, no suffix that LiteFS or SQLite gives a meaning.
 */
import { ClusterError } from '../errors/cluster-error.ts'

declare const brand: unique symbol
export type DatabaseName = string & { readonly [brand]: 'DatabaseName' }

const RESERVED_SUFFIX = /-(journal|wal|shm|pos|lock)$/

/** Checks and brands. Throws `INVALID_DATABASE_NAME`. */
export function databaseName(text: string): DatabaseName {
  const bad =
    typeof text !== 'string' || text === ''
      ? 'it is empty'
      : Buffer.byteLength(text) > 255
        ? 'it is longer than 255 bytes'
        : text.startsWith('.')
          ? 'it starts with a dot'
          : /[/\0]/.test(text)
            ? 'it contains a slash or NUL'
            : RESERVED_SUFFIX.test(text)
              ? 'its suffix is reserved'
              : undefined
  if (bad === undefined) return text as DatabaseName
  throw new ClusterError('INVALID_DATABASE_NAME', `database name ${JSON.stringify(text)}: ${bad}`, {
    hint: 'Use a plain file name such as "app.db".',
  })
}
