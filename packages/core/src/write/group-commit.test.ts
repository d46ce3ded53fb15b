import { expect, test } from 'vitest'
import { ClusterError, isClusterError } from '../errors/cluster-error.ts'
import { makeSqliteError } from '../sqlite/sqlite-error.ts'
import { batchJob, errorOf, procedureJob, sqlJob, WriteFixture } from './test-support/write-fixture.ts'
import type { JobOutcome } from './write-job.ts'

const SCHEMA = `
  CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT UNIQUE, c INTEGER CHECK (c >= 0));
  CREATE TABLE parent(id INTEGER PRIMARY KEY);
  CREATE TABLE child(id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED);
  CREATE TABLE strict_child(id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parent(id));
  CREATE TABLE guarded(a INTEGER);
  CREATE TRIGGER refuse BEFORE INSERT ON guarded WHEN NEW.a = 13 BEGIN SELECT RAISE(ABORT, 'thirteen is refused'); END;
  CREATE TRIGGER undo BEFORE INSERT ON guarded WHEN NEW.a = 66 BEGIN SELECT RAISE(ROLLBACK, 'everything is undone'); END;
  CREATE TRIGGER partly AFTER INSERT ON guarded WHEN NEW.a = 77 BEGIN SELECT RAISE(FAIL, 'what was done stays'); END;
`
const fixture = (): WriteFixture => new WriteFixture({ schema: SCHEMA })
const insert = (a: number, b: string | null = null): ReturnType<typeof sqlJob> =>
  sqlJob('INSERT INTO t(a, b) VALUES (?, ?)', [a, b])
const kinds = (outcomes: readonly JobOutcome[]): string[] => outcomes.map((outcome) => outcome.kind)

test('requests of one batch share one transaction and get their own results', () => {
  using f = fixture()
  const ran = f.groupCommit.run([insert(1), insert(7), sqlJob('UPDATE t SET b = a')])
  expect(ran).toEqual({
    kind: 'ran',
    committed: true,
    outcomes: [
      { kind: 'done', replayed: false, result: { kind: 'batch', results: [{ changes: 1, lastInsertRowid: 1 }] } },
      { kind: 'done', replayed: false, result: { kind: 'batch', results: [{ changes: 1, lastInsertRowid: 7 }] } },
      { kind: 'done', replayed: false, result: { kind: 'batch', results: [{ changes: 2, lastInsertRowid: 7 }] } },
    ],
  })
  expect(f.begins).toBe(1)
  expect(f.committed('SELECT a FROM t ORDER BY a')).toEqual([1, 7])
})

test('a failing request leaves nothing and the others go on', () => {
  using f = fixture()
  const outcomes = f.run(
    insert(1, 'x'),
    batchJob([{ sql: 'INSERT INTO t(a) VALUES (2)' }, { sql: "INSERT INTO t(a, b) VALUES (3, 'x')" }]),
    insert(4),
  )
  expect(kinds(outcomes)).toEqual(['done', 'failed', 'done'])
  expect(errorOf(outcomes[1])).toMatchObject({
    name: 'SqliteError',
    code: 'SQLITE_CONSTRAINT_UNIQUE',
    message: 'UNIQUE constraint failed: t.b',
  })
  expect(f.committed('SELECT a FROM t ORDER BY a')).toEqual([1, 4])
})

test('the message of a trigger that aborts reaches the caller', () => {
  using f = fixture()
  const outcomes = f.run(insert(1), sqlJob('INSERT INTO guarded VALUES (13)'))
  expect(errorOf(outcomes[1])).toMatchObject({ code: 'SQLITE_CONSTRAINT_TRIGGER', message: 'thirteen is refused' })
})

test('a statement that fails halfway and keeps what it did (OR FAIL) leaves nothing either', () => {
  using f = fixture()
  const halfway = sqlJob("INSERT OR FAIL INTO t(a, b) VALUES (1, 'p'), (2, 'q'), (3, 'q')")
  const trigger = sqlJob('INSERT INTO guarded VALUES (1), (77), (2)')
  expect(kinds(f.run(halfway, insert(9), trigger))).toEqual(['failed', 'done', 'failed'])
  expect(kinds(f.run(halfway))).toEqual(['failed'])
  expect(kinds(f.run(trigger))).toEqual(['failed'])
  expect(f.committed('SELECT a FROM t ORDER BY a')).toEqual([9])
  expect(f.committed('SELECT a FROM guarded')).toEqual([])
})

