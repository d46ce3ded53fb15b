import { expect, test } from 'vitest'
import { isClusterError } from '../errors/cluster-error.ts'
import type { ErrorCode } from '../errors/error-table.ts'
import { type RequestId, RequestIdSource } from '../request/request-id.ts'
import { resolveLedgerOptions } from './ledger-options.ts'
import { RequestLedger } from './request-ledger.ts'
import { GroupCommit } from './group-commit.ts'
import { batchJob, errorOf, procedureJob, resolveJob, sqlJob, WriteFixture } from './test-support/write-fixture.ts'
import type { JobOutcome } from './write-job.ts'

const SCHEMA = 'CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)'
const HOUR_MS = 60 * 60_000
const fixture = (ledger = {}): WriteFixture => new WriteFixture({ schema: SCHEMA, ledger })
const codeOf = (outcome: JobOutcome | undefined): ErrorCode => errorOf(outcome).code as ErrorCode
const add = (b: string, identity?: { id?: RequestId; key?: string }): ReturnType<typeof sqlJob> =>
  sqlJob('INSERT INTO t(b) VALUES (?) RETURNING a, b', [b], identity)
const ledgerRows = (f: WriteFixture): unknown[] => f.committed("SELECT count(*) FROM _litefleet_request WHERE id > x''")

test('a write without id and key leaves no row and creates no table', () => {
  using f = fixture()
  f.run(add('x'), add('y'))
  expect(f.committed("SELECT count(*) FROM sqlite_schema WHERE name LIKE '\\_litefleet%' ESCAPE '\\'")).toEqual([0])
})

test('a repeated id takes effect once and gets its first answer, rows and all', () => {
  using f = fixture()
  const id = f.ids.next()
  const [first] = f.run(add('x', { id }))
  const [again] = f.run(add('x', { id }))
  expect(first).toMatchObject({
    kind: 'done',
    replayed: false,
    result: { results: [{ changes: 1, rows: [{ a: 1, b: 'x' }] }] },
  })
  expect(again).toEqual({ ...first, replayed: true })
  expect(f.committed('SELECT count(*) FROM t')).toEqual([1])
})

test('the same id twice within one batch takes effect once', () => {
  using f = fixture()
  const id = f.ids.next()
  const outcomes = f.run(add('x', { id }), add('other', { id: f.ids.next() }), add('x', { id }))
  expect(outcomes.map((outcome) => outcome.kind === 'done' && outcome.replayed)).toEqual([false, false, true])
  expect(f.committed('SELECT count(*) FROM t')).toEqual([2])
})

test('the same id twice within a batch whose COMMIT fails takes effect once all the same', () => {
  using f = new WriteFixture({ schema: `${SCHEMA}; CREATE TABLE c(p REFERENCES t(a) DEFERRABLE INITIALLY DEFERRED)` })
  const id = f.ids.next()
  const outcomes = f.run(add('x', { id }), sqlJob('INSERT INTO c VALUES (404)'), add('x', { id }))
  expect(outcomes.map((outcome) => outcome.kind)).toEqual(['done', 'failed', 'done'])
  expect(outcomes[2]).toEqual({ ...outcomes[0], replayed: true })
  expect(f.committed('SELECT count(*) FROM t')).toEqual([1])
})

test('a repeated id survives a restart: another ledger on the same database knows it', () => {
  using f = fixture()
  const id = f.ids.next()
  f.run(add('x', { id }))
  const writer = f.open()
  const ids = new RequestIdSource(() => f.nowMs, Buffer.from('second'))
  const clock = { nowMs: () => f.nowMs, monotonicMs: () => 0, setTimer: () => ({ cancel: () => undefined }) }
  const ledger = new RequestLedger({ database: 'test.db', writer, clock, ids, options: resolveLedgerOptions() })
  const second = new GroupCommit({
    database: 'test.db',
    writer,
    procedures: f.procedures,
    ledger,
    afterBegin: () => undefined,
  })
  expect(second.run([add('x', { id }), add('y', { id: ids.next() })])).toMatchObject({
    outcomes: [{ replayed: true }, { replayed: false }],
  })
  expect(ledger.rowCount).toBe(2)
  writer.close()
})

