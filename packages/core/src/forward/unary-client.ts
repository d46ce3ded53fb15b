/**
 * What a program that is no node asks of one: the other end of `unary-door.ts`.
 *
 * Promises: a write has a request id, the caller's or a fresh one, and every failure names it (`details.requestId`), so that it
 * can be repeated or resolved. Nothing is sent twice.
 */
import { randomBytes } from 'node:crypto'
import { ClusterError, isClusterError } from '../errors/cluster-error.ts'
import { loadPeerProtocol, type PeerProtocol } from '../peer/protocol.ts'
import { callUnary, type UnaryOptions } from '../peer/unary-call.ts'
import type { WireFailure, WireResolution, WireWriteAnswer, WireWriteRequest } from '../peer/unary-messages.ts'
import { admitOperation } from '../request/admit-operation.ts'
import { type AwaitLevel, DEFAULT_AWAIT_LEVEL } from '../request/await-level.ts'
import { databaseName } from '../request/database-name.ts'
import { OperationHasher } from '../request/operation-hash.ts'
import { parseRequestId, type RequestId, RequestIdSource } from '../request/request-id.ts'
import type { WriteOperation } from '../request/write-request.ts'
import { stillUnknown } from './resolver.ts'
import { decodeWireFailure } from './unary-failure.ts'
import { decodeResolution, encodeResolve } from './unary-resolve.ts'
import { decodeOperation, decodeWriteAnswer, encodeWrite } from './unary-write.ts'
import type { ResolveAnswer, ResolveCall, WriteAnswer, WriteCall } from './write-call.ts'

export interface RemoteWrite {
  readonly database: string
  readonly operation: WriteOperation
  /** As `RequestIdSource` makes it, 32 hex digits. Default: a fresh one. */
  readonly requestId?: string | undefined
  readonly idempotencyKey?: string | undefined
  /** "Local" is the node that is asked. Default: `local`. */
  readonly await?: AwaitLevel | undefined
}

/**
 * Finds out what became of a write, through any node. What was applied is visible on that node afterwards.
 * @param address `host:port` of the node's gRPC listener
 * @throws as `Forwarder.resolve`: WRITE_OUTCOME_UNKNOWN with `details.lastError`, REQUEST_TOO_OLD, NOT_YET_VISIBLE, INVALID_REQUEST
 */
export async function sendResolve(
  address: string,
  question: { readonly database: string; readonly requestId: string },
  options: UnaryOptions,
): Promise<ResolveAnswer> {
  const { timeoutMs = TIMEOUT_MS } = options
  const call: ResolveCall = {
    database: databaseName(question.database),
    requestId: requireRequestId(question.requestId),
    timeoutMs,
  }
  const unary = { service: 'peer', method: 'Resolve', request: encodeResolve(call), timeoutMs, isWrite: false } as const
  let reply: { readonly resolution?: WireResolution; readonly failure?: WireFailure }
  try {
    reply = (await callUnary(address, unary, options)) as typeof reply
    if (reply.resolution !== undefined) return decodeResolution(reply.resolution)
  } catch (error) {
    throw stillUnknown(call, error)
  }
  throw reply.failure === undefined ? stillUnknown(call, unreadable()) : decodeWireFailure(reply.failure)
}

interface Reply {
  readonly answer?: WireWriteAnswer
  readonly failure?: WireFailure
}

const TIMEOUT_MS = 5_000

/**
 * Runs a write at the primary, through any node.
 * @param address `host:port` of the node's gRPC listener
 * @throws what the write met, as its caller in that process would get it; PEER_UNREACHABLE, UNAUTHENTICATED when it cannot have
 * been seen, WRITE_OUTCOME_UNKNOWN when it may have been; INVALID_REQUEST
 */
export async function sendWrite(address: string, write: RemoteWrite, options: UnaryOptions): Promise<WriteAnswer> {
  const { timeoutMs = TIMEOUT_MS, protocol = loadPeerProtocol() } = options
  const call: WriteCall = {
    database: databaseName(write.database),
    operation: admitOperation(write.operation).operation,
    requestId: write.requestId === undefined ? freshRequestId() : requireRequestId(write.requestId),
    idempotencyKey: write.idempotencyKey,
    await: write.await ?? DEFAULT_AWAIT_LEVEL,
    timeoutMs,
  }
  const request = encodeWrite(call)
  requireFaithful(call, request, protocol)
  const unary = { service: 'peer', method: 'Write', request, timeoutMs, isWrite: true } as const
  try {
    return readReply((await callUnary(address, unary, { ...options, protocol })) as Reply, call)
  } catch (error) {
    throw isClusterError(error) ? error.withDetails({ requestId: call.requestId }) : error
  }
}

function readReply(reply: Reply, call: WriteCall): WriteAnswer {
  try {
    if (reply.answer !== undefined) return decodeWriteAnswer(reply.answer, call.database)
  } catch (error) {
    throw unreadable(error)
  }
  throw reply.failure === undefined ? unreadable() : decodeWireFailure(reply.failure)
}

function unreadable(cause?: unknown): ClusterError {
  return new ClusterError('WRITE_OUTCOME_UNKNOWN', 'the answer cannot be read', { cause, details: { phase: 'answer' } })
}

/** Text that is not well-formed Unicode would arrive as another one; under the same request id it would be another request. */
function requireFaithful(call: WriteCall, request: WireWriteRequest, { peer }: PeerProtocol): void {
  const { requestSerialize, requestDeserialize } = peer['Write']!
  const hasher = new OperationHasher()
  const arriving = requestDeserialize(requestSerialize(request)) as WireWriteRequest
  if (hasher.hash(decodeOperation(arriving)) === hasher.hash(call.operation)) return
  throw new ClusterError('INVALID_REQUEST', 'the write holds text that is not well-formed Unicode', {
    hint: 'Programs that are no nodes cannot send it; run the write in an application of the cluster.',
  })
}

function requireRequestId(text: string): RequestId {
  const id = parseRequestId(text)
  if (id !== undefined) return id
  throw new ClusterError('INVALID_REQUEST', `a request id is written in 32 hex digits, not ${JSON.stringify(text)}`)
}

function freshRequestId(): RequestId {
  return new RequestIdSource(() => Date.now(), randomBytes(6)).next()
}
