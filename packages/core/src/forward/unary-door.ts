/**
 * The unary methods for programs that are no nodes: their messages in, the forwarder's answers out.
 *
 * Such a program is a caller like one in this process: a replica forwards its write to the primary, and "visible
 * locally" means visible on the node that was asked. What the write met is in the reply; only a request that cannot be
 * read becomes a status.
 */
import { inspect } from 'node:util'
import type { Clock } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import { errorTable } from '../errors/error-table.ts'
import type {
  WireAwaitLevel,
  WireCallReply,
  WireCallRequest,
  WireFailure,
  WireStatement,
  WireStatementResult,
  WireWriteAnswer,
  WireWriteReply,
  WireWriteRequest,
} from '../peer/unary-messages.ts'
import { encodePosition } from '../peer/wire-messages.ts'
import { type AwaitLevel, DEFAULT_AWAIT_LEVEL } from '../request/await-level.ts'
import { databaseName } from '../request/database-name.ts'
import { parseRequestId, type RequestId } from '../request/request-id.ts'
import type { SqlStatement, StatementResult, WriteOperation } from '../request/write-request.ts'
import type { CallTarget } from './call-router.ts'
import { toFailure } from './error-reply.ts'
import type { Forwarder } from './forwarder.ts'
import { decodePlainValue, decodeSqlValue, encodePlainValue, encodeSqlValue } from './unary-values.ts'
import type { WriteAnswer, WriteCall } from './write-call.ts'

export interface UnaryDoorParts {
  readonly clock: Clock
  readonly forwarder: Pick<Forwarder, 'write' | 'call'>
  /** Name of this node, for calls that are to run here. */
  readonly nodeName: string
}

const LEVELS = {
  none: 'NAMED_LEVEL_NONE',
  local: 'NAMED_LEVEL_LOCAL',
  majority: 'NAMED_LEVEL_MAJORITY',
  all: 'NAMED_LEVEL_ALL',
} as const
const KEY_LENGTH_MAX = 255
const REPLICAS_MAX = 100

export class UnaryDoor {
  readonly #parts: UnaryDoorParts

  constructor(parts: UnaryDoorParts) {
    this.#parts = parts
  }

  /** @throws INVALID_REQUEST, INVALID_DATABASE_NAME; everything else is in the reply */
  async write(request: WireWriteRequest, deadlineMs: number): Promise<WireWriteReply> {
    const call = decodeWrite(request, deadlineMs - this.#parts.clock.monotonicMs())
    try {
      return { answer: encodeWriteAnswer(await this.#parts.forwarder.write(call)) }
    } catch (error) {
      return { failure: encodeWireFailure(error) }
    }
  }

  /** @throws INVALID_REQUEST; everything else is in the reply */
  async call(request: WireCallRequest, deadlineMs: number): Promise<WireCallReply> {
    const target = this.#target(request)
    const input = decodePlainValue(request.input)
    const timeoutMs = deadlineMs - this.#parts.clock.monotonicMs()
    try {
      return {
        value: encodePlainValue(await this.#parts.forwarder.call(target, request.functionName, input, timeoutMs)),
      }
    } catch (error) {
      return { failure: encodeWireFailure(error) }
    }
  }

  #target(request: WireCallRequest): CallTarget {
    switch (request.target) {
      case 'primary':
        return { kind: 'primary' }
      case 'region':
        return { kind: 'region', region: request.region ?? '' }
      case 'node':
        return { kind: 'node', name: request.node ?? '' }
      case 'here':
        return { kind: 'node', name: this.#parts.nodeName }
      default:
        throw new ClusterError('INVALID_REQUEST', 'a call names no target')
    }
  }
}

function decodeWrite(wire: WireWriteRequest, timeoutMs: number): WriteCall {
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

function decodeOperation({ batch, procedure }: WireWriteRequest): WriteOperation {
  if (procedure !== undefined)
    return { kind: 'procedure', name: procedure.name, input: decodePlainValue(procedure.input) }
  if (batch === undefined || batch.statements.length === 0)
    throw new ClusterError('INVALID_REQUEST', 'a write has no statements')
  return { kind: 'batch', statements: batch.statements.map(decodeStatement) }
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

function decodeRequestId(bytes: Uint8Array): RequestId | undefined {
  if (bytes.length === 0) return undefined
  const id = parseRequestId(Buffer.from(bytes).toString('hex'))
  if (id === undefined) throw new ClusterError('INVALID_REQUEST', 'a request id has 16 bytes')
  return id
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

function encodeLevel(level: AwaitLevel): WireAwaitLevel {
  return typeof level === 'string' ? { named: LEVELS[level] } : { replicas: level.replicas }
}

function encodeWriteAnswer(answer: WriteAnswer): WireWriteAnswer {
  const { result, position, epoch, level, uncounted, requestId, replayed } = answer
  const common = {
    position: encodePosition(position),
    epoch: String(epoch),
    level: encodeLevel(level),
    uncounted,
    requestId: Buffer.from(requestId ?? '', 'hex'),
    replayed,
  }
  return result.kind === 'batch'
    ? { ...common, results: result.results.map(encodeResult) }
    : { ...common, value: encodePlainValue(result.value) }
}

function encodeResult({ changes, lastInsertRowid, rows }: StatementResult): WireStatementResult {
  const columns = Object.keys(rows?.[0] ?? {})
  return {
    changes: String(changes),
    lastInsertRowid: encodeSqlValue(lastInsertRowid),
    returnsRows: rows !== undefined,
    columns,
    rows: (rows ?? []).map((row) => ({ values: columns.map((column) => encodeSqlValue(row[column] ?? null)) })),
  }
}

function encodeWireFailure(error: unknown): WireFailure {
  const failure = toFailure(error)
  const nothing = { outcome: 'not-applied', retry: 'never', hint: '', details: { object: { entries: [] } }, name: '' }
  switch (failure.kind) {
    case 'cluster': {
      const { outcome, retry } = errorTable[failure.code]
      const details = encodePlainValue(failure.details)
      return {
        ...nothing,
        kind: 'CLUSTER',
        code: failure.code,
        message: failure.message,
        outcome,
        retry,
        hint: failure.hint ?? '',
        details,
      }
    }
    case 'sqlite':
      return { ...nothing, kind: 'SQLITE', code: failure.code, message: failure.message, name: 'SqliteError' }
    case 'application':
      return {
        ...nothing,
        kind: 'APPLICATION',
        code: textOf(failure.code),
        message: failure.message,
        name: failure.name,
      }
    default:
      return { ...nothing, kind: 'APPLICATION', code: '', message: textOf(failure.value) }
  }
}

function textOf(value: unknown): string {
  if (value === undefined) return ''
  return typeof value === 'string' ? value : inspect(value)
}
