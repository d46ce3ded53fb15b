import { afterEach, expect, test } from 'vitest'
import type { Connection } from './connection.ts'
import { SqliteDatabase } from './sqlite-library.ts'
import { StatementCache } from './statement-cache.ts'

const memory: Connection = new SqliteDatabase(':memory:')
afterEach(() => void memory.exec('DROP TABLE IF EXISTS t'))

test('the same text gives the same statement', () => {
  const cache = new StatementCache(memory, 3)
  expect(cache.get('SELECT 1')).toBe(cache.get('SELECT 1'))
  expect(cache.get('SELECT 1').pluck().get()).toBe(1)
})

test('beyond its size the least recently used statement goes', () => {
  const cache = new StatementCache(memory, 2)
  const one = cache.get('SELECT 1')
  const two = cache.get('SELECT 2')
  cache.get('SELECT 1')
  cache.get('SELECT 3')
  expect(cache.size).toBe(2)
  expect(cache.get('SELECT 1')).toBe(one)
  expect(cache.get('SELECT 2')).not.toBe(two)
})

test('a statement that is being iterated is not handed out again', () => {
  memory.exec('CREATE TABLE t(a); INSERT INTO t VALUES (1), (2)')
  const cache = new StatementCache(memory, 2)
  const statement = cache.get('SELECT a FROM t')
  for (const _row of statement.iterate()) {
    const other = cache.get('SELECT a FROM t')
    expect(other).not.toBe(statement)
    expect(other.all()).toHaveLength(2)
  }
  expect(cache.get('SELECT a FROM t')).toBe(statement)
})

test('a text that cannot be prepared is SQLite’s error and is not kept', () => {
  const cache = new StatementCache(memory, 2)
  expect(() => cache.get('SELECT * FROM missing')).toThrow(expect.objectContaining({ code: 'SQLITE_ERROR' }))
  expect(cache.size).toBe(0)
  cache.get('SELECT 1')
  cache.clear()
  expect(cache.size).toBe(0)
})