test('RAISE(ROLLBACK) undoes its request only: the others run again', () => {
  using f = fixture()
  const outcomes = f.run(
    insert(1),
    sqlJob('INSERT INTO guarded VALUES (66)'),
    insert(2),
    sqlJob('INSERT INTO guarded VALUES (5)'),
  )
  expect(kinds(outcomes)).toEqual(['done', 'failed', 'done', 'done'])
  expect(errorOf(outcomes[1]).message).toBe('everything is undone')
  expect(f.committed('SELECT a FROM t ORDER BY a')).toEqual([1, 2])
  expect(f.committed('SELECT a FROM guarded')).toEqual([5])
})

test('INSERT OR ROLLBACK undoes its request only, also when groups run with savepoints', () => {
  using f = fixture()
  const orRollback = sqlJob("INSERT OR ROLLBACK INTO t(a, b) VALUES (10, 'same')")
  f.run(insert(1, 'same'))
  f.run(insert(2), insert(1)) // a failure: the next groups are careful
  const begins = f.begins
  expect(kinds(f.run(insert(3), orRollback, insert(4)))).toEqual(['done', 'failed', 'done'])
  expect(f.begins - begins).toBe(4) // the group, then each request alone
  expect(f.committed('SELECT a FROM t ORDER BY a')).toEqual([1, 2, 3, 4])
})

test('a deferred foreign key that fails at COMMIT costs its request only', () => {
  using f = fixture()
  const outcomes = f.run(insert(1), sqlJob('INSERT INTO child VALUES (1, 404)'), insert(2))
  expect(kinds(outcomes)).toEqual(['done', 'failed', 'done'])
  expect(errorOf(outcomes[1]).code).toBe('SQLITE_CONSTRAINT_FOREIGNKEY')
  expect(f.committed('SELECT a FROM t ORDER BY a')).toEqual([1, 2])
  expect(f.committed('SELECT * FROM child')).toEqual([])
  expect(kinds(f.run(sqlJob('INSERT INTO child VALUES (1, 404)')))).toEqual(['failed'])
  expect(f.writer.inTransaction).toBe(false)
})

test('a group without failures takes no savepoint; after a failure the next groups take one for each request', () => {
  using f = fixture()
  const begins = (): number => f.begins
  f.run(insert(1), insert(2))
  expect(begins()).toBe(1)
  f.run(insert(3), insert(3), insert(4))
  expect(begins()).toBe(3) // found out, and again
  f.run(insert(5), insert(5), insert(6))
  expect(begins()).toBe(4)
  expect(f.committed('SELECT a FROM t ORDER BY a')).toEqual([1, 2, 3, 4, 5, 6])
})

test('when nothing succeeded nothing is committed', () => {
  using f = fixture()
  f.run(insert(1))
  const ran = f.groupCommit.run([insert(1), insert(1)])
  expect(ran).toMatchObject({ kind: 'ran', committed: false })
})

test('refused statements are refused by name and touch nothing', () => {
  using f = fixture()
  for (const sql of [
    'COMMIT',
    ';;/* x */ begin',
    'SAVEPOINT s',
    'RELEASE _litefleet_request',
    "ATTACH 'x' AS y",
    'PRAGMA synchronous = 0',
  ]) {
    const outcomes = f.run(insert(1), sqlJob(sql), insert(1))
    expect(isClusterError(errorOf(outcomes[1]), 'STATEMENT_REFUSED'), sql).toBe(true)
    expect(kinds(outcomes)).toEqual(['done', 'failed', 'failed'])
    f.run(sqlJob('DELETE FROM t'))
  }
  expect(f.writer.pragma('synchronous', { simple: true })).toBe(0)
})

test('busy: when another process holds the write lock nothing runs and nothing is begun', () => {
  using f = fixture()
  const other = f.open()
  other.exec('BEGIN IMMEDIATE; INSERT INTO t(a) VALUES (100)')
  expect(f.groupCommit.run([insert(1), insert(2)])).toEqual({ kind: 'busy' })
  expect(f.groupCommit.run([insert(1)])).toEqual({ kind: 'busy' })
  expect(f.groupCommit.run([sqlJob('VACUUM')])).toEqual({ kind: 'busy' })
  expect(f.begins).toBe(0)
  other.exec('COMMIT')
  other.close()
  expect(kinds(f.run(insert(1), insert(2)))).toEqual(['done', 'done'])
})

