/**
 * A call of a registered function in the compact form of the channel (protocol version 1).
 *
 *   call     string function name; byte 1: only on the primary, 0: on any node; value input
 *   answer   value
 * Values as in `request/plain-writer.ts`.
 */
import { ClusterError } from '../errors/cluster-error.ts'
import { PlainReader } from '../request/plain-reader.ts'
import type { PlainValue } from '../request/plain-value.ts'
import { PlainWriter } from '../request/plain-writer.ts'

export interface FunctionCall {
  readonly name: string
  readonly onPrimaryOnly: boolean
  readonly input: PlainValue
}

/** @throws INVALID_REQUEST for an input that cannot cross */
export function encodeFunctionCall(call: FunctionCall): Buffer {
  const writer = new PlainWriter()
  writer.string(call.name)
  writer.byte(call.onPrimaryOnly ? 1 : 0)
  writer.value(call.input)
  return writer.written
}

/** @throws CORRUPT_DATA */
export function decodeFunctionCall(bytes: Buffer): FunctionCall {
  const reader = new PlainReader(bytes)
  const call = { name: reader.string(), onPrimaryOnly: reader.byte() === 1, input: reader.value() }
  requireEnd(reader)
  return call
}

/** @throws INVALID_REQUEST for a value that cannot cross */
export function encodeFunctionAnswer(value: PlainValue): Buffer {
  const writer = new PlainWriter()
  writer.value(value)
  return writer.written
}

/** @throws CORRUPT_DATA */
export function decodeFunctionAnswer(bytes: Buffer): PlainValue {
  const reader = new PlainReader(bytes)
  const value = reader.value()
  requireEnd(reader)
  return value
}

function requireEnd(reader: PlainReader): void {
  if (!reader.isAtEnd) throw new ClusterError('CORRUPT_DATA', 'an encoded call is damaged')
}
