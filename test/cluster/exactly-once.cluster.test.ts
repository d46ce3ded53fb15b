/**
 * What the request ledger promises to applications, with its options as they set them: whatever it knows it knows after a restart of
 * the primary, and after another node has become the primary.
 */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type ClusterError, type Database, type LedgerOptions, parseRequestId } from '@litefleet/core'
import { TestCluster } from '@litefleet/core/testing'
import { SkewedClock } from '../support/skewed-clock.ts'

const NAME = 'app.db'
const SECOND_MS = 1_000
const INSERT = 'INSERT INTO t (b) VALUES (?) RETURNING a, b'

let cluster: TestCluster
let clock: SkewedClock

beforeEach(() => {
  clock = new SkewedClock(0)
})
afterEach(() => cluster.close())

async function start(ledger: LedgerOptions): Promise<void> {
  cluster = await TestCluster.start({ nodes: 2, environment: { clock: clock.clock }, options: { ledger } })
  const [primary] = await cluster.database(NAME)
  await primary?.run('CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)')
  await cluster.settle(NAME)
}

const on = (index: number): Promise<Database> => cluster.node(index).database(NAME)
const newId = (): string => cluster.node(1).newRequestId()
const insert = async (b: string, requestId: string, index = 1) => (await on(index)).run(INSERT, [b], { requestId })
const resolve = async (requestId: string, index = 1) => (await on(index)).resolve(requestId)
const rows = async (): Promise<unknown[]> => (await on(1)).prepare('SELECT b FROM t ORDER BY a').all()

/** As the id of a write that was made so long ago. */
function idOfAge(ageMs: number): string {
  return `${(Date.now() + clock.skewMs - ageMs).toString(16).padStart(12, '0')}0123456789abcdef0123`
}

async function restartPrimary(): Promise<void> {
  await cluster.stopNode(0)
  await cluster.startNode(0)
  await cluster.settle(NAME)
}

/** Node 1 becomes the primary, node 0 its replica. */
async function exchangeRoles(): Promise<void> {
  await cluster.settle(NAME)
  await cluster.stopNode(1)
  await cluster.stopNode(0)
  const { addresses } = await cluster.startNode(1, { lease: { kind: 'static', primary: true } })
  await cluster.startNode(0, { lease: { kind: 'static', primary: { url: addresses.http } } })
  await (await on(0)).waitFor((await on(1)).position)
}

const STAGES = [
  ['at once', () => Promise.resolve()],
  ['after a restart of the primary', restartPrimary],
  ['when another node is the primary', exchangeRoles],
] as const

async function atEveryStage(check: (stage: string) => Promise<void>): Promise<void> {
  for (const [stage, move] of STAGES) {
    await move()
    await check(stage)
  }
}

