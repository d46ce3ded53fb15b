/**
 * I9, I12 with one transaction that is larger than every budget of a node: the send buffer (1 MiB), the window of a stream (8 MiB), the
 * log's cache (8 MiB), the apply queue (16 MiB), a log segment (16 MiB), the WAL that a replica lets grow (256 MiB). It travels whole and
 * becomes visible whole; what cannot travel, a request above 16 MiB, is refused by name. Nothing is ever half done.
 *
 * Real: nodes as processes, with files, sockets and SQLite of their own; SIGKILL.
 * What may be lost: nothing. A transaction costs memory several times its size on every node, for as long as it is under way.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { ProcessCluster } from '../support/process-cluster.ts'
import { Random, seedOfRun } from '../support/random.ts'

const NAME = 'app.db'
const MIB = 2 ** 20
const ROWS = 300
const HUGE =
  'INSERT INTO entry (body) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT randomblob(?) FROM n'
const COUNT = 'SELECT count(*) FROM entry'

async function start(): Promise<ProcessCluster> {
  const cluster = await ProcessCluster.start(2, { database: NAME })
  await cluster.primary.run(NAME, 'CREATE TABLE entry (id INTEGER PRIMARY KEY, body BLOB)')
  await cluster.settle(1)
  return cluster
}

test('a transaction of 300 MiB is visible whole, and a replica that dies over it has all or nothing of it and goes on', async () => {
  const random = new Random(seedOfRun('a huge transaction'))
  await using cluster = await start()
  const write = cluster.primary.run(NAME, HUGE, [ROWS, MIB], { timeoutMs: 120_000, await: 'none' })
  await write
  await sleep(random.below(1_500))
  expect([0, ROWS]).toContain((await cluster.node(1).read(NAME, COUNT))[0]?.[0])
  await cluster.node(1).kill()
  await cluster.startNode(1)
  await cluster.expectEqual(1)
  expect(await cluster.node(1).read(NAME, COUNT)).toEqual([[ROWS]])
  // Small ones go on after it, and it shrinks again.
  await cluster.node(1).run(NAME, 'DELETE FROM entry WHERE id > 1', [], { timeoutMs: 60_000 })
  await cluster.primary.kill()
  await cluster.startNode(0)
  await cluster.node(1).run(NAME, HUGE, [2, 10])
  await cluster.expectEqual(1)
  expect(cluster.warningsOf().filter(({ name }) => name !== 'log-cut')).toEqual([])
})

test('a request that is too large to be forwarded is refused by name and not done, and the connection is as good as before', async () => {
  await using cluster = await start()
  const body = Buffer.alloc(20 * MIB, 1)
  const forwarded = cluster.node(1).run(NAME, 'INSERT INTO entry (body) VALUES (?)', [body])
  await expect(forwarded).rejects.toMatchObject({ outcome: 'not-applied' })
  await cluster.node(1).run(NAME, HUGE, [1, 10])
  expect(await cluster.primary.read(NAME, COUNT)).toEqual([[1]])
  await cluster.expectEqual(1)
})
