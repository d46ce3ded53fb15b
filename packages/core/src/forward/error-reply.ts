/**
 * Errors on their way from the node where they happened to the node that asked: the one place that translates them.
 *
 * Promises: a `ClusterError` arrives as one, with code, details and hint; SQLite's error arrives as better-sqlite3's
 * `SqliteError`, with code and message; what an application's procedure or function threw arrives as an `Error` with
 * the same name, code and message (as the same built-in class where it was one), and a thrown value that is no error
 * arrives as itself. Stacks and causes stay behind: they belong to the other process and may hold what the caller must
 * not see. A broken assumption (`InvariantError`) on the other node is no answer to the caller's question: it arrives
 * as `WRITE_OUTCOME_UNKNOWN`.
 */
import { InvariantError } from '../base/assert.ts'
import { ClusterError, isClusterError } from '../errors/cluster-error.ts'
import { type ErrorCode, errorTable } from '../errors/error-table.ts'
import { PlainReader } from '../request/plain-reader.ts'
import type { PlainValue } from '../request/plain-value.ts'
import { isPlainObject, PlainWriter } from '../request/plain-writer.ts'
import { isSqliteError, makeSqliteError } from '../sqlite/sqlite-error.ts'

/** An error as data. */
export type Failure =
  | {
      readonly kind: 'cluster'
      readonly code: ErrorCode
      readonly message: string
      readonly details: { readonly [key: string]: PlainValue }
      readonly hint: string | undefined
    }
  | { readonly kind: 'sqlite'; readonly code: string; readonly message: string }
  | { readonly kind: 'application'; readonly name: string; readonly code: PlainValue; readonly message: string }
  | { readonly kind: 'thrown'; readonly value: PlainValue }

const BUILT_IN = { Error, TypeError, RangeError, SyntaxError, ReferenceError, EvalError, URIError }
const DEPTH_MAX = 20

export function toFailure(error: unknown): Failure {
  if (isClusterError(error)) {
    const { code, summary, details, hint } = error
    return { kind: 'cluster', code, message: summary, details: plainObject(details, 0), hint }
  }
  if (isSqliteError(error)) return { kind: 'sqlite', code: error.code, message: error.message }
  if (error instanceof InvariantError) {
    const message = `the other node met a defect: ${error.message}`
    return { kind: 'cluster', code: 'WRITE_OUTCOME_UNKNOWN', message, details: { phase: 'commit' }, hint: undefined }
  }
  if (error instanceof Error) {
    const code = plain((error as { code?: unknown }).code, 0)
    return { kind: 'application', name: error.name, code, message: error.message }
  }
  return { kind: 'thrown', value: plain(error, 0) }
}

/** What to throw at the asking node. */
export function fromFailure(failure: Failure): unknown {
  switch (failure.kind) {
    case 'cluster':
      return new ClusterError(failure.code, failure.message, { details: failure.details, hint: failure.hint })
    case 'sqlite':
      return makeSqliteError(failure.code, failure.message)
    case 'application': {
      const Class = Object.hasOwn(BUILT_IN, failure.name) ? BUILT_IN[failure.name as keyof typeof BUILT_IN] : Error
      const error = new Class(failure.message)
      if (error.name !== failure.name)
        Object.defineProperty(error, 'name', { value: failure.name, configurable: true, writable: true })
      return failure.code === undefined ? error : Object.assign(error, { code: failure.code })
    }
    default:
      return failure.value
  }
}

/** The compact form: the failure as one plain value. */
export function encodeFailure(error: unknown): Buffer {
  const writer = new PlainWriter()
  writer.value(toFailure(error))
  return writer.written
}

/** What to throw; a failure that cannot be read is `WRITE_OUTCOME_UNKNOWN`. */
export function decodeFailure(bytes: Buffer): unknown {
  try {
    const reader = new PlainReader(bytes)
    const failure = reader.value()
    return reader.isAtEnd && isFailure(failure) ? fromFailure(failure) : unreadable()
  } catch (error) {
    return unreadable(error)
  }
}

function isFailure(value: unknown): value is Failure {
  if (typeof value !== 'object' || value === null || !('kind' in value)) return false
  const { kind, code, message, name, details, hint } = value as { readonly [key: string]: unknown }
  if (kind === 'thrown') return true
  if (typeof message !== 'string') return false
  switch (kind) {
    case 'cluster':
      // A later release may know more codes; what they mean for the write is not known here.
      if (typeof code !== 'string' || !Object.hasOwn(errorTable, code)) return false
      return isRecord(details) && (hint === undefined || typeof hint === 'string')
    case 'sqlite':
      return typeof code === 'string'
    default:
      return kind === 'application' && typeof name === 'string'
  }
}

function isRecord(value: unknown): boolean {
  return typeof value === 'object' && value !== null && isPlainObject(value)
}

function unreadable(cause?: unknown): ClusterError {
  return new ClusterError('WRITE_OUTCOME_UNKNOWN', 'the other node answered with an error that cannot be read here', {
    cause,
    details: { phase: 'answer' },
  })
}

/** Anything made plain: what cannot cross is replaced by its text, so that an error never fails to be reported. */
function plain(value: unknown, depth: number): PlainValue {
  switch (typeof value) {
    case 'undefined':
    case 'boolean':
    case 'number':
    case 'bigint':
    case 'string':
      return value
    case 'object':
      break
    default:
      return String(value)
  }
  if (value === null || value instanceof Uint8Array || value instanceof Date) return value
  if (depth >= DEPTH_MAX) return '…'
  if (Array.isArray(value)) return value.map((item) => plain(item, depth + 1))
  if (value instanceof Error) return value.message
  return isPlainObject(value) ? plainObject(value, depth) : Object.prototype.toString.call(value)
}

function plainObject(value: object, depth: number): { readonly [key: string]: PlainValue } {
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item, depth + 1)]))
}