describe('a request id', () => {
  test('takes effect once and gets its first answer; for another request it is refused', async () => {
    await start({})
    const id = newId()
    expect(parseRequestId(id)).toBe(id)
    const first = await insert('x', id)
    expect(first).toMatchObject({ requestId: id, replayed: false, rows: [{ a: 1, b: 'x' }] })
    await atEveryStage(async (stage) => {
      for (const index of [0, 1]) {
        const again = await insert('x', id, index)
        expect(again, stage).toMatchObject({ requestId: id, replayed: true, rows: [{ a: 1, b: 'x' }] })
        await expect(insert('y', id, index), stage).rejects.toMatchObject({
          code: 'REQUEST_ID_REUSED',
          outcome: 'not-applied',
          details: { requestId: id, phase: 'before-commit' },
        })
        expect(await resolve(id, index), stage).toMatchObject({
          outcome: 'applied',
          result: { kind: 'batch', results: [{ changes: 1, rows: [{ a: 1, b: 'x' }] }] },
        })
      }
    })
    expect(await rows()).toEqual([{ b: 'x' }])
  })

  test('of a write on the primary itself is remembered, too, and one of a procedure', async () => {
    await start({})
    const ids = [newId(), newId()] as const
    const procedures = await Promise.all(
      [0, 1].map(async (index) =>
        cluster.node(index).procedure('add', {
          database: await on(index),
          run: (tx, b: string) => tx.get(INSERT, [b]) as { a: number; b: string },
        }),
      ),
    )
    await insert('x', ids[0], 0)
    expect(await procedures[0]?.('y', { requestId: ids[1] })).toEqual({ a: 2, b: 'y' })
    expect(await insert('x', ids[0], 1)).toMatchObject({ replayed: true })
    expect(await procedures[1]?.detailed('y', { requestId: ids[1] })).toMatchObject({
      replayed: true,
      requestId: ids[1],
      value: { a: 2, b: 'y' },
    })
    expect(await resolve(ids[1])).toMatchObject({ outcome: 'applied', result: { kind: 'procedure', value: { a: 2 } } })
    expect(await rows()).toEqual([{ b: 'x' }, { b: 'y' }])
  })

  test('that is none is refused before anything is sent', async () => {
    await start({})
    for (const requestId of ['', 'x', 'A'.repeat(32), 7 as never]) {
      await expect(insert('x', requestId)).rejects.toMatchObject({ code: 'INVALID_OPTION' })
      await expect(resolve(requestId)).rejects.toMatchObject({ code: 'INVALID_REQUEST' })
    }
    await expect((await on(1)).resolve(newId(), { timeout: 5 } as never)).rejects.toMatchObject({
      code: 'INVALID_OPTION',
    })
  })

  test('that was resolved as not applied never runs', async () => {
    await start({})
    const id = newId()
    const { outcome, position } = await resolve(id)
    expect(outcome).toBe('not-applied')
    expect((await on(0)).position).toEqual(position)
    await atEveryStage(async (stage) => {
      for (const index of [0, 1]) {
        await expect(insert('x', id, index), stage).rejects.toMatchObject({
          code: 'REQUEST_ABANDONED',
          outcome: 'not-applied',
          retry: 'never',
        })
        expect(await resolve(id, index), stage).toMatchObject({ outcome: 'not-applied' })
      }
    })
    expect(await rows()).toEqual([])
  })

  test('of a write that failed may be used again, until somebody asked about it', async () => {
    await start({})
    const id = newId()
    const bad = (): Promise<unknown> =>
      on(1).then((db) => db.run('INSERT INTO t VALUES (1, 2, 3)', [], { requestId: id }))
    await expect(bad()).rejects.toMatchObject({ code: 'SQLITE_ERROR' })
    await expect(bad()).rejects.toMatchObject({ code: 'SQLITE_ERROR' })
    expect(await resolve(id)).toMatchObject({ outcome: 'not-applied' })
    await expect(bad()).rejects.toMatchObject({ code: 'REQUEST_ABANDONED' })
  })

  test('what was applied is visible on the node that asked, before the answer', async () => {
    await start({})
    const id = newId()
    await insert('x', id, 0)
    expect(await resolve(id, 1)).toMatchObject({ outcome: 'applied' })
    expect(await rows()).toEqual([{ b: 'x' }])
  })
})

describe('an answer that was too large to keep', () => {
  test('is said to be dropped; the write was applied', async () => {
    await start({ answerBytesMax: 64 })
    const id = newId()
    const large = 'x'.repeat(100)
    expect(await insert(large, id)).toMatchObject({ rows: [{ b: large }] })
    await atEveryStage(async (stage) => {
      await expect(insert(large, id), stage).rejects.toMatchObject({
        code: 'ANSWER_DROPPED',
        outcome: 'applied',
        details: { requestId: id, phase: 'answer' },
      })
      expect(await resolve(id), stage).toMatchObject({ outcome: 'applied', result: undefined })
    })
    expect(await rows()).toEqual([{ b: large }])
  })
})

