/**
 * I7 where an answer gets lost: the caller is told that the outcome is unknown, under which id, and how far the write had come; then
 * `resolve` says on any node what became of it, and what it calls "not applied" never happens, however late the write arrives.
 *
 * Real: nodes as processes, killed and stopped by signals; a proxy that holds a request back. Modelled: the moment of the crash, and the
 * disk that fails, by name of the operation (fault-disk.ts).
 */
import { expect, test } from 'vitest'
import { ProcessCluster } from '../support/process-cluster.ts'
import { NodeError, type ProcessNode } from '../support/process-node.ts'

const NAME = 'app.db'
const HURRY_MS = 1_500
const SCHEMA = [{ sql: 'CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)' }]

async function start(): Promise<ProcessCluster> {
  const cluster = await ProcessCluster.start(3, { database: NAME, links: true })
  await cluster.primary.batch(NAME, SCHEMA)
  await cluster.settle(1, 2)
  return cluster
}

const insert = (node: ProcessNode, b: string, options: { requestId?: string; timeoutMs?: number } = {}) =>
  node.run(NAME, 'INSERT INTO t (b) VALUES (?)', [b], options)
const rows = async (node: ProcessNode): Promise<unknown[]> =>
  (await node.read(NAME, 'SELECT b FROM t ORDER BY a')).map(([b]) => b)
const resolve = (node: ProcessNode, requestId: string) => node.resolve(NAME, requestId, { timeoutMs: 30_000 })