test('a repeated id with a different request is refused, whatever differs', () => {
  using f = fixture()
  const id = f.ids.next()
  const statement = { sql: 'INSERT INTO t(b) VALUES (?)', params: ['1'] }
  f.run(batchJob([statement], { id }))
  const others = [
    batchJob([{ ...statement, params: ['2'] }], { id }),
    batchJob([{ ...statement, params: [1] }], { id }),
    batchJob([{ ...statement, sql: `${statement.sql} ` }], { id }),
    batchJob([{ ...statement, safeIntegers: true }], { id }),
    batchJob([statement, statement], { id }),
    procedureJob('add', '1', { id }),
  ]
  expect(others.map((job) => codeOf(f.run(job)[0]))).toEqual(others.map(() => 'REQUEST_ID_REUSED'))
  expect(f.run(batchJob([{ ...statement, safeIntegers: false }], { id }))).toMatchObject([
    { kind: 'done', replayed: true },
  ])
  expect(f.committed('SELECT count(*) FROM t')).toEqual([1])
})

test('a request that fails leaves no row and may run again', () => {
  using f = fixture()
  const id = f.ids.next()
  const job = sqlJob('INSERT INTO t(a, b) VALUES (1, ?)', ['x'], { id, key: 'k' })
  f.run(sqlJob("INSERT INTO t VALUES (1, 'in the way')"))
  expect(codeOf(f.run(job, add('y', { id: f.ids.next() }))[0])).toBe('SQLITE_CONSTRAINT_PRIMARYKEY')
  expect(ledgerRows(f)).toEqual([1])
  f.run(sqlJob('DELETE FROM t'))
  expect(f.run(job)).toMatchObject([{ kind: 'done', replayed: false }])
})

test("a procedure's answer is replayed exactly", () => {
  using f = fixture()
  const value = {
    big: 2n ** 80n,
    at: new Date(1),
    nothing: undefined,
    minusZero: -0,
    nan: Number.NaN,
    bytes: new Uint8Array([1, 2]),
    list: [null, 'ü'],
  }
  f.procedures.register('answer', () => value)
  const job = procedureJob('answer', { z: 1, a: [1n] }, { id: f.ids.next() })
  f.run(job)
  const [again] = f.run(job)
  expect(again).toStrictEqual({ kind: 'done', replayed: true, result: { kind: 'procedure', value } })
})

test('a key takes effect once, whatever ids its attempts have; each id is then answered, too', () => {
  using f = fixture()
  const [first, second] = [f.ids.next(), f.ids.next()]
  const [answer] = f.run(add('x', { id: first, key: 'order-7' }))
  const outcomes = f.run(
    add('x', { id: second, key: 'order-7' }),
    add('x', { key: 'order-7' }),
    add('x', { key: 'order-8' }),
  )
  expect(outcomes.slice(0, 2)).toEqual([
    { ...answer, replayed: true },
    { ...answer, replayed: true },
  ])
  expect(outcomes[2]).toMatchObject({ replayed: false })
  expect(f.run(resolveJob(second))).toMatchObject([{ resolution: { outcome: 'applied' } }])
  expect(codeOf(f.run(add('other', { key: 'order-7' }))[0])).toBe('REQUEST_ID_REUSED')
  expect(f.committed('SELECT b FROM t')).toEqual(['x', 'x'])
})

test('the hidden tables do not show in last_insert_rowid()', () => {
  using f = fixture()
  f.run(add('x', { id: f.ids.next(), key: 'k' }))
  const [outcome] = f.run(sqlJob('UPDATE t SET b = 1', undefined, { id: f.ids.next() }))
  expect(outcome).toMatchObject({ result: { results: [{ changes: 1, lastInsertRowid: 1 }] } })
})

test('an answer that is too large is dropped: its request was applied and says so when repeated', () => {
  using f = fixture({ answerBytesMax: 100 })
  const id = f.ids.next()
  const job = add('x'.repeat(200), { id })
  expect(f.run(job)).toMatchObject([{ kind: 'done', replayed: false }])
  const [again] = f.run(job)
  expect(codeOf(again)).toBe('ANSWER_DROPPED')
  expect(isClusterError(errorOf(again)) && (errorOf(again) as { outcome?: string }).outcome).toBe('applied')
  expect(f.run(resolveJob(id))).toEqual([{ kind: 'resolved', resolution: { outcome: 'applied', result: undefined } }])
  expect(f.committed('SELECT count(*) FROM t')).toEqual([1])
})

test('resolving a request answers what it answered, and changes nothing', () => {
  using f = fixture()
  const id = f.ids.next()
  const [outcome] = f.run(add('x', { id }))
  expect(f.groupCommit.run([resolveJob(id)])).toEqual({
    kind: 'ran',
    committed: false,
    outcomes: [
      {
        kind: 'resolved',
        resolution: { outcome: 'applied', result: outcome?.kind === 'done' ? outcome.result : undefined },
      },
    ],
  })
})

