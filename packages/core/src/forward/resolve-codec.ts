/**
 * The question what became of a write, and its answer, in the compact form of the channel (protocol version 1).
 *
 * Values as in `request/plain-writer.ts`; `string` is a value with its tag.
 *   question  string database; string request id
 *   answer    position (position-codec.ts); varint epoch;
 *             byte 0 = not applied, 1 = applied and its answer was too large to keep or to send, 2 = applied;
 *             with 2: its result as in `request/answer-codec.ts`, to the end
 */
import { ClusterError } from '../errors/cluster-error.ts'
import { epoch } from '../position/epoch.ts'
import { decodeAnswer, writeAnswer } from '../request/answer-codec.ts'
import { databaseName } from '../request/database-name.ts'
import { PlainReader } from '../request/plain-reader.ts'
import { PlainWriter } from '../request/plain-writer.ts'
import { parseRequestId } from '../request/request-id.ts'
import { readPosition, writePosition } from './position-codec.ts'
import type { ResolveAnswer, ResolveCall } from './write-call.ts'

const NOT_APPLIED = 0
const APPLIED = 1
const APPLIED_WITH_RESULT = 2

export function encodeResolve({ database, requestId }: ResolveCall): Buffer {
  const writer = new PlainWriter()
  writer.string(database)
  writer.string(requestId)
  return writer.written
}

/** @throws CORRUPT_DATA, INVALID_DATABASE_NAME */
export function decodeResolve(bytes: Buffer, timeoutMs: number): ResolveCall {
  const reader = new PlainReader(bytes)
  const database = databaseName(reader.string())
  const requestId = parseRequestId(reader.string())
  if (requestId === undefined || !reader.isAtEnd) throw damaged()
  return { database, requestId, timeoutMs }
}

export function encodeResolveAnswer(answer: ResolveAnswer): Buffer {
  const writer = new PlainWriter()
  writePosition(writer, answer.position)
  writer.varint(answer.epoch)
  if (answer.outcome === 'not-applied') writer.byte(NOT_APPLIED)
  else if (answer.result === undefined) writer.byte(APPLIED)
  else {
    writer.byte(APPLIED_WITH_RESULT)
    writeAnswer(writer, answer.result)
  }
  return writer.written
}

/** @throws CORRUPT_DATA */
export function decodeResolveAnswer(bytes: Buffer): ResolveAnswer {
  const reader = new PlainReader(bytes)
  const at = { position: readPosition(reader), epoch: epoch(reader.varint()) }
  const outcome = reader.byte()
  if (outcome === APPLIED_WITH_RESULT) return { outcome: 'applied', result: decodeAnswer(reader.rest()), ...at }
  if (!reader.isAtEnd) throw damaged()
  if (outcome === APPLIED) return { outcome: 'applied', result: undefined, ...at }
  if (outcome === NOT_APPLIED) return { outcome: 'not-applied', ...at }
  throw damaged()
}

function damaged(): ClusterError {
  return new ClusterError('CORRUPT_DATA', 'an encoded question about a write is damaged')
}
