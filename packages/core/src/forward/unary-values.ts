/**
 * SQL values and plain values between this package and the messages of the unary methods, both ways, exactly.
 * @see proto/litefleet/v1/peer.proto
 */
import { ClusterError } from '../errors/cluster-error.ts'
import type { WirePlainValue, WireSqlValue } from '../peer/unary-messages.ts'
import type { PlainValue } from '../request/plain-value.ts'
import type { SqlValue } from '../request/sql-value.ts'

/** Like `request/plain-writer.ts`: deeper is refused. */
const DEPTH_MAX = 100

export function encodeSqlValue(value: SqlValue): WireSqlValue {
  switch (typeof value) {
    case 'number':
      return { number: value }
    case 'bigint':
      return { integer: value.toString() }
    case 'string':
      return { text: value }
    default:
      return value === null ? { null: true } : { blob: value }
  }
}

/** @throws INVALID_REQUEST when no kind is set */
export function decodeSqlValue(wire: WireSqlValue | null | undefined): SqlValue {
  switch (wire?.kind) {
    case 'null':
      return null
    case 'number':
      return wire.number as number
    case 'integer':
      return BigInt(wire.integer as string)
    case 'text':
      return wire.text as string
    case 'blob':
      return wire.blob as Uint8Array
    default:
      throw new ClusterError('INVALID_REQUEST', 'a SQL value has no kind')
  }
}

export function encodePlainValue(value: PlainValue): WirePlainValue {
  switch (typeof value) {
    case 'undefined':
      return { undefined: true }
    case 'boolean':
      return { boolean: value }
    case 'number':
      return { number: value }
    case 'bigint':
      return { bigint: value.toString() }
    case 'string':
      return { text: value }
    default:
      break
  }
  if (value === null) return { null: true }
  if (value instanceof Uint8Array) return { bytes: value }
  if (value instanceof Date) return { date: value.getTime() }
  if (Array.isArray(value)) return { list: { items: (value as readonly PlainValue[]).map(encodePlainValue) } }
  const entries = Object.entries(value as { readonly [key: string]: PlainValue })
  return { object: { entries: entries.map(([key, item]) => ({ key, value: encodePlainValue(item) })) } }
}

/** An unset value is `undefined`. @throws INVALID_REQUEST */
export function decodePlainValue(wire: WirePlainValue | null | undefined, depth = 0): PlainValue {
  if (depth > DEPTH_MAX) throw new ClusterError('INVALID_REQUEST', `a value is nested deeper than ${DEPTH_MAX} levels`)
  switch (wire?.kind) {
    case undefined:
    case 'undefined':
      return undefined
    case 'null':
      return null
    case 'boolean':
      return wire.boolean
    case 'number':
      return wire.number
    case 'bigint':
      return decodeBigint(wire.bigint as string)
    case 'text':
      return wire.text
    case 'bytes':
      return wire.bytes
    case 'date':
      return new Date(wire.date as number)
    case 'list':
      return wire.list?.items.map((item) => decodePlainValue(item, depth + 1))
    case 'object':
      // fromEntries defines own properties, whatever their names.
      return Object.fromEntries(
        (wire.object?.entries ?? []).map(({ key, value }) => [key, decodePlainValue(value, depth + 1)]),
      )
    default:
      throw new ClusterError('INVALID_REQUEST', 'a value has an unknown kind')
  }
}

function decodeBigint(digits: string): bigint {
  if (/^-?\d{1,10000}$/.test(digits)) return BigInt(digits)
  throw new ClusterError('INVALID_REQUEST', 'a bigint is not written in decimal digits')
}