test('resolving a request nobody knows keeps a late duplicate from running', () => {
  using f = fixture()
  const id = f.ids.next()
  const notApplied = { kind: 'ran', outcomes: [{ kind: 'resolved', resolution: { outcome: 'not-applied' } }] }
  expect(f.groupCommit.run([resolveJob(id)])).toEqual({ ...notApplied, committed: true })
  expect(f.groupCommit.run([resolveJob(id)])).toEqual({ ...notApplied, committed: false })
  const [late] = f.run(add('x', { id }))
  expect(codeOf(late)).toBe('REQUEST_ABANDONED')
  expect(f.committed('SELECT count(*) FROM t')).toEqual([0])
})

test('in one group, a request and the question about it are true to their order', () => {
  using f = fixture()
  const [before, after] = [f.ids.next(), f.ids.next()]
  const outcomes = f.run(
    add('x', { id: before }),
    resolveJob(before),
    resolveJob(after),
    add('y', { id: after }),
    sqlJob('nonsense'),
  )
  expect(outcomes.slice(0, 3)).toMatchObject([
    { kind: 'done', replayed: false },
    { kind: 'resolved', resolution: { outcome: 'applied', result: { kind: 'batch' } } },
    { kind: 'resolved', resolution: { outcome: 'not-applied' } },
  ])
  expect(outcomes.slice(3).map(codeOf)).toEqual(['REQUEST_ABANDONED', 'SQLITE_ERROR'])
  expect(f.committed('SELECT b FROM t')).toEqual(['x'])
})

test('a request whose group was undone is looked up again, in the transaction that counts', () => {
  using f = new WriteFixture({ schema: `${SCHEMA}; CREATE TABLE c(p REFERENCES t(a) DEFERRABLE INITIALLY DEFERRED)` })
  const orphan = f.ids.next()
  const outcomes = f.run(
    sqlJob('INSERT INTO c VALUES (404)', undefined, { id: orphan }),
    resolveJob(orphan),
    add('x', { id: f.ids.next() }),
  )
  // Inside the shared transaction it had succeeded; its COMMIT is what failed.
  expect(codeOf(outcomes[0])).toBe('SQLITE_CONSTRAINT_FOREIGNKEY')
  expect(outcomes.slice(1)).toMatchObject([{ resolution: { outcome: 'not-applied' } }, { kind: 'done' }])
  expect(codeOf(f.run(sqlJob('INSERT INTO c VALUES (404)', undefined, { id: orphan }))[0])).toBe('REQUEST_ABANDONED')
})

test('a full ledger still gives requests up, as far as its reserve goes', () => {
  using f = fixture({ rowsMax: 16 })
  for (let i = 0; i < 16; i++) f.run(add('x', { id: f.ids.next() }))
  expect(codeOf(f.run(add('x', { id: f.ids.next() }))[0])).toBe('LEDGER_FULL')
  const [first, second, third] = [f.ids.next(), f.ids.next(), f.ids.next()]
  for (const id of [first, second]) expect(f.run(resolveJob(id))).toMatchObject([{ kind: 'resolved' }])
  expect(codeOf(f.run(resolveJob(third))[0])).toBe('LEDGER_FULL')
  expect(f.run(resolveJob(first))).toMatchObject([{ kind: 'resolved', resolution: { outcome: 'not-applied' } }])
})

test('a key repeated under ever new ids does not outgrow the bound, and takes effect once', () => {
  using f = fixture({ rowsMax: 16 })
  const outcomes = Array.from({ length: 20 }, () => f.run(add('x', { id: f.ids.next(), key: 'k' }))[0])
  expect(outcomes.slice(0, 18).every((outcome) => outcome?.kind === 'done')).toBe(true)
  expect(outcomes.slice(18).map(codeOf)).toEqual(['LEDGER_FULL', 'LEDGER_FULL'])
  expect(ledgerRows(f)).toEqual([18])
  expect(f.run(add('x', { key: 'k' }))).toMatchObject([{ kind: 'done', replayed: true }])
  expect(f.committed('SELECT count(*) FROM t')).toEqual([1])
})

test('nothing is resolved while another process holds the write lock', () => {
  using f = fixture()
  const other = f.open()
  other.exec('BEGIN IMMEDIATE')
  expect(f.groupCommit.run([resolveJob(f.ids.next())])).toEqual({ kind: 'busy' })
  other.close()
})

