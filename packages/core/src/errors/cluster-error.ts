/**
 * The one class of operational failures. SQLite's own errors (constraint, abort raised by a trigger) are not wrapped:
 * they reach the caller as better-sqlite3's `SqliteError`, also across the network.
 */
import { type ErrorCode, errorTable, type Outcome, type Retry } from './error-table.ts'

export interface ClusterErrorOptions {
  readonly cause?: unknown
  /** Plain data about the failure: names, positions, the address to ask. Only values that cross the network (`PlainValue`). */
  readonly details?: Readonly<Record<string, unknown>> | undefined
  /** What the operator or developer can do about it. */
  readonly hint?: string | undefined
}

export class ClusterError extends Error {
  override readonly name = 'ClusterError'
  readonly code: ErrorCode
  /** What became of the write, if there was one. */
  readonly outcome: Outcome
  readonly retry: Retry
  readonly details: Readonly<Record<string, unknown>>
  readonly hint: string | undefined
  /** The message without the code and the hint, for carrying the error elsewhere. */
  readonly summary: string

  constructor(code: ErrorCode, message: string, options: ClusterErrorOptions = {}) {
    const hint = options.hint
    super(
      hint === undefined ? `${code}: ${message}` : `${code}: ${message}\n  ${hint}`,
      options.cause === undefined ? undefined : { cause: options.cause },
    )
    this.code = code
    this.outcome = errorTable[code].outcome
    this.retry = errorTable[code].retry
    this.details = options.details ?? {}
    this.hint = hint
    this.summary = message
  }

  /** Of the write, if it had one: what `database.resolve` and the option `requestId` take. */
  get requestId(): string | undefined {
    const id = this.details['requestId']
    return typeof id === 'string' ? id : undefined
  }

  /** The same failure with more details, and a hint; those it has stay as they are. */
  withDetails(more: Readonly<Record<string, unknown>>, moreHint?: string): ClusterError {
    const { cause, stack, hint = moreHint } = this
    const copy = new ClusterError(this.code, this.summary, { cause, hint, details: { ...more, ...this.details } })
    return stack === undefined ? copy : Object.assign(copy, { stack })
  }
}

/** True for a `ClusterError`, of the given code when one is named. */
export function isClusterError(error: unknown, code?: ErrorCode): error is ClusterError {
  return error instanceof ClusterError && (code === undefined || error.code === code)
}
