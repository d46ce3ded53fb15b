import { expect, test } from 'vitest'
import { isClusterError } from '../errors/cluster-error.ts'
import { SqliteDatabase } from '../sqlite/sqlite-library.ts'
import { admitOperation } from './admit-operation.ts'
import type { SqlParams } from './sql-value.ts'
import type { WriteOperation } from './write-request.ts'

const batch = (sql: string, params?: unknown): WriteOperation => ({
  kind: 'batch',
  statements: [params === undefined ? { sql } : { sql, params: params as SqlParams }],
})

function isRefused(operation: unknown): boolean {
  try {
    admitOperation(operation as WriteOperation)
    return false
  } catch (error) {
    expect(isClusterError(error, 'INVALID_REQUEST')).toBe(true)
    return true
  }
}

/** What a local better-sqlite3 stores, or `refused`. */
function local(sql: string, params: unknown): unknown {
  const db = new SqliteDatabase(':memory:')
  try {
    return db.prepare(sql).raw().get(params)
  } catch {
    return 'refused'
  } finally {
    db.close()
  }
}

class Account {
  readonly a = 1
}

const VALUES: Record<string, unknown> = {
  null: null,
  undefined: undefined,
  true: true,
  NaN: Number.NaN,
  Infinity: Number.POSITIVE_INFINITY,
  '-0': -0,
  'large integer': 2 ** 60,
  bigint: 2n ** 63n - 1n,
  'bigint of 65 bits': 2n ** 63n,
  text: 'ü\0x',
  'lone surrogate': '\ud800',
  Uint8Array: new Uint8Array([1, 2]),
  'empty bytes': new Uint8Array(0),
  Buffer: Buffer.from('ab'),
  Float64Array: new Float64Array([1]),
  'part of a Uint16Array': new Uint16Array([1, 2, 3]).subarray(1),
  DataView: new DataView(new ArrayBuffer(1)),
  ArrayBuffer: new ArrayBuffer(1),
  Date: new Date(),
  object: {},
  array: [1],
  'boxed string': Object('x'),
  function: () => 1,
  symbol: Symbol('s'),
}

test('each value is bound, or refused, exactly as better-sqlite3 does, by position and by name', () => {
  for (const [name, value] of Object.entries(VALUES)) {
    const forms: [string, unknown][] = [
      ['SELECT typeof(?1), ?1'.replaceAll('?1', '?'), [value, value]],
      ['SELECT typeof(@v), :v', { v: value }],
    ]
    for (const [sql, params] of forms) {
      const expected = local(sql, params)
      if (isRefused(batch(sql, params))) {
        expect([name, sql, expected]).toEqual([name, sql, 'refused'])
        continue
      }
      const { operation } = admitOperation(batch(sql, params))
      if (operation.kind !== 'batch') throw new Error('not a batch')
      expect([name, sql, local(sql, operation.statements[0]?.params)]).toStrictEqual([name, sql, expected])
    }
  }
})

test('values that are not plain SQL values are replaced by those they stand for, so that they travel', () => {
  // oxlint-disable-next-line no-sparse-arrays
  const { operation } = admitOperation(batch('x', [undefined, , 1, new Uint16Array([258])]))
  expect(operation).toStrictEqual({
    kind: 'batch',
    statements: [{ sql: 'x', params: [null, null, 1, new Uint8Array([2, 1])] }],
  })
})

test('an operation without anything to replace is handed on as it is', () => {
  const operation = batch('x', [1, 'a', null, Buffer.from('x')])
  expect(admitOperation(operation).operation).toBe(operation)
  const named = batch('x', { a: 1 })
  expect(admitOperation(named).operation).toBe(named)
})

test('an object may carry more than the statement has parameters; what cannot be bound is then left out', () => {
  const account = { id: 1, name: 'Ana', active: true, since: new Date(), $tags: ['x'] }
  const sql = 'INSERT INTO t VALUES (@id, :name, $missing::x(1), ?4) -- @active\n'
  const { operation } = admitOperation(batch(sql, account))
  expect(operation).toStrictEqual({ kind: 'batch', statements: [{ sql, params: { id: 1, name: 'Ana' } }] })
  expect(isRefused(batch('INSERT INTO t VALUES (@id, @active)', account))).toBe(true)
  expect(isRefused(batch("INSERT INTO t VALUES (@id, '@active')", account))).toBe(false)
  expect(isRefused(batch('SELECT ?7', { 7: true }))).toBe(true)
})

test('parameters come in an array or a plain object', () => {
  expect(isRefused(batch('x', new Account()))).toBe(true)
  expect(isRefused(batch('x', Object.assign(Object.create(null), { a: 1 })))).toBe(false)
  for (const params of ['a', 1, true, null, new Map(), Buffer.from('x')])
    expect(isRefused(batch('x', params))).toBe(true)
})

test('malformed operations are refused', () => {
  const malformed = [
    { kind: 'batch', statements: [] },
    { kind: 'batch', statements: 'SELECT 1' },
    { kind: 'batch', statements: [null] },
    { kind: 'batch', statements: [{ sql: 5 }] },
    { kind: 'batch', statements: [{ sql: 'x', args: [] }] },
    { kind: 'batch', statements: [{ sql: 'x', safeIntegers: 1 }] },
    { kind: 'procedure', name: '', input: 1 },
    { kind: 'procedure', name: 'p', input: () => 1 },
    { kind: 'query' },
  ]
  for (const operation of malformed) expect([operation, isRefused(operation)]).toEqual([operation, true])
})

test('bytes grow with texts and values', () => {
  const size = (params: unknown): number => admitOperation(batch('x', params)).bytes
  expect(size(['x'.repeat(1_000)]) - size([''])).toBe(1_000)
  expect(size([new Uint8Array(1_000)]) - size([new Uint8Array(0)])).toBe(1_000)
  expect(admitOperation({ kind: 'procedure', name: 'p', input: ['x'.repeat(1_000)] }).bytes).toBeGreaterThan(1_000)
})
