/**
 * A write and its answer in the messages of the unary method, both ways: what a node reads and answers, and what a program that
 * asks it sends and reads.
 *
 * Promises: an operation has the same fingerprint (`operation-hash.ts`) on both sides, as long as its text is well-formed
 * Unicode, which is all that protobuf carries.
 */
import { ClusterError } from '../errors/cluster-error.ts'
import type {
  WireAwaitLevel,
  WireStatement,
  WireStatementResult,
  WireWriteAnswer,
  WireWriteRequest,
} from '../peer/unary-messages.ts'
import { decodeEpoch, decodePosition, encodePosition } from '../peer/wire-messages.ts'
import { type AwaitLevel, DEFAULT_AWAIT_LEVEL } from '../request/await-level.ts'
import { type DatabaseName, databaseName } from '../request/database-name.ts'
import { parseRequestId, type RequestId } from '../request/request-id.ts'
import type { SqlValue } from '../request/sql-value.ts'
import type { SqlStatement, StatementResult, WriteOperation } from '../request/write-request.ts'
import { decodePlainValue, decodeSqlValue, encodePlainValue, encodeSqlValue } from './unary-values.ts'
import type { WriteAnswer, WriteCall } from './write-call.ts'

const LEVELS = {
  none: 'NAMED_LEVEL_NONE',
  local: 'NAMED_LEVEL_LOCAL',
  majority: 'NAMED_LEVEL_MAJORITY',
  all: 'NAMED_LEVEL_ALL',
} as const
const KEY_LENGTH_MAX = 255
const REPLICAS_MAX = 100

export function encodeWrite(call: WriteCall): WireWriteRequest {
  const { database, operation, requestId, idempotencyKey = '', timeoutMs } = call
  return {
    database,
    ...(operation.kind === 'batch'
      ? { batch: { statements: operation.statements.map(encodeStatement) } }
      : { procedure: { name: operation.name, input: encodePlainValue(operation.input) } }),
    requestId: encodeRequestId(requestId),
    idempotencyKey,
    awaitLevel: encodeLevel(call.await),
    timeoutMs: Math.round(timeoutMs),
  }
}

/** @throws INVALID_REQUEST, INVALID_DATABASE_NAME */
export function decodeWrite(wire: WireWriteRequest, timeoutMs: number): WriteCall {
  const key = wire.idempotencyKey
  if (key.length > KEY_LENGTH_MAX)
    throw new ClusterError('INVALID_REQUEST', `an idempotency key has at most ${KEY_LENGTH_MAX} characters`)
  return {
    database: databaseName(wire.database),
    operation: decodeOperation(wire),
    requestId: decodeRequestId(wire.requestId),
    idempotencyKey: key === '' ? undefined : key,
    await: decodeLevel(wire.awaitLevel),
    timeoutMs,
  }
}

export function encodeWriteAnswer(answer: WriteAnswer): WireWriteAnswer {
  const { result, position, epoch, level, uncounted, requestId, replayed } = answer
  return {
    ...(result.kind === 'batch'
      ? { results: result.results.map(encodeResult) }
      : { value: encodePlainValue(result.value) }),
    position: encodePosition(position),
    epoch: String(epoch),
    level: encodeLevel(level),
    uncounted,
    requestId: encodeRequestId(requestId),
    replayed,
  }
}

/** @throws INVALID_REQUEST */
export function decodeWriteAnswer(wire: WireWriteAnswer, database: DatabaseName): WriteAnswer {
  const { value, results = [] } = wire
  return {
    // A procedure that returns nothing still answers a value, of the kind `undefined`.
    result:
      value === undefined || value === null
        ? { kind: 'batch', results: results.map(decodeResult) }
        : { kind: 'procedure', value: decodePlainValue(value) },
    database,
    position: decodePosition(wire.position),
    epoch: decodeEpoch(wire.epoch),
    level: decodeLevel(wire.level),
    uncounted: wire.uncounted,
    requestId: decodeRequestId(wire.requestId),
    replayed: wire.replayed,
  }
}

