/**
 * Random mixes of requests, in random batches, against an oracle that runs them one by one in transactions of their own on a
 * plain better-sqlite3, with a map in place of the ledger. Same outcomes, same content. Between them stand questions what became
 * of a request, which keep it from running when it has not.
 *
 * What is left out because it may legally differ: `lastInsertRowid` of statements that insert nothing (it is the connection's
 * last one), and a deferred foreign key that a later request of the same group repairs (see `group-commit.ts`); the child
 * rows here refer to parents that never come.
 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { isClusterError } from '../errors/cluster-error.ts'
import type { Connection } from '../sqlite/connection.ts'
import { SqliteDatabase } from '../sqlite/sqlite-library.ts'
import { batchJob, type JobIdentity, procedureJob, resolveJob, WriteFixture } from './test-support/write-fixture.ts'
import type { RequestId } from '../request/request-id.ts'
import type { WriteResult } from '../request/write-request.ts'
import type { JobOutcome, WriteJob } from './write-job.ts'

const SCHEMA = `
  CREATE TABLE t(a INTEGER PRIMARY KEY, b INTEGER UNIQUE, n INTEGER DEFAULT 0);
  CREATE TABLE parent(id INTEGER PRIMARY KEY);
  CREATE TABLE child(p INTEGER REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED);
  CREATE TRIGGER refuse BEFORE UPDATE ON t WHEN NEW.n > 4 BEGIN SELECT RAISE(ABORT, 'too much'); END;
  CREATE TRIGGER undo BEFORE UPDATE ON t WHEN NEW.n < -2 BEGIN SELECT RAISE(ROLLBACK, 'undone'); END;
  CREATE TRIGGER partly AFTER INSERT ON t WHEN NEW.b = 7 BEGIN SELECT RAISE(FAIL, 'partly'); END;
`

type Step =
  | { readonly kind: 'insert' | 'insert or rollback' | 'insert or fail' | 'delete'; readonly b: number }
  | { readonly kind: 'add'; readonly n: number }
  | { readonly kind: 'child' }

interface Request {
  readonly steps: readonly Step[]
  readonly asProcedure: boolean
  /** Index into a few ids and keys, so that they are reused, sometimes for another request. */
  readonly id: number | undefined
  readonly key: number | undefined
}

/** What became of the request with one of the ids? */
interface Question {
  readonly about: number
}

const b = fc.nat(9)
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: b.map((value) => ({ kind: 'insert' as const, b: value })) },
  { weight: 1, arbitrary: b.map((value) => ({ kind: 'insert or rollback' as const, b: value })) },
  { weight: 1, arbitrary: b.map((value) => ({ kind: 'insert or fail' as const, b: value })) },
  { weight: 3, arbitrary: b.map((value) => ({ kind: 'delete' as const, b: value })) },
  { weight: 3, arbitrary: fc.integer({ min: -2, max: 3 }).map((n) => ({ kind: 'add' as const, n })) },
  { weight: 1, arbitrary: fc.constant({ kind: 'child' as const }) },
)
const request: fc.Arbitrary<Request> = fc.record({
  steps: fc.array(step, { minLength: 1, maxLength: 3 }),
  asProcedure: fc.boolean(),
  id: fc.option(fc.nat(12), { nil: undefined, freq: 2 }),
  key: fc.option(fc.nat(3), { nil: undefined, freq: 6 }),
})

const question: fc.Arbitrary<Question> = fc.record({ about: fc.nat(12) })

function plain(...steps: Step[]): Request {
  return { steps, asProcedure: false, id: undefined, key: undefined }
}

/** Has every kind of outcome, so that the mix has, whatever is drawn. */
const ONE_OF_EACH: readonly (readonly (Request | Question)[])[] = [
  [{ ...plain({ kind: 'insert', b: 0 }), id: 0 }],
  [
    { ...plain({ kind: 'insert', b: 0 }), id: 0 },
    { ...plain({ kind: 'delete', b: 0 }), id: 0 },
    plain({ kind: 'insert', b: 0 }),
    plain({ kind: 'insert', b: 7 }),
    plain({ kind: 'child' }),
  ],
  [3, 3].map((n) => plain({ kind: 'add', n })),
  [-2, -2, -2].map((n) => plain({ kind: 'add', n })),
  [{ about: 0 }, { about: 12 }, { ...plain({ kind: 'insert', b: 2 }), id: 12 }],
]

function sqlOf(one: Step): { sql: string; params: number[] } {
  if (one.kind === 'add') return { sql: 'UPDATE t SET n = n + ?', params: [one.n] }
  if (one.kind === 'child') return { sql: 'INSERT INTO child VALUES (?)', params: [404] }
  if (one.kind === 'delete') return { sql: 'DELETE FROM t WHERE b = ? RETURNING b, n', params: [one.b] }
  const or = one.kind === 'insert' ? 'INSERT' : one.kind.toUpperCase()
  return { sql: `${or} INTO t(b) VALUES (?), (?) RETURNING b`, params: [one.b, (one.b + 3) % 10] }
}

/** The outcome without what may differ. */
type Seen =
  | { readonly done: unknown; readonly replayed: boolean }
  | { readonly resolved: string; readonly done?: unknown }
  | { readonly failed: string }

class Oracle {
  readonly #db: Connection
  readonly #ids = new Map<number, { readonly what: string; readonly seen: unknown }>()
  readonly #keys = new Map<number, { readonly what: string; readonly seen: unknown }>()
  readonly #abandoned = new Set<number>()

