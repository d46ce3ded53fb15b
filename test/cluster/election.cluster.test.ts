/**
 * A fleet that elects its primary: whoever is in office dies, stops or stands still, and the fleet goes on without anybody's hand.
 *
 * Real: three nodes as processes; the lock of the operating system, an etcd, or a Consul; SIGKILL and SIGSTOP.
 * What may be lost: a write that was acknowledged at a level below `all`. The tests write at `all`, so nothing is.
 */
import path from 'node:path'
import type { ClusterOptions } from '@litefleet/core'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ConsulServer } from '../support/consul.ts'
import { CONSUL, isBuilt } from '../support/go-programs.ts'
import { EtcdServer } from '../support/etcd.ts'
import { ProcessCluster } from '../support/process-cluster.ts'

const NAME = 'app.db'
const INSERT = 'INSERT INTO entry VALUES (?)'
const COUNT = 'SELECT count(*) FROM entry'
const EVERYWHERE = { await: 'all', timeoutMs: 60_000 } as const
const TIMEOUT = { timeout: 60_000, interval: 20 }
const INDEXES = [0, 1, 2]

let cluster: ProcessCluster
let backend: EtcdServer | ConsulServer | undefined
let lease: ClusterOptions['lease']
let written = 0

const KINDS = {
  host: () => ({ kind: 'host', directory: path.join(cluster.directory, 'lease') }) as const,
  etcd: async () => {
    const etcd = await EtcdServer.start()
    backend = etcd
    return { kind: 'etcd', endpoints: [etcd.url], ttlMs: 3_000 } as const
  },
  consul: async () => {
    const consul = await ConsulServer.start()
    backend = consul
    return { kind: 'consul', url: `${consul.url}/fleet`, key: 'primary' } as const
  },
}
/** Consul lets nobody wait for less than 10 s, and up to twice that. */
const KILLS = { host: 2, etcd: 2, consul: 1 }

const MISSING = isBuilt(CONSUL) ? [] : ['consul']

describe.each(Object.entries(KINDS))('with the lease %s', (kind, leaseOf) => {
  beforeEach(async ({ skip }) => {
    skip(MISSING.includes(kind), 'Consul is not built (needs Go)')
    written = 0
    cluster = new ProcessCluster({ database: NAME })
    lease = await leaseOf()
    for (const index of INDEXES) await cluster.startNode(index, { lease })
    await cluster.elected()
    await cluster.primary.batch(NAME, [{ sql: 'CREATE TABLE entry (text TEXT)' }], EVERYWHERE)
  })
  afterEach(async () => {
    await cluster?.close()
    await backend?.close()
    backend = undefined
  })

  test('a primary that is killed is replaced, writes go on through every node, and the epoch grew', async () => {
    await writeThrough(...INDEXES)
    for (let round = 0; round < KILLS[kind as keyof typeof KILLS]; round++) {
      await settled()
      const before = await cluster.primary.facts(NAME)
      const old = cluster.primaryIndex
      const others = INDEXES.filter((index) => index !== old)
      await cluster.primary.kill()
      // These wait for whoever comes next.
      await writeThrough(...others)
      await cluster.elected()
      expect(others).toContain(cluster.primaryIndex)
      expect((await cluster.primary.facts(NAME)).epoch).toBeGreaterThan(before.epoch)
      await cluster.startNode(old, { lease })
      await writeThrough(...INDEXES)
    }
    await expectAll()
  })

  test('a primary that is closed gives its office to another at once', async () => {
    await writeThrough(...INDEXES)
    await settled()
    const old = cluster.primaryIndex
    await cluster.primary.stop()
    await writeThrough(...INDEXES.filter((index) => index !== old))
    await cluster.elected()
    expect(cluster.primaryIndex).not.toBe(old)
    await cluster.startNode(old, { lease })
    await expectAll()
  })

  test('a primary that stands still', async () => {
    await writeThrough(...INDEXES)
    await settled()
    const old = cluster.primaryIndex
    const others = INDEXES.filter((index) => index !== old)
    cluster.primary.pause()
    if (kind === 'host') {
      // Nobody can take the lock from it: the fleet waits, and goes on as it was.
      await expect(cluster.node(others[0]!).run(NAME, INSERT, ['x'], { timeoutMs: 3_000 })).rejects.toThrow()
      for (const index of others) expect((await cluster.node(index).status()).role).not.toBe('primary')
      cluster.primary.resume()
      await cluster.elected()
      expect(cluster.primaryIndex).toBe(old)
      // The write that was given up may have been on its way.
      await cluster.settle(...others)
      ;[[written]] = (await cluster.primary.read(NAME, COUNT)) as [[number]]
    } else {
      await writeThrough(...others)
      await cluster.elected(others)
      expect(others).toContain(cluster.primaryIndex)
      cluster.node(old).resume()
      await expect.poll(async () => (await cluster.node(old).status()).role, TIMEOUT).toBe('replica')
    }
    await writeThrough(...INDEXES)
    await expectAll()
  })
})

