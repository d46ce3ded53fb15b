import { expect, test } from 'vitest'
import { isClusterError } from '../errors/cluster-error.ts'
import type { SqlStatement } from '../request/write-request.ts'
import type { Connection } from '../sqlite/connection.ts'
import { SqliteDatabase } from '../sqlite/sqlite-library.ts'
import { StatementExecutor } from './statement-executor.ts'

const SCHEMA = `
  CREATE TABLE t(a INTEGER PRIMARY KEY, b);
  CREATE TABLE log(x INTEGER PRIMARY KEY, y);
  CREATE TABLE w(k TEXT PRIMARY KEY, v) WITHOUT ROWID;
  CREATE TRIGGER logged AFTER UPDATE ON t BEGIN INSERT INTO log(y) VALUES (NEW.a), (NEW.a); END;
  CREATE VIRTUAL TABLE f USING fts5(body);
`

const database = (): Connection => new SqliteDatabase(':memory:').exec(SCHEMA)

/**
 * What `run` answers locally. A statement with columns is run twice from the same state: once with `run`, for the counters,
 * and once with `all`, for the rows.
 */
function local(db: Connection, { sql, params, safeIntegers = false }: SqlStatement): unknown {
  const statement = db.prepare(sql).safeIntegers(safeIntegers)
  const bound = params === undefined ? [] : [params]
  if (!statement.reader) return statement.run(...bound)
  db.exec('SAVEPOINT x')
  const rows = statement.all(...bound)
  db.exec('ROLLBACK TO x; RELEASE x')
  return { ...statement.run(...bound), rows }
}

test('every statement answers what a local better-sqlite3 answers', () => {
  const [ours, theirs] = [database(), database()]
  const executor = new StatementExecutor(ours, 10)
  const statements: SqlStatement[] = [
    { sql: 'INSERT INTO t(b) VALUES (?), (?)', params: ['x', 5] },
    { sql: 'INSERT INTO t(a, b) VALUES (@a, @b)', params: { a: 9_007_199_254_740_993n, b: null } },
    { sql: 'INSERT INTO t(a, b) VALUES (@a, @b)', params: { a: 9_007_199_254_740_995n, b: 1.5 }, safeIntegers: true },
    { sql: 'SELECT a, b FROM t ORDER BY a' },
    { sql: 'SELECT a, b FROM t ORDER BY a', safeIntegers: true },
    { sql: 'SELECT a FROM t WHERE a = ?', params: [1] },
    { sql: 'UPDATE t SET b = 1 WHERE a < 3' },
    { sql: 'UPDATE t SET b = 2 WHERE a < 3 RETURNING a, b' },
    { sql: 'UPDATE t SET b = 2 WHERE a < 0 RETURNING a, b' },
    { sql: 'UPDATE t SET b = 2 WHERE a < 0' },
    { sql: 'INSERT INTO t(b) VALUES (?), (?), (?) RETURNING *', params: ['p', 'q', Buffer.from([1])] },
    { sql: 'INSERT INTO t(b) VALUES (?) RETURNING a', params: [Number.NaN], safeIntegers: true },
    { sql: 'INSERT INTO t(a) VALUES (1) ON CONFLICT DO NOTHING' },
    { sql: 'INSERT INTO t(a) VALUES (1) ON CONFLICT DO NOTHING RETURNING a' },
    { sql: 'INSERT INTO t(a, b) VALUES (1, 7) ON CONFLICT DO UPDATE SET b = excluded.b RETURNING b' },
    { sql: 'REPLACE INTO t(a, b) VALUES (2, 8)' },
    { sql: "INSERT INTO w VALUES ('k', 1), ('l', 2)" },
    { sql: "DELETE FROM w WHERE k = 'l' RETURNING v" },
    { sql: "INSERT INTO f(body) VALUES ('some text')" },
    { sql: "SELECT rowid, body FROM f WHERE f MATCH 'text'" },
    { sql: 'CREATE TABLE later(a)' },
    { sql: 'ALTER TABLE t ADD COLUMN c DEFAULT 3' },
    { sql: 'SELECT * FROM t WHERE a = 1' },
    { sql: 'WITH x(n) AS (SELECT 1 UNION SELECT 2) INSERT INTO later SELECT n FROM x' },
    { sql: 'DELETE FROM later' },
    { sql: 'PRAGMA user_version = 3' },
    { sql: 'PRAGMA user_version' },
    { sql: 'UPDATE t SET b = 3 WHERE a = 1' },
    { sql: 'PRAGMA journal_mode' },
    { sql: 'PRAGMA table_info(later)' },
    { sql: 'EXPLAIN QUERY PLAN SELECT * FROM t' },
    { sql: 'DROP TABLE later' },
    { sql: 'SELECT 1 AS "__proto__", 2 AS x, 3 AS x' },
    { sql: 'DELETE FROM w' },
    { sql: 'DELETE FROM t' },
  ]
  for (let round = 0; round < 2; round++) {
    for (const statement of statements) {
      expect([statement.sql, executor.execute(statement)]).toStrictEqual([statement.sql, local(theirs, statement)])
      if (statement.sql.startsWith('ALTER'))
        for (const db of [ours, theirs]) db.exec('ALTER TABLE t RENAME COLUMN c TO c2; ALTER TABLE t DROP COLUMN c2')
    }
  }
  expect(ours.prepare('SELECT * FROM log').all()).toEqual(theirs.prepare('SELECT * FROM log').all())
})