test('a request older than the retention never runs', () => {
  using f = fixture({ retentionMs: HOUR_MS })
  const old = f.ids.next()
  const known = f.ids.next()
  f.run(add('known', { id: known }))
  f.nowMs += HOUR_MS + 1
  // Its row is still there: it is answered whatever its age.
  expect(codeOf(f.run(add('x', { id: old }))[0])).toBe('REQUEST_TOO_OLD')
  expect(codeOf(f.run(resolveJob(old))[0])).toBe('REQUEST_TOO_OLD')
  expect(f.writer.inTransaction).toBe(false)
})

test('rows go by time, in steps; an id that was pruned is too old for a primary whose clock is behind, too', () => {
  using f = fixture({ retentionMs: HOUR_MS })
  const ids = Array.from({ length: 600 }, () => f.ids.next())
  for (let i = 0; i < 600; i += 100) f.run(...ids.slice(i, i + 100).map((id) => add('x', { id })))
  expect(ledgerRows(f)).toEqual([600])
  f.nowMs += HOUR_MS + 1
  f.run(add('y', { id: f.ids.next() }))
  expect(ledgerRows(f)).toEqual([600 - 256 + 1])
  f.run(add('y', { id: f.ids.next() }))
  f.run(add('y', { id: f.ids.next() }))
  expect(ledgerRows(f)).toEqual([3])
  expect(f.ledger.rowCount).toBe(3)
  f.nowMs -= HOUR_MS
  expect(codeOf(f.run(add('x', { id: ids[0] as RequestId }))[0])).toBe('REQUEST_TOO_OLD')
  expect(codeOf(f.run(add('x', { id: ids[599] as RequestId }))[0])).toBe('REQUEST_TOO_OLD')
})

test('pruning keeps up with large groups', () => {
  using f = fixture({ retentionMs: HOUR_MS })
  for (let round = 0; round < 4; round++) {
    f.run(...Array.from({ length: 1_000 }, () => add('x', { id: f.ids.next() })))
    f.nowMs += HOUR_MS
  }
  expect(Number(ledgerRows(f)[0])).toBeLessThanOrEqual(2_000)
})

test('keys go by time, too', () => {
  using f = fixture({ retentionMs: HOUR_MS })
  f.run(add('x', { key: 'k' }))
  f.nowMs += HOUR_MS + 1
  f.run(add('y', { key: 'l' }))
  expect(f.committed('SELECT key FROM _litefleet_key')).toEqual(['l'])
  expect(f.run(add('x', { key: 'k' }))).toMatchObject([{ replayed: false }])
})

test('a full ledger refuses new requests, answers known ones, lets others through, and recovers with time', () => {
  using f = fixture({ rowsMax: 10, retentionMs: HOUR_MS, retentionMinMs: HOUR_MS })
  const ids = Array.from({ length: 10 }, () => f.ids.next())
  f.run(...ids.map((id) => add('x', { id })))
  const [refused, known, plain] = f.run(add('y', { id: f.ids.next() }), add('x', { id: ids[0] as RequestId }), add('z'))
  expect(codeOf(refused)).toBe('LEDGER_FULL')
  expect(known).toMatchObject({ replayed: true })
  expect(plain).toMatchObject({ kind: 'done' })
  expect(codeOf(f.run(add('y', { id: f.ids.next() }))[0])).toBe('LEDGER_FULL')
  f.nowMs += HOUR_MS + 1
  expect(f.run(add('y', { id: f.ids.next() }))).toMatchObject([{ kind: 'done' }])
})

test('a nearly full ledger drops ids early, but none younger than the minimum, and no key', () => {
  using f = fixture({ rowsMax: 8, retentionMs: 10 * HOUR_MS, retentionMinMs: HOUR_MS })
  f.run(...Array.from({ length: 7 }, (_, i) => add('x', { id: f.ids.next(), key: `k${i}` })))
  f.nowMs += HOUR_MS / 2
  f.run(add('young', { id: f.ids.next() }))
  expect(ledgerRows(f)).toEqual([8])
  f.nowMs += HOUR_MS / 2 + 1
  f.run(add('new', { id: f.ids.next() }))
  expect(ledgerRows(f)).toEqual([2]) // the young one and the new one
  expect(f.committed('SELECT count(*) FROM _litefleet_key')).toEqual([7])
})