/** The id of a write that did not come back. */
async function unknownOf(write: Promise<unknown>, phase: string): Promise<string> {
  const error = await write.then(
    () => expect.unreachable('the write was acknowledged'),
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(NodeError)
  const { code, outcome, details, hint } = error as NodeError
  expect({ code, outcome, phase: details['phase'] }).toEqual({
    code: 'WRITE_OUTCOME_UNKNOWN',
    outcome: 'unknown',
    phase,
  })
  const id = String(details['requestId'])
  expect(hint).toContain(`database.resolve("${id}")`)
  return id
}

test.each([
  { when: 'before', where: 'SQLite has it, the log has not' },
  { when: 'after', where: 'SQLite and the log have it' },
] as const)(
  'killed right after the commit ($where), the primary lets everybody know that it was applied',
  async ({ when }) => {
    await using cluster = await start()
    await cluster.primary.crashAt('log.append', { when })
    const id = await unknownOf(insert(cluster.node(1), 'x', { timeoutMs: HURRY_MS }), 'sending')
    expect(await cluster.primary.gone()).toBe('SIGKILL')
    await cluster.startNode(0)
    for (const index of [2, 1, 0]) {
      expect(await resolve(cluster.node(index), id)).toMatchObject({
        outcome: 'applied',
        result: { kind: 'batch', results: [{ changes: 1, lastInsertRowid: 1 }] },
      })
      expect(await rows(cluster.node(index))).toEqual(['x']) // at once
    }
    expect(await insert(cluster.node(1), 'x', { requestId: id })).toMatchObject({ replayed: true })
    expect(await rows(cluster.node(1))).toEqual(['x'])
    await cluster.expectEqual(1, 2)
  },
)

test('killed before it read the request, the primary knows nothing; once that was asked, the request never runs, also after another kill', async () => {
  await using cluster = await start()
  cluster.primary.pause()
  const id = await unknownOf(insert(cluster.node(1), 'x', { timeoutMs: HURRY_MS }), 'sending')
  await cluster.primary.kill()
  await cluster.startNode(0)
  expect(await resolve(cluster.node(2), id)).toMatchObject({ outcome: 'not-applied' })
  await cluster.primary.kill()
  await cluster.startNode(0)
  for (const index of [0, 1, 2]) {
    const again = insert(cluster.node(index), 'x', { requestId: id, timeoutMs: 30_000 })
    await expect(again).rejects.toMatchObject({ code: 'REQUEST_ABANDONED', outcome: 'not-applied' })
  }
  await insert(cluster.node(1), 'y')
  expect(await rows(cluster.node(1))).toEqual(['y'])
  await cluster.expectEqual(1, 2)
})

test('a request that was held back on its way does not run once it was resolved as not applied', async () => {
  await using cluster = await start()
  const { grpc } = cluster.link(1, 0)
  grpc.hang('out')
  const id = await unknownOf(insert(cluster.node(1), 'late', { timeoutMs: HURRY_MS }), 'sending')
  expect(await resolve(cluster.node(2), id)).toMatchObject({ outcome: 'not-applied' })
  grpc.heal()
  await insert(cluster.node(1), 'next') // behind it, on the same connection
  expect(grpc.connections).toBe(1)
  expect(await rows(cluster.node(1))).toEqual(['next'])
  expect(await resolve(cluster.node(1), id)).toMatchObject({ outcome: 'not-applied' })
  await cluster.expectEqual(1, 2)
})

test('a request that was held back and that nobody asked about runs when it arrives, and resolve tells so', async () => {
  await using cluster = await start()
  const { grpc } = cluster.link(1, 0)
  grpc.hang('out')
  const id = await unknownOf(insert(cluster.node(1), 'late', { timeoutMs: HURRY_MS }), 'sending')
  grpc.heal()
  await insert(cluster.node(1), 'next')
  expect(grpc.connections).toBe(1)
  expect(await rows(cluster.node(1))).toEqual(['late', 'next'])
  expect(await resolve(cluster.node(2), id)).toMatchObject({ outcome: 'applied' })
})

test('a primary that stands still at the moment of the commit answers the question when it goes on', async () => {
  await using cluster = await start()
  await cluster.primary.addFaults({ operation: 'log.append', effect: { kind: 'delay', ms: 3_000 } })
  const id = await unknownOf(insert(cluster.node(1), 'x', { timeoutMs: HURRY_MS }), 'sending')
  expect(await resolve(cluster.node(2), id)).toMatchObject({ outcome: 'applied' })
  expect(await rows(cluster.node(2))).toEqual(['x'])
})

test('while nobody can be asked the outcome stays unknown, and is found out later', async () => {
  await using cluster = await start()
  await cluster.primary.crashAt('log.append', { when: 'after' })
  const id = await unknownOf(insert(cluster.node(1), 'x', { timeoutMs: HURRY_MS }), 'sending')
  await cluster.primary.gone()
  await expect(cluster.node(1).resolve(NAME, id, { timeoutMs: 500 })).rejects.toMatchObject({
    code: 'WRITE_OUTCOME_UNKNOWN',
    outcome: 'unknown',
    details: { requestId: id },
  })
  await cluster.startNode(0)
  expect(await resolve(cluster.node(1), id)).toMatchObject({ outcome: 'applied' })
})

test('committed on the primary, whose disk failed before it could announce: told so, and found after its restart', async () => {
  await using cluster = await start()
  await cluster.primary.failOperation('log.append', 'EIO', { times: 'always' })
  const id = await unknownOf(insert(cluster.node(1), 'x', { timeoutMs: HURRY_MS }), 'announcement')
  await expect(cluster.node(2).resolve(NAME, id, { timeoutMs: 500 })).rejects.toMatchObject({
    code: 'WRITE_OUTCOME_UNKNOWN',
    details: { lastError: 'DATABASE_STOPPED' },
  })
  await cluster.primary.kill()
  await cluster.startNode(0)
  expect(await resolve(cluster.node(2), id)).toMatchObject({ outcome: 'applied' })
  expect(await rows(cluster.node(2))).toEqual(['x'])
})

test.each([
  ['the primary', 0],
  ['a replica', 1],
])(
  'when the disk of the primary failed for a moment, a write with an id from %s gets its answer all the same',
  async (_, index) => {
    await using cluster = await start()
    const node = cluster.node(index)
    const { position } = await insert(node, 'before')
    await cluster.primary.failOperation('log.append', 'EIO')
    const requestId = `${Date.now().toString(16).padStart(12, '0')}00112233445566778899`
    const answer = await insert(node, 'x', { requestId, timeoutMs: 30_000 })
    expect(answer).toMatchObject({ replayed: true }) // the database came back by itself
    expect(answer.position.txid).toBeGreaterThan(position.txid)
    expect(await rows(node)).toEqual(['before', 'x'])
    await cluster.expectEqual(1, 2)
  },
)

test('committed on the primary for a caller there who gave it no identity: told that only the data can tell', async () => {
  await using cluster = await start()
  await cluster.primary.failOperation('log.append', 'EIO', { times: 'always' })
  const error = (await insert(cluster.primary, 'x').catch((reason: unknown) => reason)) as NodeError
  expect(error).toMatchObject({ code: 'WRITE_OUTCOME_UNKNOWN', outcome: 'unknown' })
  expect(error.details).not.toHaveProperty('requestId')
  expect(error.hint).toContain('only the data can tell')
  await cluster.primary.kill()
  await cluster.startNode(0)
  expect(await rows(cluster.primary)).toEqual(['x'])
})