test('a node that is no candidate follows and never takes over', async () => {
  written = 0
  cluster = new ProcessCluster({ database: NAME })
  await using _ = cluster
  const directory = path.join(cluster.directory, 'lease')
  lease = { kind: 'host', directory }
  await cluster.startNode(0, { lease })
  await cluster.startNode(1, { lease: { ...lease, candidate: false } })
  await cluster.primary.batch(NAME, [{ sql: 'CREATE TABLE entry (text TEXT)' }], EVERYWHERE)
  await writeThrough(0, 1)
  await cluster.primary.kill()
  await expect.poll(async () => (await cluster.node(1).status()).role, TIMEOUT).toBe('detached')
  const refused = cluster.node(1).run(NAME, INSERT, ['x'], { timeoutMs: 2_000 })
  await expect(refused).rejects.toMatchObject({ code: 'NO_PRIMARY' })
  expect(await cluster.node(1).read(NAME, COUNT)).toEqual([[written]])
  await cluster.startNode(0, { lease })
  await writeThrough(1)
})

test('a backend that cannot be reached: the node says which and what to do, and comes up when it is there', async () => {
  await using late = await EtcdServer.start()
  await late.kill()
  cluster = new ProcessCluster({ database: NAME })
  await using _ = cluster
  const starting = cluster.spawnNode(0, { lease: { kind: 'etcd', endpoints: [late.url] } })
  await expect.poll(() => cluster.warningsOf('leadership').length, TIMEOUT).toBeGreaterThan(0)
  const [warning] = cluster.warningsOf('leadership')
  expect(warning?.message).toContain(`LEASE_UNAVAILABLE: etcd at ${late.url}`)
  expect(warning?.message).toContain('lease.endpoints')
  await late.start()
  await starting.ready()
  await expect.poll(async () => (await starting.status()).role, TIMEOUT).toBe('primary')
})

/** One write through each node, seen everywhere. One that was refused while nobody was in office is made again. */
async function writeThrough(...indexes: readonly number[]): Promise<void> {
  for (const index of indexes) {
    await cluster.node(index).run(NAME, INSERT, [`by ${index}`], EVERYWHERE)
    written++
  }
}

/** Everybody has everything; `all` speaks of the replicas that were connected. */
async function settled(): Promise<void> {
  await cluster.settle(...INDEXES.filter((index) => index !== cluster.primaryIndex))
}

async function expectAll(): Promise<void> {
  await cluster.elected()
  await cluster.expectEqual(...INDEXES.filter((index) => index !== cluster.primaryIndex))
  for (const index of INDEXES) expect(await cluster.node(index).read(NAME, COUNT)).toEqual([[written]])
  expect(cluster.warningsOf('diverged')).toEqual([])
}