test('busy in the middle: what did not run says that it did not', () => {
  using f = fixture()
  const other = f.open()
  // The group breaks at COMMIT; as soon as the first request has run alone, the other process comes in.
  const committed = f.ledger.committed.bind(f.ledger)
  f.ledger.committed = () => {
    committed()
    other.exec('BEGIN IMMEDIATE')
  }
  const outcomes = f.run(insert(1), sqlJob('INSERT INTO child VALUES (1, 404)'), insert(2))
  other.exec('ROLLBACK')
  other.close()
  expect(kinds(outcomes)).toEqual(['done', 'failed', 'failed'])
  expect(isClusterError(errorOf(outcomes[1]), 'DATABASE_BUSY')).toBe(true)
  expect(isClusterError(errorOf(outcomes[2]), 'DATABASE_BUSY')).toBe(true)
  expect(f.committed('SELECT a FROM t ORDER BY a')).toEqual([1])
})

test('afterBegin runs under the write lock, before anything is written, also for requests that run again', () => {
  const seen: number[] = []
  using f = new WriteFixture({
    schema: SCHEMA,
    afterBegin: () => {
      const other = f.open()
      expect(() => other.exec('BEGIN IMMEDIATE')).toThrow('database is locked')
      seen.push(other.prepare('SELECT count(*) FROM t').pluck().get() as number)
      other.close()
      expect(f.writer.inTransaction).toBe(true)
    },
  })
  f.run(insert(1), sqlJob('INSERT INTO child VALUES (1, 404)'), insert(2))
  expect(seen).toEqual([0, 0, 1, 1])
})

test('what afterBegin throws comes out of run, nothing was written and the lock is free', () => {
  let shouldThrow = true
  using f = new WriteFixture({
    schema: SCHEMA,
    afterBegin: () => {
      if (shouldThrow) throw new Error('cannot capture')
    },
  })
  expect(() => f.groupCommit.run([insert(1), insert(2)])).toThrow('cannot capture')
  expect(() => f.groupCommit.run([insert(1)])).toThrow('cannot capture')
  expect(f.writer.inTransaction).toBe(false)
  shouldThrow = false
  expect(kinds(f.run(insert(1), insert(2)))).toEqual(['done', 'done'])
})

test('what afterBegin throws after something was committed becomes the outcome of the rest, and a failure', () => {
  let begins = 0
  using f = new WriteFixture({
    schema: SCHEMA,
    afterBegin: () => {
      begins++
      if (begins === 3) throw new Error('cannot capture')
    },
  })
  // 1: the group, 2: the first request alone, 3: the second alone
  const ran = f.groupCommit.run([insert(1), sqlJob('INSERT INTO child VALUES (1, 404)'), insert(2)])
  expect(ran).toMatchObject({ kind: 'ran', committed: true })
  if (ran.kind !== 'ran') return
  expect((ran.failure as Error).message).toBe('cannot capture')
  expect(kinds(ran.outcomes)).toEqual(['done', 'failed', 'failed'])
  expect(f.committed('SELECT a FROM t ORDER BY a')).toEqual([1])
})

test('VACUUM runs outside any transaction, between the groups before and after it', () => {
  using f = fixture()
  f.run(
    sqlJob(
      'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) INSERT INTO t(a, b) SELECT i, hex(randomblob(100)) FROM n',
    ),
  )
  const before = f.writer.pragma('page_count', { simple: true }) as number
  const outcomes = f.run(sqlJob('DELETE FROM t WHERE a > 10'), sqlJob('VACUUM'), insert(5_000))
  expect(kinds(outcomes)).toEqual(['done', 'done', 'done'])
  expect(outcomes[1]).toMatchObject({ result: { kind: 'batch', results: [{ changes: 0 }] } })
  expect(f.writer.pragma('page_count', { simple: true })).toBeLessThan(before / 2)
  expect(f.committed('SELECT count(*) FROM t')).toEqual([11])
})

test('VACUUM together with other statements is refused', () => {
  using f = fixture()
  const outcomes = f.run(batchJob([{ sql: 'INSERT INTO t(a) VALUES (1)' }, { sql: 'VACUUM' }]))
  expect(isClusterError(errorOf(outcomes[0]), 'STATEMENT_REFUSED')).toBe(true)
  expect(f.committed('SELECT a FROM t ORDER BY a')).toEqual([])
})