  constructor() {
    this.#db = new SqliteDatabase(':memory:').exec(SCHEMA)
  }

  get content(): unknown {
    return contentOf(this.#db)
  }

  resolve({ about }: Question): Seen {
    const known = this.#ids.get(about)
    if (known !== undefined) return { resolved: 'applied', done: known.seen }
    this.#abandoned.add(about)
    return { resolved: 'not-applied' }
  }

  run(one: Request): Seen {
    if (one.id !== undefined && this.#abandoned.has(one.id)) return { failed: 'REQUEST_ABANDONED' }
    const what = JSON.stringify([one.steps, one.asProcedure])
    const known =
      (one.id === undefined ? undefined : this.#ids.get(one.id)) ??
      (one.key === undefined ? undefined : this.#keys.get(one.key))
    if (known !== undefined) {
      if (known.what !== what) return { failed: 'REQUEST_ID_REUSED' }
      if (one.id !== undefined && !this.#ids.has(one.id)) this.#ids.set(one.id, known)
      return { done: known.seen, replayed: true }
    }
    this.#db.exec('BEGIN')
    try {
      const seen = one.steps.map((each) => {
        const { sql, params } = sqlOf(each)
        const statement = this.#db.prepare(sql)
        return statement.reader ? { rows: statement.all(params) } : { changes: statement.run(params).changes }
      })
      this.#db.exec('COMMIT')
      if (one.id !== undefined) this.#ids.set(one.id, { what, seen })
      if (one.key !== undefined) this.#keys.set(one.key, { what, seen })
      return { done: seen, replayed: false }
    } catch (error) {
      if (this.#db.inTransaction) this.#db.exec('ROLLBACK')
      return { failed: (error as Error).message }
    }
  }

  close(): void {
    this.#db.close()
  }
}

function contentOf(db: Connection): unknown {
  return [db.prepare('SELECT b, n FROM t ORDER BY b').all(), db.prepare('SELECT * FROM child').all()]
}

function seenOf(outcome: JobOutcome | undefined): Seen {
  if (outcome === undefined) throw new Error('no outcome')
  if (outcome.kind === 'failed') {
    const { error } = outcome
    return { failed: isClusterError(error) ? error.code : (error as Error).message }
  }
  if (outcome.kind === 'done') return { done: answerOf(outcome.result), replayed: outcome.replayed }
  const { resolution } = outcome
  if (resolution.outcome === 'not-applied') return { resolved: 'not-applied' }
  return { resolved: 'applied', done: resolution.result === undefined ? 'dropped' : answerOf(resolution.result) }
}

function answerOf(result: WriteResult): unknown {
  if (result.kind === 'procedure') return result.value
  return result.results.map(({ changes, rows }) => (rows === undefined ? { changes } : { rows }))
}

test('random requests in random groups end as if each had run alone, one after the other', () => {
  const kinds = new Map<string, number>()
  fc.assert(
    fc.property(
      fc.array(
        fc.array(fc.oneof({ weight: 9, arbitrary: request }, { weight: 1, arbitrary: question }), {
          minLength: 1,
          maxLength: 8,
        }),
        { minLength: 1, maxLength: 12 },
      ),
      (batches) => {
        using f = new WriteFixture({ schema: SCHEMA })
        f.procedures.register('steps', (tx, input) =>
          (input as unknown as Step[]).map((each) => {
            const { sql, params } = sqlOf(each)
            const statement = tx.prepare(sql)
            return statement.reader ? { rows: statement.all(params) } : { changes: statement.run(params).changes }
          }),
        )
        const oracle = new Oracle()
        // In no particular order, so that some are newer than every row and some are not.
        const ids = Array.from({ length: 13 }, () => f.ids.next()).sort((x, y) => (x.slice(-1) < y.slice(-1) ? 1 : -1))
        const jobOf = (one: Request | Question): WriteJob => {
          if ('about' in one) return resolveJob(ids[one.about] as RequestId)
          const identity: JobIdentity = {
            id: one.id === undefined ? undefined : ids[one.id],
            key: one.key === undefined ? undefined : `key ${one.key}`,
          }
          return one.asProcedure ? procedureJob('steps', one.steps, identity) : batchJob(one.steps.map(sqlOf), identity)
        }
        try {
          for (const batch of batches) {
            const outcomes = f.run(...batch.map(jobOf))
            expect(outcomes.length).toBe(batch.length)
            expect(f.writer.inTransaction).toBe(false)
            for (const [index, one] of batch.entries()) {
              const expected = 'about' in one ? oracle.resolve(one) : oracle.run(one)
              expect(seenOf(outcomes[index])).toEqual(expected)
              const name =
                'failed' in expected
                  ? expected.failed
                  : 'resolved' in expected
                    ? `resolved ${expected.resolved}`
                    : `replayed ${expected.replayed}`
              kinds.set(name, (kinds.get(name) ?? 0) + 1)
            }
            expect(contentOf(f.writer)).toEqual(oracle.content)
          }
        } finally {
          oracle.close()
        }
      },
    ),
    { numRuns: 80, examples: [[ONE_OF_EACH.map((batch) => [...batch])]] },
  )
  // The mix is a mix only if everything in it happened.
  const expected = [
    'replayed true',
    'resolved applied',
    'resolved not-applied',
    'REQUEST_ABANDONED',
    'replayed false',
    'REQUEST_ID_REUSED',
    'too much',
    'undone',
    'partly',
    'UNIQUE constraint failed: t.b',
    'FOREIGN KEY constraint failed',
  ]
  expect([...kinds.keys()].sort()).toEqual([...expected].sort())
})
