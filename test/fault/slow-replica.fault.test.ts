/**
 * I11, I12 with a replica that cannot keep up: it costs the primary no more memory than a replica that can, and holds up nobody else. What it
 * misses waits in the log, up to the limit of the retention; beyond that it gets a snapshot.
 *
 * Real: nodes as processes, with files, sockets and SQLite of their own. Modelled: the slow network, by a proxy on loopback that hands on so
 * many bytes per second, or takes nothing at all while the connection stands.
 * What may be lost: nothing.
 */
import { expect, test } from 'vitest'
import { ProcessCluster } from '../support/process-cluster.ts'

const NAME = 'app.db'
const MIB = 2 ** 20
const INSERT = 'INSERT INTO entry (body) VALUES (randomblob(?))'

async function startLinked(log: object): Promise<ProcessCluster> {
  const cluster = await ProcessCluster.start(3, { database: NAME, links: true, log })
  await cluster.primary.run(NAME, 'CREATE TABLE entry (id INTEGER PRIMARY KEY, body BLOB)')
  await cluster.settle(1, 2)
  return cluster
}

async function txidOf(cluster: ProcessCluster, index: number): Promise<number> {
  return Number((await cluster.node(index).facts(NAME)).position.txid)
}

test('a replica behind a thin line is far behind, and neither the primary nor another replica feels it', async () => {
  const rows = 120
  // Nothing is kept but for that replica.
  await using cluster = await startLinked({ retentionMs: 0, retentionBytes: 0, retentionBytesMax: 2 ** 30 })
  // Warm: what a process needs to do this at all is not what one replica costs.
  for (let i = 0; i < 20; i++) await cluster.node(2).run(NAME, INSERT, [MIB])
  await cluster.settle(1)
  const before = (await cluster.primary.memory()).rss
  cluster.link(1, 0).throttle(200_000)
  let most = before
  for (let i = 0; i < rows; i++) {
    // Answered when it is visible on node 2, within the usual deadline.
    await cluster.node(2).run(NAME, INSERT, [MIB])
    most = Math.max(most, (await cluster.primary.memory()).rss)
  }
  expect(await txidOf(cluster, 2)).toBe(await txidOf(cluster, 0))
  // It is behind by nearly all of it, which is not in the primary's memory.
  expect((await txidOf(cluster, 0)) - (await txidOf(cluster, 1))).toBeGreaterThan(rows / 2)
  console.log(`the primary grew by ${Math.round((most - before) / MIB)} MiB over a backlog of ${rows} MiB`)
  expect(most - before).toBeLessThan((rows / 2) * MIB)
  // Reads there are as good as ever, of what it has.
  expect((await cluster.node(1).read(NAME, 'SELECT count(*) FROM entry'))[0]?.[0]).toBeGreaterThanOrEqual(20)
  cluster.link(1, 0).heal()
  await cluster.expectEqual(1, 2)
  expect(cluster.warningsOf()).toEqual([])
})

test('the log does not wait for a connected replica beyond its limit; then that replica gets a snapshot', async () => {
  const limit = 4 * MIB
  await using cluster = await startLinked({
    retentionMs: 0,
    retentionBytes: MIB,
    retentionBytesMax: limit,
    segmentBytes: MIB,
  })
  await cluster.node(1).run(NAME, INSERT, [10])
  const had = await txidOf(cluster, 1)
  cluster.link(1, 0).http.hang('in')
  // More than all the buffers on the way hold.
  for (let i = 0; i < 40; i++) await cluster.node(2).run(NAME, INSERT, [MIB])
  await expect
    .poll(async () => (await cluster.primary.facts(NAME)).logBytes, { timeout: 30_000, interval: 200 })
    .toBeLessThanOrEqual(limit)
  expect(await cluster.logStart(0)).toBeGreaterThan(had)
  expect(await txidOf(cluster, 1)).toBe(had)
  cluster.link(1, 0).http.heal()
  await cluster.expectEqual(1, 2)
  expect(cluster.warningsOf().map(({ name, node }) => `${name} on node ${node}`)).toEqual(['seeded-again on node 1'])
})