test('VACUUM with a request id is replayed and not repeated', () => {
  using f = fixture()
  const vacuum = sqlJob('VACUUM', undefined, { id: f.ids.next() })
  expect(f.run(vacuum)).toMatchObject([{ kind: 'done', replayed: false }])
  expect(f.run(vacuum)).toMatchObject([{ kind: 'done', replayed: true }])
})

test("a request that defers foreign keys has a transaction of its own, so that it defers nobody else's", () => {
  using f = fixture()
  const deferring = batchJob([
    { sql: 'PRAGMA defer_foreign_keys = ON' },
    { sql: 'INSERT INTO strict_child VALUES (1, 1)' },
    { sql: 'INSERT INTO parent VALUES (1)' },
  ])
  const outcomes = f.run(
    deferring,
    sqlJob('INSERT INTO strict_child VALUES (2, 2)'),
    sqlJob('INSERT INTO parent VALUES (2)'),
  )
  expect(kinds(outcomes)).toEqual(['done', 'failed', 'done'])
  expect(f.committed('SELECT id FROM strict_child')).toEqual([1])
})

test('incremental_vacuum frees every page although it returns no rows', () => {
  using f = new WriteFixture({ schema: 'PRAGMA auto_vacuum = INCREMENTAL; VACUUM; CREATE TABLE big(x)' })
  f.run(
    sqlJob(
      'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) INSERT INTO big SELECT zeroblob(4000) FROM n',
    ),
  )
  f.run(sqlJob('DELETE FROM big'))
  expect(f.writer.pragma('freelist_count', { simple: true })).toBeGreaterThan(50)
  expect(kinds(f.run(sqlJob('PRAGMA incremental_vacuum'), sqlJob('PRAGMA user_version = 7')))).toEqual(['done', 'done'])
  expect(f.writer.pragma('freelist_count', { simple: true })).toBe(0)
  expect(f.committed('PRAGMA user_version')).toEqual([7])
})

test('a disk that is full fails the request, not its neighbours', () => {
  using f = fixture()
  const pages = f.writer.pragma('page_count', { simple: true }) as number
  f.writer.pragma(`max_page_count = ${pages + 4}`)
  const outcomes = f.run(insert(1), sqlJob('INSERT INTO t(a, b) VALUES (2, hex(zeroblob(200000)))'), insert(3))
  expect(kinds(outcomes)).toEqual(['done', 'failed', 'done'])
  expect(errorOf(outcomes[1]).code).toBe('SQLITE_FULL')
  expect(f.committed('SELECT a FROM t ORDER BY a')).toEqual([1, 3])
})

test('a disk that fails during COMMIT: the outcome is unknown and the batch asks for the database to stop', () => {
  using f = fixture()
  f.run(insert(1))
  const finish = f.ledger.finish.bind(f.ledger)
  // Stands in for COMMIT: better-sqlite3 has no way to make an fsync fail.
  f.ledger.finish = () => {
    throw makeSqliteError('SQLITE_IOERR_FSYNC', 'disk I/O error')
  }
  const ran = f.groupCommit.run([insert(2), insert(1), insert(3)])
  const alone = f.groupCommit.run([insert(4)])
  f.ledger.finish = finish
  expect(alone).toMatchObject({ kind: 'ran', committed: false, failure: { code: 'WRITE_OUTCOME_UNKNOWN' } })
  expect(ran).toMatchObject({ kind: 'ran', committed: false })
  if (ran.kind !== 'ran') return
  expect(isClusterError(ran.failure, 'WRITE_OUTCOME_UNKNOWN')).toBe(true)
  expect(ran.outcomes.map((outcome) => errorOf(outcome).code)).toEqual([
    'WRITE_OUTCOME_UNKNOWN',
    'SQLITE_CONSTRAINT_PRIMARYKEY',
    'WRITE_OUTCOME_UNKNOWN',
  ])
  expect(f.writer.inTransaction).toBe(false)
})

test('a cluster error thrown by a procedure keeps its code', () => {
  using f = fixture()
  f.procedures.register('refuse', () => {
    throw new ClusterError('INVALID_REQUEST', 'no')
  })
  expect(isClusterError(errorOf(f.run(procedureJob('refuse'))[0]), 'INVALID_REQUEST')).toBe(true)
  expect(isClusterError(errorOf(f.run(procedureJob('nobody knows'))[0]), 'UNKNOWN_PROCEDURE')).toBe(true)
})
