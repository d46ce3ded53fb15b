/**
 * Plain values and operations as JSON that a person can read and a program can turn back exactly: what JSON has no word for is an object
 * with one key that begins with `$`.
 *
 *   {"$bytes": base64} · {"$bigint": digits} · {"$number": "NaN" | "Infinity" | "-Infinity" | "-0"} · {"$date": ms or null}
 *   {"$undefined": true} · {"$object": {…}}: an object that has itself one key that begins with `$`
 */
import { ClusterError } from '../errors/cluster-error.ts'
import type { PlainValue } from './plain-value.ts'
import { setOwn } from './plain-reader.ts'
import { DEPTH_MAX } from './plain-writer.ts'
import type { SqlParams } from './sql-value.ts'
import type { SqlStatement, WriteOperation } from './write-request.ts'

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json }

export function plainToJson(value: PlainValue): Json {
  switch (typeof value) {
    case 'undefined':
      return { $undefined: true }
    case 'bigint':
      return { $bigint: value.toString() }
    case 'number':
      if (Object.is(value, -0)) return { $number: '-0' }
      return Number.isFinite(value) ? value : { $number: String(value) }
    case 'boolean':
    case 'string':
      return value
    default:
      return value === null ? null : objectToJson(value)
  }
}

/** @throws CORRUPT_DATA */
export function plainFromJson(json: Json, depth = 0): PlainValue {
  if (json === null || typeof json !== 'object') return json
  // As in the compact form: nothing deeper was ever written, and a document that is deeper would use up the stack.
  if (depth >= DEPTH_MAX) throw damaged()
  if (isList(json)) return json.map((item) => plainFromJson(item, depth + 1))
  const [key, ...more] = Object.keys(json)
  if (key === undefined || more.length > 0 || !key.startsWith('$')) return objectFromJson(json, depth)
  const inner = json[key]
  switch (key) {
    case '$undefined':
      return undefined
    case '$bigint':
      if (typeof inner === 'string' && /^-?\d+$/.test(inner)) return BigInt(inner)
      break
    case '$number':
      if (typeof inner === 'string') return Number(inner)
      break
    case '$bytes':
      if (typeof inner === 'string') return Buffer.from(inner, 'base64')
      break
    case '$date':
      if (inner === null || typeof inner === 'number') return new Date(inner ?? Number.NaN)
      break
    case '$object':
      if (typeof inner === 'object' && inner !== null && !isList(inner)) return objectFromJson(inner, depth)
      break
    default:
      break
  }
  throw damaged()
}

export function operationToJson(operation: WriteOperation): Json {
  if (operation.kind === 'procedure') return { procedure: operation.name, input: plainToJson(operation.input) }
  return {
    statements: operation.statements.map(({ sql, params, safeIntegers }) => ({
      sql,
      ...(params === undefined ? {} : { params: plainToJson(params as PlainValue) }),
      ...(safeIntegers === true ? { safeIntegers } : {}),
    })),
  }
}

/** @throws CORRUPT_DATA */
export function operationFromJson(json: Json): WriteOperation {
  if (json === null || typeof json !== 'object' || isList(json)) throw damaged()
  const { procedure, input, statements } = json
  if (typeof procedure === 'string') return { kind: 'procedure', name: procedure, input: plainFromJson(input ?? null) }
  if (!Array.isArray(statements)) throw damaged()
  return { kind: 'batch', statements: statements.map(statementFromJson) }
}

function statementFromJson(json: Json): SqlStatement {
  if (json === null || typeof json !== 'object' || isList(json) || typeof json['sql'] !== 'string') throw damaged()
  const { sql, params, safeIntegers } = json
  return {
    sql,
    ...(params === undefined ? {} : { params: plainFromJson(params) as SqlParams }),
    ...(safeIntegers === true ? { safeIntegers } : {}),
  }
}

function objectToJson(value: Exclude<PlainValue, null> & object): Json {
  if (value instanceof Date) return { $date: Number.isNaN(value.getTime()) ? null : value.getTime() }
  if (value instanceof Uint8Array)
    return { $bytes: Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64') }
  if (isPlainList(value)) return value.map(plainToJson)
  const json: Record<string, Json> = {}
  for (const [key, inner] of Object.entries(value)) setOwn(json, key, plainToJson(inner))
  const [only, ...more] = Object.keys(json)
  return only !== undefined && more.length === 0 && only.startsWith('$') ? { $object: json } : json
}

function objectFromJson(json: { readonly [key: string]: Json }, depth: number): PlainValue {
  const value: Record<string, PlainValue> = {}
  for (const [key, inner] of Object.entries(json)) setOwn(value, key, plainFromJson(inner, depth + 1))
  return value
}

function isList(json: object): json is readonly Json[] {
  return Array.isArray(json)
}

function isPlainList(value: object): value is readonly PlainValue[] {
  return Array.isArray(value)
}

function damaged(): ClusterError {
  return new ClusterError('CORRUPT_DATA', 'a value in JSON cannot be read')
}