/** @throws INVALID_REQUEST */
export function decodeOperation({ batch, procedure }: WireWriteRequest): WriteOperation {
  if (procedure !== undefined)
    return { kind: 'procedure', name: procedure.name, input: decodePlainValue(procedure.input) }
  if (batch === undefined || batch.statements.length === 0)
    throw new ClusterError('INVALID_REQUEST', 'a write has no statements')
  return { kind: 'batch', statements: batch.statements.map(decodeStatement) }
}

export function encodeRequestId(id: RequestId | undefined): Buffer {
  return Buffer.from(id ?? '', 'hex')
}

/** @throws INVALID_REQUEST */
export function decodeRequestId(bytes: Uint8Array): RequestId | undefined {
  if (bytes.length === 0) return undefined
  const id = parseRequestId(Buffer.from(bytes).toString('hex'))
  if (id === undefined) throw new ClusterError('INVALID_REQUEST', 'a request id has 16 bytes')
  return id
}

function encodeStatement({ sql, params, safeIntegers = false }: SqlStatement): WireStatement {
  if (params === undefined) return { sql, positional: [], named: [], safeIntegers }
  if (Array.isArray(params)) {
    return { sql, positional: (params as readonly SqlValue[]).map(encodeSqlValue), named: [], safeIntegers }
  }
  const named = Object.entries(params as Readonly<Record<string, SqlValue>>)
  return {
    sql,
    positional: [],
    named: named.map(([name, value]) => ({ name, value: encodeSqlValue(value) })),
    safeIntegers,
  }
}

function decodeStatement(wire: WireStatement): SqlStatement {
  const { sql, positional, named, safeIntegers } = wire
  if (named.length === 0) return { sql, params: positional.map(decodeSqlValue), safeIntegers }
  if (positional.length > 0)
    throw new ClusterError('INVALID_REQUEST', 'a statement has positional and named parameters')
  return {
    sql,
    params: Object.fromEntries(named.map(({ name, value }) => [name, decodeSqlValue(value)])),
    safeIntegers,
  }
}

function encodeLevel(level: AwaitLevel): WireAwaitLevel {
  return typeof level === 'string' ? { named: LEVELS[level] } : { replicas: level.replicas }
}

function decodeLevel(wire: WireAwaitLevel | null | undefined): AwaitLevel {
  if (wire?.replicas !== undefined) {
    if (wire.replicas >= 1 && wire.replicas <= REPLICAS_MAX) return { replicas: wire.replicas }
    throw new ClusterError('INVALID_REQUEST', `an await level counts 1 … ${REPLICAS_MAX} replicas`)
  }
  if (wire?.named === undefined) return DEFAULT_AWAIT_LEVEL
  const found = Object.entries(LEVELS).find(([, name]) => name === wire.named)
  if (found === undefined) throw new ClusterError('INVALID_REQUEST', 'an await level is unknown')
  return found[0] as keyof typeof LEVELS
}

export function encodeResult({ changes, lastInsertRowid, rows }: StatementResult): WireStatementResult {
  const columns = Object.keys(rows?.[0] ?? {})
  return {
    changes: String(changes),
    lastInsertRowid: encodeSqlValue(lastInsertRowid),
    returnsRows: rows !== undefined,
    columns,
    rows: (rows ?? []).map((row) => ({ values: columns.map((column) => encodeSqlValue(row[column] ?? null)) })),
  }
}

/** @throws INVALID_REQUEST */
export function decodeResult(wire: WireStatementResult): StatementResult {
  const { columns, returnsRows } = wire
  const lastInsertRowid = decodeSqlValue(wire.lastInsertRowid)
  if (typeof lastInsertRowid !== 'number' && typeof lastInsertRowid !== 'bigint')
    throw new ClusterError('INVALID_REQUEST', 'a result has no rowid')
  const result = { changes: Number(wire.changes), lastInsertRowid }
  if (!returnsRows) return result
  // fromEntries defines own properties, whatever the columns are called.
  const rows = wire.rows.map(({ values }) =>
    Object.fromEntries(columns.map((column, index) => [column, decodeSqlValue(values[index])])),
  )
  return { ...result, rows }
}