test('errors are those of a local better-sqlite3', () => {
  const [ours, theirs] = [database(), database()]
  const executor = new StatementExecutor(ours, 10)
  const statements: SqlStatement[] = [
    { sql: 'INSERT INTO t(a) VALUES (1), (1)' },
    { sql: 'INSERT INTO nowhere VALUES (1)' },
    { sql: 'SELEC 1' },
    { sql: '' },
    { sql: 'SELECT 1; SELECT 2' },
    { sql: 'INSERT INTO t VALUES (?, ?)', params: [1] },
    { sql: 'INSERT INTO t VALUES (?, ?)', params: [1, 2, 3] },
    { sql: 'INSERT INTO t VALUES (?, ?)' },
    { sql: 'INSERT INTO t VALUES (@a, @b)', params: { a: 1 } },
    { sql: 'INSERT INTO t VALUES (@a, @b)', params: [1, 2] },
    { sql: "SELECT json('bad')" },
    { sql: "INSERT INTO t SELECT 1, json('bad')" },
  ]
  for (const statement of statements) {
    expect([statement.sql, shape(() => executor.execute(statement))]).toEqual([
      statement.sql,
      shape(() => local(theirs, statement)),
    ])
  }
})

function shape(work: () => unknown): unknown {
  try {
    work()
  } catch (error) {
    const { name, message, code } = error as Error & { code?: string }
    return { name, message, code }
  }
  return 'no error'
}

test('a refused pragma does not even take effect by being prepared', () => {
  const db = database()
  const executor = new StatementExecutor(db, 10)
  const before = db.pragma('cache_size', { simple: true })
  for (const sql of ['PRAGMA cache_size = -77', 'EXPLAIN PRAGMA cache_size = -77', '; PRAGMA main.cache_size(-77)']) {
    let thrown: unknown
    try {
      executor.execute({ sql })
    } catch (error) {
      thrown = error
    }
    expect(isClusterError(thrown, 'STATEMENT_REFUSED')).toBe(true)
  }
  expect(db.pragma('cache_size', { simple: true })).toBe(before)
})

test('few texts are kept, and a forgotten one works again', () => {
  const db = database()
  let prepared = 0
  const prepare = db.prepare.bind(db)
  db.prepare = (sql: string) => {
    prepared++
    return prepare(sql)
  }
  const executor = new StatementExecutor(db, 4)
  prepared = 0
  const select = (n: number): unknown => executor.execute({ sql: `SELECT ${n} AS n` }).rows
  for (let round = 0; round < 5; round++) for (const n of [1, 2]) expect(select(n)).toEqual([{ n }])
  expect(prepared).toBe(2)
  for (let n = 10; n < 20; n++) expect(select(n)).toEqual([{ n }])
  expect(prepared).toBe(12)
  expect(select(1)).toEqual([{ n: 1 }])
  expect(prepared).toBe(13)
  // A long text is prepared each time and pushes nobody out.
  const long = `SELECT '${'x'.repeat(20_000)}' AS x`
  executor.execute({ sql: long })
  executor.execute({ sql: long })
  expect(select(1)).toEqual([{ n: 1 }])
  expect(prepared).toBe(15)
})

test('a setup hook that makes bigints the default of its connection does not change answers', () => {
  const db = database()
  db.defaultSafeIntegers(true)
  const executor = new StatementExecutor(db, 10)
  expect(executor.execute({ sql: 'INSERT INTO t(b) VALUES (1) RETURNING a, b' })).toEqual({
    changes: 1,
    lastInsertRowid: 1,
    rows: [{ a: 1, b: 1 }],
  })
  expect(executor.execute({ sql: 'INSERT INTO t(b) VALUES (1)', safeIntegers: true })).toEqual({
    changes: 1,
    lastInsertRowid: 2n,
  })
})
