import { expect, test } from 'vitest'
import { SqliteDatabase } from '../sqlite/sqlite-library.ts'
import { classifyRead, classifyStatement, type StatementRule } from './statement-rules.ts'

const rule = (sql: string): string => {
  const { kind } = classifyStatement(sql)
  return kind
}
const word = (sql: string): string | undefined => {
  const found: StatementRule = classifyStatement(sql)
  return 'word' in found ? found.word : undefined
}

test('words of transactions and connections are refused in a write, each by its name', () => {
  const refused = {
    BEGIN: 'BEGIN',
    'begin immediate': 'BEGIN',
    'Commit;': 'COMMIT',
    'END TRANSACTION': 'END',
    ROLLBACK: 'ROLLBACK',
    'ROLLBACK TO x': 'ROLLBACK',
    'SAVEPOINT "s"': 'SAVEPOINT',
    'RELEASE s': 'RELEASE',
    "ATTACH DATABASE 'x' AS y": 'ATTACH',
    'DETACH y': 'DETACH',
    'CREATE TEMP TABLE x(a)': 'CREATE TEMP',
    'CREATE TEMPORARY VIEW x AS SELECT 1': 'CREATE TEMP',
    'create temp trigger x after insert on t begin select 1; end': 'CREATE TEMP',
    'CREATE TABLE temp.x(a)': 'CREATE TEMP',
    'CREATE TABLE IF NOT EXISTS "temp" . x(a)': 'CREATE TEMP',
    'CREATE UNIQUE INDEX IF NOT EXISTS [TEMP].x ON t(a)': 'CREATE TEMP',
    'CREATE VIRTUAL TABLE temp.x USING fts5(a)': 'CREATE TEMP',
    "VACUUM INTO 'x'": 'VACUUM INTO',
    'VACUUM main INTO ?': 'VACUUM INTO',
    'PRAGMA journal_mode = DELETE': 'PRAGMA journal_mode =',
    'PRAGMA main.synchronous(OFF)': 'PRAGMA synchronous =',
    'PRAGMA "foreign_keys" = 0': 'PRAGMA foreign_keys =',
    'PRAGMA wal_checkpoint': 'PRAGMA wal_checkpoint',
    'PRAGMA case_sensitive_like = 1': 'PRAGMA case_sensitive_like',
    'PRAGMA temp.user_version = 1': 'PRAGMA temp',
    'EXPLAIN PRAGMA cache_size = 5': 'PRAGMA cache_size =',
    'EXPLAIN QUERY PLAN PRAGMA cache_size = 5': 'PRAGMA cache_size =',
    'PRAGMA writable_schema = 1': 'PRAGMA writable_schema =',
  }
  for (const [sql, name] of Object.entries(refused)) expect([sql, rule(sql), word(sql)]).toEqual([sql, 'refused', name])
})

test('what SQLite skips in front of a statement does not hide it', () => {
  for (const before of [
    ' \t\r\n\f',
    ';',
    ';;/* x */;',
    '-- BEGINNING\n',
    '/**/',
    '/* ; */ -- "\n',
    '\uFEFF',
    '/*/ * /*/',
  ]) {
    expect([before, rule(`${before}BEGIN`)]).toEqual([before, 'refused'])
    expect([before, rule(`${before}/* between */BEGIN/* after */`)]).toEqual([before, 'refused'])
  }
})

test('what only looks like it is plain', () => {
  const plain = [
    'INSERT INTO t VALUES (1)',
    '/* BEGIN */ SELECT 1',
    '-- COMMIT',
    '"BEGIN"',
    "SELECT 'BEGIN'",
    'BEGINNING',
    'EXPLAIN BEGIN',
    'EXPLAIN QUERY PLAN VACUUM',
    'CREATE TABLE temp(a)',
    'CREATE TABLE temporary(a)',
    'CREATE TABLE t AS SELECT * FROM temp.x',
    'CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END',
    'WITH begin AS (SELECT 1) SELECT * FROM begin',
    'REINDEX',
    'ANALYZE',
    '',
    ';',
  ]
  for (const sql of plain) expect([sql, classifyStatement(sql)]).toEqual([sql, { kind: 'plain', isPragma: false }])
})

test('VACUUM runs outside a transaction, deferring foreign keys in one of its own', () => {
  for (const sql of ['VACUUM', 'vacuum main;', 'VACUUM "into"', ';VACUUM'])
    expect([sql, rule(sql)]).toEqual([sql, 'outside-transaction'])
  for (const sql of ['PRAGMA defer_foreign_keys = ON', 'pragma main.defer_foreign_keys(1)'])
    expect([sql, rule(sql)]).toEqual([sql, 'alone'])
})

test('pragmas that replicate or only ask are plain', () => {
  for (const sql of [
    'PRAGMA user_version = 5',
    'PRAGMA application_id(7)',
    'PRAGMA optimize',
    'PRAGMA incremental_vacuum(3)',
    'PRAGMA foreign_key_check(t)',
    'PRAGMA main.table_info(t)',
    'PRAGMA journal_mode',
    'PRAGMA foreign_keys;',
  ]) {
    expect([sql, classifyStatement(sql)]).toEqual([sql, { kind: 'plain', isPragma: true }])
  }
})

test('a read handle takes reads only: no word of transactions, no VACUUM, no pragma that changes anything', () => {
  for (const sql of [
    'BEGIN',
    ';COMMIT',
    'END',
    'ROLLBACK',
    'SAVEPOINT s',
    'RELEASE s',
    "ATTACH 'x' AS y",
    'DETACH y',
    'VACUUM',
    "VACUUM INTO 'x'",
    'CREATE TEMP TABLE x(a)',
    'PRAGMA user_version = 5',
    'PRAGMA optimize',
    'PRAGMA incremental_vacuum',
    'PRAGMA query_only = 0',
    'PRAGMA wal_checkpoint',
    'PRAGMA nobody_knows',
    'EXPLAIN PRAGMA query_only = 0',
    'PRAGMA defer_foreign_keys = 1',
  ]) {
    expect([sql, classifyRead(sql).kind]).toEqual([sql, 'refused'])
  }
  for (const sql of [
    'SELECT 1',
    'EXPLAIN BEGIN',
    'PRAGMA user_version',
    'PRAGMA table_info(t)',
    'PRAGMA integrity_check(5)',
    'PRAGMA page_count',
    'WITH x AS (SELECT 1) SELECT * FROM x',
    'INSERT INTO t VALUES (1)',
  ]) {
    expect([sql, classifyRead(sql)]).toEqual([sql, { kind: 'plain' }])
  }
})

test('every pragma allowed on a read handle is read-only for SQLite, and leaves the settings of the connection alone', () => {
  const db = new SqliteDatabase(':memory:')
  const settings = (): unknown =>
    [
      'cache_size',
      'synchronous',
      'foreign_keys',
      'query_only',
      'user_version',
      'journal_mode',
      'locking_mode',
      'busy_timeout',
    ].map((name) => db.pragma(name, { simple: true }))
  const before = settings()
  const names = db.prepare('SELECT name FROM pragma_pragma_list').pluck().all() as string[]
  const allowed = names.filter((name) => classifyRead(`PRAGMA ${name}`).kind === 'plain')
  expect(allowed.length).toBeGreaterThan(40)
  for (const name of allowed) {
    const statement = db.prepare(`PRAGMA ${name}`)
    if (statement.reader) statement.all()
    else statement.run()
    // journal_mode is the one pragma that SQLite never calls read-only.
    expect([name, statement.readonly]).toEqual([name, name !== 'journal_mode'])
  }
  expect(settings()).toEqual(before)
  db.close()
})
