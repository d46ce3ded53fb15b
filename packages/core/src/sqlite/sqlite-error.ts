/** SQLite's own errors: told apart by code, made again from their code and message when they arrive from another node. */
import { SqliteError } from './sqlite-library.ts'

/** True for an error that SQLite reported (better-sqlite3's `SqliteError`). */
export function isSqliteError(error: unknown): error is Error & { readonly code: string } {
  return error instanceof SqliteError
}

/** An error that applications cannot tell from one thrown by their own better-sqlite3. */
export function makeSqliteError(code: string, message: string): Error {
  return new SqliteError(message, code)
}

/** The (extended) result code, e.g. `SQLITE_CONSTRAINT_UNIQUE`; `undefined` when it is not SQLite's error. */
export function sqliteErrorCode(error: unknown): string | undefined {
  return isSqliteError(error) ? error.code : undefined
}

/** SQLite cannot make sense of the file. */
export function isUnreadable(error: unknown): boolean {
  const code = sqliteErrorCode(error)
  return code !== undefined && (code.startsWith('SQLITE_CORRUPT') || code === 'SQLITE_NOTADB')
}

/** Somebody else holds a lock; the same call may succeed in a moment. */
export function isBusy(error: unknown): boolean {
  const code = sqliteErrorCode(error)
  // SQLITE_PROTOCOL is SQLITE_BUSY for a reader that lost the race for its lock too many times.
  return code !== undefined && (code.startsWith('SQLITE_BUSY') || code === 'SQLITE_PROTOCOL')
}