describe('the bounds of the ledger', () => {
  const BOUNDS = { retentionMs: 600 * SECOND_MS, retentionMinMs: 60 * SECOND_MS, rowsMax: 16 }

  test('once full, new requests are refused with what to do; known ones are answered', async () => {
    await start(BOUNDS)
    const ids = Array.from({ length: 16 }, newId)
    for (const id of ids) await insert(id, id)
    const refused = newId()
    await atEveryStage(async (stage) => {
      await expect(insert('more', refused), stage).rejects.toMatchObject({
        code: 'LEDGER_FULL',
        outcome: 'not-applied',
        retry: 'after-backoff',
        hint: expect.stringContaining('ledger.rowsMax'),
        details: { requestId: refused, rowsMax: 16, rows: 16, retryAfterMs: expect.any(Number) },
      })
      // A write that needs no row goes on.
      await (await on(cluster.node(0).role.kind === 'primary' ? 0 : 1)).run('UPDATE t SET b = b')
      for (const id of [ids[0], ids[15]] as string[]) {
        expect(await insert(id, id), stage).toMatchObject({ replayed: true })
        expect(await resolve(id), stage).toMatchObject({ outcome: 'applied' })
      }
    })
    expect((await rows()).length).toBe(16)
    // Waiting as long as the refusal says makes room.
    const { details } = (await insert('more', refused).catch((error: unknown) => error)) as ClusterError
    expect(details['retryAfterMs']).toBeLessThanOrEqual(BOUNDS.retentionMinMs)
    clock.skewMs += Number(details['retryAfterMs']) + 1
    expect(await insert('more', refused)).toMatchObject({ replayed: false })
  })

  test('under pressure the oldest requests go early, and never run again', async () => {
    await start(BOUNDS)
    const ids = Array.from({ length: 16 }, newId)
    for (const id of ids) await insert(id, id)
    clock.skewMs = 61 * SECOND_MS
    const next = newId()
    expect(await insert('next', next)).toMatchObject({ replayed: false })
    await atEveryStage(async (stage) => {
      for (const id of [ids[0], ids[15]] as string[]) {
        const tooOld = { code: 'REQUEST_TOO_OLD', outcome: 'unknown', retry: 'never', details: { requestId: id } }
        await expect(insert(id, id), stage).rejects.toMatchObject(tooOld)
        await expect(resolve(id), stage).rejects.toMatchObject(tooOld)
      }
      expect(await insert('next', next), stage).toMatchObject({ replayed: true })
    })
    expect((await rows()).length).toBe(17)
  })

  test('a request older than the retention is not run, known or not', async () => {
    await start({ retentionMs: 60 * SECOND_MS })
    const [known, unseen] = [newId(), idOfAge(61 * SECOND_MS)]
    await insert('x', known)
    await expect(insert('y', unseen)).rejects.toMatchObject({ code: 'REQUEST_TOO_OLD', outcome: 'unknown' })
    clock.skewMs = 62 * SECOND_MS
    await insert('z', newId()) // prunes
    await atEveryStage(async (stage) => {
      for (const id of [known, unseen]) {
        await expect(insert('x', id), stage).rejects.toMatchObject({ code: 'REQUEST_TOO_OLD' })
        await expect(resolve(id), stage).rejects.toMatchObject({ code: 'REQUEST_TOO_OLD' })
      }
    })
    expect(await rows()).toEqual([{ b: 'x' }, { b: 'z' }])
  })

  test('what was pruned is not run, though the clock of the next primary is late', async () => {
    await start(BOUNDS)
    const ids = Array.from({ length: 16 }, newId)
    for (const id of ids) await insert(id, id)
    clock.skewMs = 61 * SECOND_MS
    await insert('next', newId())
    await cluster.settle(NAME)
    clock.skewMs = 0
    await exchangeRoles()
    for (const id of [ids[0], ids[15]] as string[]) {
      await expect(insert(id, id)).rejects.toMatchObject({ code: 'REQUEST_TOO_OLD' })
    }
    expect(await insert('now', newId())).toMatchObject({ replayed: false })
  })
})
