/**
 * The door of every write: what passes here can wait, travel, be hashed and run without surprises, with the effect it would
 * have in a local better-sqlite3 (13):
 *
 * - `null`, numbers, bigints of 64 bits, strings, `Uint8Array` are bound as they are; `NaN` becomes NULL inside SQLite.
 * - `undefined` and holes are NULL; any other typed array is bound as its bytes. They are replaced here, so that they travel.
 * - booleans, larger bigints, `Date`, `DataView`, `ArrayBuffer`, boxed values, functions, symbols and other objects are refused.
 * - An object of named values may have more keys than the statement has parameters, also with values that cannot be bound:
 *   those are left out here.
 * - Named values come in a plain object, not in a class instance.
 *
 * Numbers of parameters are SQLite's business: its errors come from the primary.
 */
import { ClusterError } from '../errors/cluster-error.ts'
import { plainSize } from './plain-size.ts'
import { isPlainObject } from './plain-writer.ts'
import { SqlTokens } from './sql-tokens.ts'
import type { SqlParams, SqlValue } from './sql-value.ts'
import type { SqlStatement, WriteOperation } from './write-request.ts'

export interface AdmittedOperation {
  /** The operation given, or a copy where something had to be replaced. */
  readonly operation: WriteOperation
  /** An estimate of what it costs to keep and to send. */
  readonly bytes: number
}

/** What a request costs beside its values. */
const REQUEST_BYTES = 128
const STATEMENT_FIELDS = new Set(['sql', 'params', 'safeIntegers'])

/** Checks and measures. Throws `INVALID_REQUEST`. */
export function admitOperation(operation: WriteOperation): AdmittedOperation {
  if (operation.kind === 'procedure') {
    if (typeof operation.name !== 'string' || operation.name === '') throw invalid('a procedure needs a name')
    return { operation, bytes: REQUEST_BYTES + operation.name.length + plainSize(operation.input) }
  }
  if (operation.kind !== 'batch') throw invalid('an operation is a batch or a procedure')
  const { statements } = operation
  if (!Array.isArray(statements) || statements.length === 0) throw invalid('a batch needs at least one statement')
  const meter = { bytes: REQUEST_BYTES }
  const admitted = mapChanged(statements, (statement) => admitStatement(statement, meter))
  return {
    operation: admitted === statements ? operation : { kind: 'batch', statements: admitted },
    bytes: meter.bytes,
  }
}

interface Meter {
  bytes: number
}

function admitStatement(statement: SqlStatement, meter: Meter): SqlStatement {
  if (typeof statement !== 'object' || statement === null) throw invalid('a statement is an object { sql, params }')
  for (const field in statement) {
    if (!STATEMENT_FIELDS.has(field))
      throw invalid(`a statement has no field "${field}"`, 'Known: sql, params, safeIntegers.')
  }
  const { sql, params, safeIntegers } = statement
  if (typeof sql !== 'string') throw invalid(`the text of a statement is a string, not ${nameOf(sql)}`)
  if (safeIntegers !== undefined && typeof safeIntegers !== 'boolean') throw invalid('safeIntegers is true or false')
  meter.bytes += sql.length + 32
  const admitted = admitParams(params, sql, meter)
  return admitted === params ? statement : { ...statement, params: admitted }
}

function admitParams(params: SqlParams | undefined, sql: string, meter: Meter): SqlParams | undefined {
  if (params === undefined) return undefined
  if (Array.isArray(params)) {
    return mapChanged(params as readonly SqlValue[], (value, index) =>
      admitValue(value, `parameter ${index + 1}`, meter),
    )
  }
  if (typeof params !== 'object' || params === null || !isPlainObject(params)) {
    throw invalid(`parameters are an array or a plain object, not ${nameOf(params)}`)
  }
  return admitNamed(params as Readonly<Record<string, SqlValue>>, sql, meter)
}

function admitNamed(params: Readonly<Record<string, SqlValue>>, sql: string, meter: Meter): SqlParams {
  let used: Set<string> | undefined
  let copy: Record<string, SqlValue> | undefined
  for (const [name, value] of Object.entries(params)) {
    meter.bytes += name.length
    let admitted: SqlValue
    try {
      admitted = admitValue(value, `parameter "${name}"`, meter)
    } catch (error) {
      used ??= parameterNames(sql)
      if (used.has(name)) throw error
      copy ??= { ...params }
      delete copy[name]
      continue
    }
    if (admitted === value) continue
    copy ??= { ...params }
    copy[name] = admitted
  }
  return copy ?? params
}

/** Names of the parameters of a statement, without `@`, `:`, `$` or `?`. */
function parameterNames(sql: string): Set<string> {
  const names = new Set<string>()
  const tokens = new SqlTokens(sql)
  for (let token = tokens.next(); token.kind !== 'end'; token = tokens.next()) {
    if (token.kind === 'parameter') names.add(token.text.slice(1))
  }
  return names
}

function admitValue(value: unknown, where: string, meter: Meter): SqlValue {
  meter.bytes += 9
  switch (typeof value) {
    case 'number':
      return value
    case 'string':
      meter.bytes += value.length
      return value
    case 'undefined':
      return null
    case 'bigint':
      if (BigInt.asIntN(64, value) === value) return value
      throw invalid(`${where}: a bigint of more than 64 bits cannot be stored`)
    case 'object':
      if (value === null) return null
      if (ArrayBuffer.isView(value) && !(value instanceof DataView)) {
        meter.bytes += value.byteLength
        return value instanceof Uint8Array ? value : new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
      }
      throw refusedValue(value, where)
    default:
      throw refusedValue(value, where)
  }
}

function refusedValue(value: unknown, where: string): ClusterError {
  return invalid(
    `${where} is ${nameOf(value)}, which SQLite cannot store`,
    'Bind null, numbers, bigints, strings or Uint8Array; write a boolean as 0 or 1, a Date as its ISO text or its number.',
  )
}

/** As `map`, but answers the same array when nothing changed. Holes are visited. */
function mapChanged<T>(values: readonly T[], change: (value: T, index: number) => T): readonly T[] {
  let copy: T[] | undefined
  for (let index = 0; index < values.length; index++) {
    const before = values[index] as T
    const after = change(before, index)
    if (after === before && index in values) continue
    copy ??= [...values]
    copy[index] = after
  }
  return copy ?? values
}

function nameOf(value: unknown): string {
  if (value === null) return 'null'
  if (typeof value !== 'object') return `a ${typeof value}`
  return `a ${value.constructor?.name ?? 'object'}`
}

function invalid(message: string, hint?: string): ClusterError {
  return new ClusterError('INVALID_REQUEST', message, { hint })
}
