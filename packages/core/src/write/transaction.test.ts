import { expect, test } from 'vitest'
import { isClusterError } from '../errors/cluster-error.ts'
import { errorOf, procedureJob, sqlJob, WriteFixture } from './test-support/write-fixture.ts'
import type { ProcedureFunction } from './procedure-table.ts'
import type { Transaction } from './transaction.ts'
import type { JobOutcome } from './write-job.ts'

const SCHEMA = `
  CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);
  CREATE TABLE guarded(a INTEGER);
  CREATE TRIGGER undo BEFORE INSERT ON guarded WHEN NEW.a = 66 BEGIN SELECT RAISE(ROLLBACK, 'everything is undone'); END;
`

/** Runs `procedure` between two ordinary requests of one group, and answers its outcome. */
function runProcedure(
  f: WriteFixture,
  procedure: ProcedureFunction,
  input?: Parameters<ProcedureFunction>[1],
): JobOutcome {
  const name = `p${f.begins}`
  f.procedures.register(name, procedure)
  const outcomes = f.run(
    sqlJob('INSERT INTO t(b) VALUES (?)', ['before']),
    procedureJob(name, input),
    sqlJob('INSERT INTO t(b) VALUES (?)', ['after']),
  )
  expect(outcomes[0]?.kind).toBe('done')
  expect(outcomes[2]?.kind).toBe('done')
  return outcomes[1] as JobOutcome
}

const fixture = (): WriteFixture => new WriteFixture({ schema: SCHEMA })
const rows = (f: WriteFixture): unknown[] =>
  f.committed("SELECT b FROM t WHERE b NOT IN ('before', 'after') ORDER BY a")

test('a procedure reads what it writes and answers a plain value', () => {
  using f = fixture()
  const outcome = runProcedure(
    f,
    (tx, input) => {
      const inserted = tx.run('INSERT INTO t(b) VALUES (?)', [input as string])
      expect(inserted).toMatchObject({ changes: 1 })
      expect(tx.get('SELECT b FROM t WHERE a = ?', [inserted.lastInsertRowid as number])).toEqual({ b: 'x' })
      expect(tx.get('SELECT b FROM t WHERE a = -1')).toBeUndefined()
      const all = tx.all<{ b: string }>('SELECT b FROM t ORDER BY a')
      return { count: all.length, at: new Date(5), bytes: new Uint8Array([1]) }
    },
    'x',
  )
  expect(outcome).toEqual({
    kind: 'done',
    replayed: false,
    result: { kind: 'procedure', value: { count: 2, at: new Date(5), bytes: new Uint8Array([1]) } },
  })
  expect(rows(f)).toEqual(['x'])
})

test('prepared statements have the surface of better-sqlite3, and one statement does not change the shape of another', () => {
  using f = fixture()
  runProcedure(f, (tx) => {
    const insert = tx.prepare('INSERT INTO t(a, b) VALUES (@a, @b)')
    insert.run({ a: 100, b: 'p' })
    insert.run({ a: 101, b: 'q' })
    const sql = 'SELECT a, b FROM t WHERE a >= ? ORDER BY a'
    const plain = tx.prepare(sql)
    const plucked = tx.prepare<number>(sql).pluck()
    const raw = tx.prepare(sql).raw()
    const expanded = tx.prepare(sql).expand()
    const big = tx.prepare(sql).safeIntegers()
    const bound = tx.prepare(sql).bind(101)
    for (let round = 0; round < 2; round++) {
      expect(plain.all(100)).toEqual([
        { a: 100, b: 'p' },
        { a: 101, b: 'q' },
      ])
      expect(plucked.all(100)).toEqual([100, 101])
      expect(raw.get(100)).toEqual([100, 'p'])
      expect(expanded.get([100])).toEqual({ t: { a: 100, b: 'p' } })
      expect(big.get(100)).toEqual({ a: 100n, b: 'p' })
      expect(bound.all()).toEqual([{ a: 101, b: 'q' }])
    }
    expect(() => bound.all(1)).toThrow('already has bound parameters')
    expect(plain.columns().map((column) => column.name)).toEqual(['a', 'b'])
    expect([plain.reader, plain.readonly, insert.reader, insert.readonly]).toEqual([true, true, false, false])
    expect(tx.prepare('DELETE FROM t WHERE a = 101').safeIntegers().run()).toEqual({
      changes: 1,
      lastInsertRowid: 101n,
    })
    return null
  })
  expect(rows(f)).toEqual(['p'])
})

