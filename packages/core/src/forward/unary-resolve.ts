/** The question what became of a write, and its answer, in the messages of the unary method, both ways. */
import { ClusterError } from '../errors/cluster-error.ts'
import type { WireResolution, WireResolveRequest } from '../peer/unary-messages.ts'
import { decodeEpoch, decodePosition, encodePosition } from '../peer/wire-messages.ts'
import { databaseName } from '../request/database-name.ts'
import type { WriteResult } from '../request/write-request.ts'
import { decodePlainValue, encodePlainValue } from './unary-values.ts'
import { decodeRequestId, decodeResult, encodeRequestId, encodeResult } from './unary-write.ts'
import type { ResolveAnswer, ResolveCall } from './write-call.ts'

export function encodeResolve({ database, requestId, timeoutMs }: ResolveCall): WireResolveRequest {
  return { database, requestId: encodeRequestId(requestId), timeoutMs: Math.round(timeoutMs) }
}

/** @throws INVALID_REQUEST, INVALID_DATABASE_NAME */
export function decodeResolve(wire: WireResolveRequest, timeoutMs: number): ResolveCall {
  const requestId = decodeRequestId(wire.requestId)
  if (requestId === undefined) throw new ClusterError('INVALID_REQUEST', 'the question names no request id')
  return { database: databaseName(wire.database), requestId, timeoutMs }
}

export function encodeResolution(answer: ResolveAnswer): WireResolution {
  const { outcome, position, epoch } = answer
  return {
    applied: outcome === 'applied',
    ...(outcome === 'applied' ? encodeKept(answer.result) : {}),
    position: encodePosition(position),
    epoch: String(epoch),
  }
}

/** @throws INVALID_REQUEST */
export function decodeResolution(wire: WireResolution): ResolveAnswer {
  const at = { position: decodePosition(wire.position), epoch: decodeEpoch(wire.epoch) }
  return wire.applied ? { outcome: 'applied', result: decodeKept(wire), ...at } : { outcome: 'not-applied', ...at }
}

function encodeKept(result: WriteResult | undefined): Pick<WireResolution, 'results' | 'value'> {
  if (result === undefined) return {}
  if (result.kind === 'procedure') return { value: encodePlainValue(result.value) }
  return { results: { results: result.results.map(encodeResult) } }
}

function decodeKept({ results, value }: WireResolution): WriteResult | undefined {
  if (results !== undefined && results !== null) return { kind: 'batch', results: results.results.map(decodeResult) }
  if (value !== undefined && value !== null) return { kind: 'procedure', value: decodePlainValue(value) }
  return undefined
}