test('the byte bound counts answers', () => {
  using f = fixture({ bytesMax: 5_000, retentionMs: HOUR_MS, retentionMinMs: HOUR_MS })
  let done = 0
  for (let i = 0; i < 20; i++) if (f.run(add('x'.repeat(1_000), { id: f.ids.next() }))[0]?.kind === 'done') done++
  expect(done).toBe(5)
})

test('rows found at start are counted while the ledger is already in use', () => {
  using f = fixture({ rowsMax: 6_000, retentionMs: HOUR_MS, retentionMinMs: HOUR_MS })
  f.run(add('creates', { id: f.ids.next() }))
  f.writer.exec(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
    INSERT INTO _litefleet_request SELECT CAST(substr(id, 1, 12) || unhex(printf('%08x', 1000 + i)) AS BLOB), entry
    FROM n, (SELECT id, entry FROM _litefleet_request WHERE id > x'')`)
  const ledger = new RequestLedger({
    database: 'test.db',
    writer: f.writer,
    clock: { nowMs: () => f.nowMs, monotonicMs: () => 0, setTimer: () => ({ cancel: () => undefined }) },
    ids: f.ids,
    options: resolveLedgerOptions({ rowsMax: 6_000 }),
  })
  const second = new GroupCommit({
    database: 'test.db',
    writer: f.writer,
    procedures: f.procedures,
    ledger,
    afterBegin: () => undefined,
  })
  const counts: number[] = []
  for (let i = 0; i < 4; i++) {
    f.nowMs += 1
    second.run([add('x', { id: f.ids.next() })])
    counts.push(ledger.rowCount)
  }
  expect(counts).toEqual([2_048, 4_096, 5_004, 5_005])
  expect(ledgerRows(f)).toEqual([5_005])
})

test('a group that is rolled back leaves no trace in the count, nor half-made tables', () => {
  using f = new WriteFixture({ schema: `${SCHEMA}; CREATE TABLE c(p REFERENCES t(a) DEFERRABLE INITIALLY DEFERRED)` })
  const failing = (): ReturnType<typeof sqlJob> => sqlJob('INSERT INTO c VALUES (404)', undefined, { id: f.ids.next() })
  f.run(failing())
  expect(f.ledger.rowCount).toBe(0)
  f.run(failing(), failing())
  expect(f.ledger.rowCount).toBe(0)
  f.run(add('x', { id: f.ids.next() }), failing())
  expect(f.ledger.rowCount).toBe(1)
  expect(ledgerRows(f)).toEqual([1])
})

test('an id from the future and a key that is no proper text are refused', () => {
  using f = fixture({ retentionMs: HOUR_MS })
  const future = new RequestIdSource(() => f.nowMs + HOUR_MS + 1, Buffer.from('future')).next()
  expect(codeOf(f.run(add('x', { id: future }))[0])).toBe('INVALID_REQUEST')
  expect(codeOf(f.run(resolveJob(future))[0])).toBe('INVALID_REQUEST')
  for (const key of ['', 'x'.repeat(256), '\ud800']) expect(codeOf(f.run(add('x', { key }))[0])).toBe('INVALID_REQUEST')
  expect(f.run(add('x', { key: 'ü'.repeat(255) }))).toMatchObject([{ kind: 'done' }])
})

test('a known id is answered by a primary whose clock is far behind, too', () => {
  using f = fixture({ retentionMs: HOUR_MS })
  const id = f.ids.next()
  f.run(add('x', { id }))
  f.nowMs -= 2 * HOUR_MS
  expect(f.run(add('x', { id }))).toMatchObject([{ kind: 'done', replayed: true }])
  expect(f.run(resolveJob(id))).toMatchObject([{ kind: 'resolved', resolution: { outcome: 'applied' } }])
})

test('hidden tables that somebody dropped are made anew', () => {
  using f = fixture()
  f.run(add('x', { id: f.ids.next() }))
  f.run(sqlJob('DROP TABLE _litefleet_request'))
  f.run(add('y', { id: f.ids.next() }))
  expect(f.run(add('z', { id: f.ids.next() }))).toMatchObject([{ kind: 'done' }])
  expect(ledgerRows(f)).toEqual([1])
})

test('options out of range are refused by name', () => {
  expect(() => resolveLedgerOptions({ retentionMs: 5 })).toThrow('INVALID_OPTION')
  expect(() => resolveLedgerOptions({ retentionMs: HOUR_MS, retentionMinMs: 2 * HOUR_MS })).toThrow('retentionMinMs')
  expect(() => resolveLedgerOptions({ rowMax: 5 } as never)).toThrow('Did you mean "rowsMax"')
})