test('iterating works next to another read of the same text, and an iterator left open does not hold the transaction', () => {
  using f = fixture()
  let leaked: Iterator<unknown> | undefined
  const outcome = runProcedure(f, (tx) => {
    for (const n of [1, 2, 3]) tx.run('INSERT INTO t(b) VALUES (?)', [`r${n}`])
    const select = tx.prepare<string>("SELECT b FROM t WHERE b LIKE 'r%' ORDER BY a").pluck()
    const seen: string[] = []
    for (const outer of select.iterate()) seen.push(`${outer}:${select.all().length}`)
    expect(() => {
      for (const _ of select.iterate()) tx.run('DELETE FROM t')
    }).toThrow('busy executing a query')
    leaked = select.iterate()
    leaked.next()
    return seen
  })
  expect(outcome).toMatchObject({ result: { value: ['r1:3', 'r2:3', 'r3:3'] } })
  expect(() => leaked?.next()).toThrow('its transaction has ended')
})

test('the handle is dead after the procedure', () => {
  using f = fixture()
  let kept: Transaction | undefined
  let statement: { run(): unknown } | undefined
  runProcedure(f, (tx) => {
    kept = tx
    statement = tx.prepare("INSERT INTO t(b) VALUES ('late')")
    return null
  })
  const late = (work: () => unknown): void => {
    let thrown: unknown
    try {
      work()
    } catch (error) {
      thrown = error
    }
    expect(isClusterError(thrown, 'CLOSED')).toBe(true)
  }
  late(() => kept?.run("INSERT INTO t(b) VALUES ('late')"))
  late(() => kept?.prepare('SELECT 1'))
  late(() => statement?.run())
  late(() => kept?.savepoint(() => 1))
  expect(rows(f)).toEqual([])
})

test('what a procedure throws undoes it and arrives as it was', () => {
  using f = fixture()
  class Overdraft extends Error {
    override readonly name = 'Overdraft'
    readonly code = 'E_OVERDRAFT'
  }
  const outcome = runProcedure(f, (tx) => {
    tx.run("INSERT INTO t(b) VALUES ('undone')")
    throw new Overdraft('limit reached')
  })
  expect(errorOf(outcome)).toMatchObject({ name: 'Overdraft', code: 'E_OVERDRAFT', message: 'limit reached' })
  expect(rows(f)).toEqual([])
  const odd = runProcedure(f, () => {
    throw 'only a string' // eslint-disable-line
  })
  expect(odd).toEqual({ kind: 'failed', error: 'only a string' })
})

test("SQLite's own errors pass through a procedure with their code", () => {
  using f = fixture()
  const outcome = runProcedure(f, (tx) => tx.run('INSERT INTO t(a) VALUES (1), (1)').changes)
  expect(errorOf(outcome)).toMatchObject({ name: 'SqliteError', code: 'SQLITE_CONSTRAINT_PRIMARYKEY' })
})

test('an async procedure is refused and rolled back, and its later failure does not end the process', async () => {
  using f = fixture()
  const unhandled: unknown[] = []
  const listener = (error: unknown): void => void unhandled.push(error)
  process.on('unhandledRejection', listener)
  const asynchronous = (async (tx: Transaction) => {
    tx.run("INSERT INTO t(b) VALUES ('undone')")
    await Promise.resolve()
    tx.run("INSERT INTO t(b) VALUES ('late')")
    return null
  }) as unknown as ProcedureFunction
  const outcome = runProcedure(f, asynchronous)
  expect(isClusterError(errorOf(outcome), 'ASYNC_PROCEDURE')).toBe(true)
  const thenable = runProcedure(f, () => ({ then: () => undefined }) as never)
  expect(isClusterError(errorOf(thenable), 'ASYNC_PROCEDURE')).toBe(true)
  await new Promise((resolve) => setTimeout(resolve, 10))
  process.off('unhandledRejection', listener)
  expect(unhandled).toEqual([])
  expect(rows(f)).toEqual([])
})

