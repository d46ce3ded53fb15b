/**
 * A write and its answer in the compact form of the channel (protocol version 1).
 *
 * Values as in `request/plain-writer.ts`; `string` is a value with its tag.
 *   call     string database; value request id; value idempotency key; level; operation as in `request/operation-codec.ts`
 *   answer   4 bytes big-endian: length of the head; head; result as in `request/answer-codec.ts`, to the end
 *   head     position (position-codec.ts); varint epoch; level; value request id; byte replayed;
 *            varint count and strings of uncounted replicas
 *   level    varint: 0 none, 1 local, 2 majority, 3 all, 4 + n for n replicas
 * The timeout travels in the request around it; the database of an answer is the one asked.
 */
import { ClusterError } from '../errors/cluster-error.ts'
import { epoch } from '../position/epoch.ts'
import { decodeAnswer, writeAnswer } from '../request/answer-codec.ts'
import type { AwaitLevel } from '../request/await-level.ts'
import { type DatabaseName, databaseName } from '../request/database-name.ts'
import { readOperation, writeOperation } from '../request/operation-codec.ts'
import { PlainReader } from '../request/plain-reader.ts'
import type { PlainValue } from '../request/plain-value.ts'
import { PlainWriter } from '../request/plain-writer.ts'
import { parseRequestId, type RequestId } from '../request/request-id.ts'
import { readPosition, writePosition } from './position-codec.ts'
import type { WriteAnswer, WriteCall } from './write-call.ts'

const NAMED_LEVELS = ['none', 'local', 'majority', 'all'] as const
const HEAD_LENGTH_BYTES = 4

/** Encodes into memory it reuses; what it answers is the caller's. */
export class WriteCodec {
  readonly #writer = new PlainWriter()

  /** @throws INVALID_REQUEST for values that cannot cross */
  encodeCall(call: WriteCall): Buffer {
    const writer = this.#writer
    writer.reset()
    writer.string(call.database)
    writer.value(call.requestId)
    writer.value(call.idempotencyKey)
    writeLevel(writer, call.await)
    writeOperation(writer, call.operation)
    return Buffer.from(writer.written)
  }

  /** @throws INVALID_REQUEST for a procedure's value that cannot cross */
  encodeAnswer(answer: WriteAnswer): Buffer {
    const writer = this.#writer
    writer.reset()
    for (let i = 0; i < HEAD_LENGTH_BYTES; i++) writer.byte(0)
    writePosition(writer, answer.position)
    writer.varint(answer.epoch)
    writeLevel(writer, answer.level)
    writer.value(answer.requestId)
    writer.byte(answer.replayed ? 1 : 0)
    writer.varint(answer.uncounted.length)
    for (const name of answer.uncounted) writer.string(name)
    const resultAt = writer.written.length
    writeAnswer(writer, answer.result)
    const bytes = Buffer.from(writer.written)
    bytes.writeUInt32BE(resultAt - HEAD_LENGTH_BYTES, 0)
    return bytes
  }
}

/** @throws CORRUPT_DATA, INVALID_DATABASE_NAME */
export function decodeCall(bytes: Buffer, timeoutMs: number): WriteCall {
  const reader = new PlainReader(bytes)
  const database = databaseName(reader.string())
  const requestId = readRequestId(reader)
  const key = reader.value()
  if (key !== undefined && typeof key !== 'string') throw damaged()
  const level = readLevel(reader)
  const operation = readOperation(reader)
  if (!reader.isAtEnd) throw damaged()
  return { database, requestId, idempotencyKey: key, await: level, operation, timeoutMs }
}

/** @throws CORRUPT_DATA */
export function decodeWriteAnswer(bytes: Buffer, database: DatabaseName): WriteAnswer {
  if (bytes.length < HEAD_LENGTH_BYTES) throw damaged()
  const resultAt = HEAD_LENGTH_BYTES + bytes.readUInt32BE(0)
  const reader = new PlainReader(bytes.subarray(HEAD_LENGTH_BYTES, resultAt))
  const position = readPosition(reader)
  const answer = {
    database,
    position,
    epoch: epoch(reader.varint()),
    level: readLevel(reader),
    requestId: readRequestId(reader),
    replayed: reader.byte() === 1,
    uncounted: Array.from({ length: reader.count() }, () => reader.string()),
    result: decodeAnswer(bytes.subarray(resultAt)),
  }
  if (!reader.isAtEnd) throw damaged()
  return answer
}

function writeLevel(writer: PlainWriter, level: AwaitLevel): void {
  writer.varint(typeof level === 'string' ? NAMED_LEVELS.indexOf(level) : NAMED_LEVELS.length + level.replicas)
}

function readLevel(reader: PlainReader): AwaitLevel {
  const code = reader.varint()
  return NAMED_LEVELS[code] ?? { replicas: code - NAMED_LEVELS.length }
}

function readRequestId(reader: PlainReader): RequestId | undefined {
  const text: PlainValue = reader.value()
  if (text === undefined) return undefined
  const id = typeof text === 'string' ? parseRequestId(text) : undefined
  if (id === undefined) throw damaged()
  return id
}

function damaged(): ClusterError {
  return new ClusterError('CORRUPT_DATA', 'an encoded write is damaged')
}
