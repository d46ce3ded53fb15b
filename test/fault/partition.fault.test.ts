/**
 * I1, I3, I7, I9 while nodes do not reach each other: each side answers honestly, nothing is lost or done twice, and when the network is
 * whole again everybody is equal without anybody's help.
 *
 * Real: nodes as processes; network namespaces between which packets are really lost, in one direction or both, with a cluster key on every
 * connection; or proxies on loopback that cut, hang or swallow one direction of a node's connections. Not real: a routing mistake that
 * sends a node's packets to another one.
 * What may be lost: nothing. A caller whose answer did not come is told that the outcome is unknown.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import type { Link } from '../support/link.ts'
import { Namespaces } from '../support/namespaces.ts'
import { ProcessCluster } from '../support/process-cluster.ts'
import { Random, seedOfRun } from '../support/random.ts'
import { TRACKED_SCHEMA, TrackedWrites } from '../support/tracked-writes.ts'

const NAME = 'app.db'
const INSERT = 'INSERT INTO entry VALUES (?, 0, NULL)'
/** Longer than a node takes to believe that a connection is dead. */
const LONG_MS = 10_000
const SHORT_MS = 1_000

/** Callers on every node, some in a hurry. */
function writesEverywhere(cluster: ProcessCluster, random: Random): TrackedWrites {
  return new TrackedWrites({
    database: NAME,
    random,
    node: (caller) => cluster.node(caller % cluster.indexes.length),
    callers: 6,
    bodyBytesMax: 10_000,
    timeoutsMs: [500, 60_000],
  })
}

describe('between hosts', () => {
  test.each<[string, [string, number, (hosts: Namespaces) => void][]]>([
    [
      'the primary',
      [
        ['hears nobody', SHORT_MS, (hosts) => hosts.loseTo(0)],
        ['reaches nobody', SHORT_MS, (hosts) => hosts.loseFrom(0)],
        ['is alone', LONG_MS, (hosts) => hosts.isolate(0)],
      ],
    ],
    [
      'a replica',
      [
        ['is alone', SHORT_MS, (hosts) => hosts.isolate(1)],
        ['reaches nobody', SHORT_MS, (hosts) => hosts.loseFrom(1)],
        ['hears nobody', LONG_MS, (hosts) => hosts.loseTo(1)],
      ],
    ],
    [
      'one direction of one pair of hosts',
      [
        ['to the primary', LONG_MS, (hosts) => hosts.lose(1, 0)],
        ['to a replica', SHORT_MS, (hosts) => hosts.lose(0, 1)],
      ],
    ],
  ])('writes on all nodes survive that %s is cut off', async (who, partitions) => {
    const random = new Random(seedOfRun(`cut off ${who}`))
    using hosts = Namespaces.create(3)
    await using cluster = await ProcessCluster.start(3, {
      database: NAME,
      clusterKey: 'a key for three namespaces',
      places: hosts.places,
    })
    await cluster.primary.batch(NAME, TRACKED_SCHEMA)
    await cluster.settle(1, 2)
    const writes = writesEverywhere(cluster, random)
    writes.start()
    for (const [, durationMs, cut] of partitions) {
      await writes.progress(30)
      cut(hosts)
      await sleep(durationMs)
      hosts.heal()
    }
    await writes.progress(30)
    await writes.stop()
    await writes.resolveUnknown(cluster.node(1))
    await cluster.expectEqual(1, 2)
    for (const index of cluster.indexes) await writes.expectHonest(cluster.node(index))
    expect(cluster.warningsOf()).toEqual([])
  })

  test('a primary without its replicas says of a write that waits for them that it is applied and not yet there', async () => {
    using hosts = Namespaces.create(2)
    await using cluster = await ProcessCluster.start(2, {
      database: NAME,
      clusterKey: 'a key for two namespaces',
      places: hosts.places,
    })
    await cluster.primary.batch(NAME, TRACKED_SCHEMA)
    await cluster.settle(1)
    hosts.isolate(0)
    await expect(
      cluster.primary.run(NAME, INSERT, [1], { await: { replicas: 1 }, timeoutMs: 1_000 }),
    ).rejects.toMatchObject({ code: 'NOT_YET_VISIBLE', outcome: 'applied' })
    await cluster.primary.run(NAME, INSERT, [2])
    // The other side serves what it has, and does not pretend to write.
    expect(await cluster.node(1).read(NAME, 'SELECT count(*) FROM entry')).toEqual([[0]])
    const refused = await outcomeOf(cluster.node(1).run(NAME, INSERT, [3], { timeoutMs: 1_000 }))
    expect(['not-applied', 'unknown']).toContain(refused)
    hosts.heal()
    // A barrier behind whatever is still on its way from node 1.
    await cluster.node(1).run(NAME, INSERT, [4], { timeoutMs: 30_000 })
    await cluster.expectEqual(1)
    const ids = (await cluster.node(1).read(NAME, 'SELECT id FROM entry ORDER BY id')).map(([id]) => id)
    expect(ids.filter((id) => refused === 'not-applied' || id !== 3)).toEqual([1, 2, 4])
  })
})