test('a result that could not cross the network is refused on the primary, too', () => {
  using f = fixture()
  const circular: Record<string, unknown> = {}
  circular['self'] = circular
  for (const value of [() => 1, Symbol('x'), new Map(), circular]) {
    const outcome = runProcedure(f, (tx) => {
      tx.run("INSERT INTO t(b) VALUES ('undone')")
      return value as never
    })
    expect(isClusterError(errorOf(outcome), 'INVALID_REQUEST')).toBe(true)
  }
  expect(rows(f)).toEqual([])
})

test('a procedure that catches RAISE(ROLLBACK) and goes on writes nothing at all', () => {
  using f = fixture()
  const outcome = runProcedure(f, (tx) => {
    tx.run("INSERT INTO t(b) VALUES ('undone')")
    expect(() => tx.run('INSERT INTO guarded VALUES (66)')).toThrow('everything is undone')
    // Outside any transaction this would commit by itself.
    expect(() => tx.run("INSERT INTO t(b) VALUES ('stray')")).toThrow('everything is undone')
    return 'all went well'
  })
  expect(errorOf(outcome).message).toBe('everything is undone')
  expect(rows(f)).toEqual([])
})

test('savepoint() does all of its work or none, nested as well', () => {
  using f = fixture()
  const outcome = runProcedure(f, (tx) => {
    const add = tx.prepare('INSERT INTO t(b) VALUES (?)')
    const answer = tx.savepoint(() => {
      add.run('kept')
      expect(() =>
        tx.savepoint(() => {
          add.run('inner')
          tx.savepoint(() => add.run('innermost'))
          throw new Error('undo inner')
        }),
      ).toThrow('undo inner')
      return 'answer'
    })
    expect(() =>
      tx.savepoint(() => {
        add.run('gone')
        tx.prepare('SELECT * FROM t').iterate().next() // left open
        throw new Error('undo')
      }),
    ).toThrow('undo')
    expect(() => tx.savepoint(async () => 1)).toThrow('ASYNC_PROCEDURE')
    return answer
  })
  expect(outcome).toMatchObject({ result: { value: 'answer' } })
  expect(rows(f)).toEqual(['kept'])
})

test('a savepoint() whose work ended the transaction throws the reason on', () => {
  using f = fixture()
  const outcome = runProcedure(f, (tx) => tx.savepoint(() => tx.run('INSERT INTO guarded VALUES (66)').changes))
  expect(errorOf(outcome).message).toBe('everything is undone')
})

test('statements that a write may not contain are refused in a procedure, and VACUUM with them', () => {
  using f = fixture()
  runProcedure(f, (tx) => {
    for (const sql of [
      'BEGIN',
      'COMMIT',
      'ROLLBACK',
      "ATTACH 'x' AS y",
      'CREATE TEMP TABLE x(a)',
      'PRAGMA foreign_keys = 0',
      'VACUUM',
    ]) {
      expect(() => tx.prepare(sql), sql).toThrow('STATEMENT_REFUSED')
    }
    return null
  })
})

test('a procedure that defers foreign keys is run again in a transaction of its own', () => {
  using f = new WriteFixture({
    schema: `${SCHEMA} CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE c(p REFERENCES p(id))`,
  })
  let runs = 0
  const outcome = runProcedure(f, (tx) => {
    runs++
    tx.run('PRAGMA defer_foreign_keys = ON')
    tx.run('INSERT INTO c VALUES (1)')
    tx.run('INSERT INTO p VALUES (1)')
    return runs
  })
  expect(outcome).toMatchObject({ kind: 'done', result: { value: 2 } })
  expect(f.committed('SELECT p FROM c')).toEqual([1])
  // Nothing of it is left on the connection.
  expect(errorOf(f.run(sqlJob('INSERT INTO c VALUES (9)'))[0]).code).toBe('SQLITE_CONSTRAINT_FOREIGNKEY')
})

test('a name is registered once', () => {
  using f = fixture()
  f.procedures.register('twice', () => null)
  expect(() => f.procedures.register('twice', () => null)).toThrow('INVALID_OPTION')
})
