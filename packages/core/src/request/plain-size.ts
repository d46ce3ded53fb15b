/** What a value costs in queues and on the wire, found in the same walk that checks that it can cross at all. */
import { ClusterError } from '../errors/cluster-error.ts'
import { DEPTH_MAX, isPlainObject, notPlain } from './plain-writer.ts'
import type { PlainValue } from './plain-value.ts'

/** An estimate in bytes. Throws `INVALID_REQUEST` for what is not a `PlainValue`: functions, class instances, cycles. */
export function plainSize(value: PlainValue, depth = 0): number {
  switch (typeof value) {
    case 'string':
      return value.length + 8
    case 'bigint':
      return BigInt.asIntN(64, value) === value ? 8 : 8 + value.toString(16).length
    case 'number':
    case 'boolean':
    case 'undefined':
      return 8
    case 'object':
      return value === null ? 8 : objectSize(value, depth)
    default:
      throw notPlain(value)
  }
}

function objectSize(value: object, depth: number): number {
  if (depth >= DEPTH_MAX) {
    throw new ClusterError('INVALID_REQUEST', `a value is nested deeper than ${DEPTH_MAX} levels, or contains itself`)
  }
  if (value instanceof Uint8Array) return value.length + 8
  if (value instanceof Date) return 8
  let size = 8
  if (Array.isArray(value)) {
    // By index: a hole counts, and is read as undefined.
    for (let i = 0; i < value.length; i++) size += plainSize(value[i] as PlainValue, depth + 1)
    return size
  }
  if (!isPlainObject(value)) throw notPlain(value)
  for (const key of Object.keys(value)) {
    size += key.length + 8 + plainSize((value as Record<string, PlainValue>)[key], depth + 1)
  }
  return size
}