describe('between a caller and the primary', () => {
  test.each<[string, (link: Link) => void]>([
    ['are refused', (link) => link.grpc.drop()],
    ['get nothing through', (link) => link.grpc.hang('out')],
    ['never hear the answer', (link) => link.grpc.hang('in')],
  ])('connections that %s: the outcome is told truthfully, and reads go on with what others write', async (_, cut) => {
    await using cluster = await startLinked(2)
    await cluster.node(1).run(NAME, INSERT, [1])
    cut(cluster.link(1, 0))
    const hurried = await outcomeOf(cluster.node(1).run(NAME, INSERT, [2], { timeoutMs: 700 }))
    const patient = outcomeOf(cluster.node(1).run(NAME, INSERT, [3], { timeoutMs: 60_000 }))
    // The stream is a connection of its own.
    const { position } = await cluster.primary.run(NAME, INSERT, [4])
    await expect
      .poll(async () => (await cluster.node(1).facts(NAME)).position.txid, { timeout: 5_000 })
      .toBeGreaterThanOrEqual(position.txid)
    cluster.link(1, 0).heal()
    expect(await patient).toBe('applied')
    await cluster.expectEqual(1)
    const ids = (await cluster.primary.read(NAME, 'SELECT id FROM entry ORDER BY id')).map(([id]) => id)
    expect(hurried).not.toBe('applied')
    if (hurried === 'not-applied') expect(ids).not.toContain(2)
    expect(ids.filter((id) => id !== 2)).toEqual([1, 3, 4])
  })

  test('connections that break again and again cost no write, and none is done twice', async () => {
    const random = new Random(seedOfRun('cut the caller off'))
    await using cluster = await startLinked(3)
    const writes = writesEverywhere(cluster, random)
    writes.start()
    for (let cut = 1; cut <= 40; cut++) {
      await sleep(random.below(120))
      const link = cluster.link(1 + random.below(2), 0)
      const wire = random.pick([link.grpc, link.http, link])
      wire.cut()
    }
    await writes.progress(20)
    await writes.stop()
    await writes.resolveUnknown(cluster.node(1))
    await cluster.expectEqual(1, 2)
    for (const index of cluster.indexes) await writes.expectHonest(cluster.node(index))
  })
})

test('a replica that receives no stream says of its own writes that they are applied and not yet visible', async () => {
  await using cluster = await startLinked(2)
  cluster.link(1, 0).http.hang('both')
  await expect(cluster.node(1).run(NAME, INSERT, [1], { timeoutMs: 1_000 })).rejects.toMatchObject({
    code: 'NOT_YET_VISIBLE',
    outcome: 'applied',
  })
  expect(await cluster.node(1).read(NAME, 'SELECT count(*) FROM entry')).toEqual([[0]])
  cluster.link(1, 0).heal()
  await cluster.expectEqual(1)
  expect(await cluster.node(1).read(NAME, 'SELECT count(*) FROM entry')).toEqual([[1]])
})

async function startLinked(nodes: number): Promise<ProcessCluster> {
  const cluster = await ProcessCluster.start(nodes, { database: NAME, links: true })
  await cluster.primary.batch(NAME, TRACKED_SCHEMA)
  await cluster.settle(...cluster.indexes.slice(1))
  return cluster
}

async function outcomeOf(write: Promise<unknown>): Promise<unknown> {
  try {
    await write
    return 'applied'
  } catch (error) {
    return (error as { outcome?: string }).outcome
  }
}
