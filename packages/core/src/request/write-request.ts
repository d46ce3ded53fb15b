/**
 * What an application asks to be done at the primary, as data: it can wait in a queue, cross the network, be hashed for the ledger.
 */
import type { SqlParams, SqlValue } from './sql-value.ts'
import type { PlainValue } from './plain-value.ts'

export interface SqlStatement {
  readonly sql: string
  readonly params?: SqlParams | undefined
  /** INTEGER columns and `lastInsertRowid` come back as bigint. Default: false. */
  readonly safeIntegers?: boolean | undefined
}

/** `batch` with one statement is also how a single `run` travels; the array is never empty. */
export type WriteOperation =
  | { readonly kind: 'batch'; readonly statements: readonly SqlStatement[] }
  | { readonly kind: 'procedure'; readonly name: string; readonly input: PlainValue }

/** What better-sqlite3 answers to `run`, and the rows of a statement that returns some (RETURNING). */
export interface StatementResult {
  readonly changes: number
  readonly lastInsertRowid: number | bigint
  /** Present when the statement returns columns. */
  readonly rows?: readonly Readonly<Record<string, SqlValue>>[] | undefined
}

export type WriteResult =
  | { readonly kind: 'batch'; readonly results: readonly StatementResult[] }
  | { readonly kind: 'procedure'; readonly value: PlainValue }

/** What became of a write, as the request ledger knows it. */
export type Resolution =
  /** `result` is its answer; missing when that was too large to keep. */
  | { readonly outcome: 'applied'; readonly result: WriteResult | undefined }
  /** It did not take effect, and under this request id it never will. */
  | { readonly outcome: 'not-applied' }
