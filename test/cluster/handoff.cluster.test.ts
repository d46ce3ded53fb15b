/**
 * The office is handed off while everybody writes: callers see latency and no error, and every write is there once.
 *
 * Real: three nodes as processes, the lock of the operating system or an etcd, links. What may be lost: nothing.
 */
import path from 'node:path'
import type { ClusterOptions } from '@litefleet/core'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { EtcdServer } from '../support/etcd.ts'
import { ProcessCluster } from '../support/process-cluster.ts'

const NAME = 'app.db'
const CREATE = 'CREATE TABLE entry (text TEXT UNIQUE)'
const INSERT = 'INSERT INTO entry VALUES (?)'
const COUNT = 'SELECT count(*) FROM entry'
const INDEXES = [0, 1, 2]
const EVERYWHERE = { await: 'all', timeoutMs: 60_000 } as const

let cluster: ProcessCluster
let etcd: EtcdServer | undefined
let lease: ClusterOptions['lease']

const KINDS = {
  host: () => ({ kind: 'host', directory: path.join(cluster.directory, 'lease') }) as const,
  etcd: async () => {
    etcd = await EtcdServer.start()
    return { kind: 'etcd', endpoints: [etcd.url], ttlMs: 10_000 } as const
  },
}

describe.each(Object.entries(KINDS))('with the lease %s', (_kind, leaseOf) => {
  beforeEach(async () => {
    cluster = new ProcessCluster({ database: NAME, links: true })
    lease = await leaseOf()
    for (const index of INDEXES) await cluster.startNode(index, { lease })
    await cluster.elected()
    await cluster.primary.batch(NAME, [{ sql: CREATE }], EVERYWHERE)
    await cluster.settle(...others())
  })
  afterEach(async () => {
    await cluster.close()
    await etcd?.close()
    etcd = undefined
  })

  test('again and again under 64 callers on all nodes: no call fails, and each write is there once', async () => {
    const over = new AbortController()
    let written = 0
    const callers = Array.from({ length: 64 }, async (_, caller) => {
      for (let i = 0; !over.signal.aborted; i++) {
        const level = (['none', 'local', { replicas: 1 }, 'all'] as const)[caller % 4]!
        await cluster.node(caller % 3).run(NAME, INSERT, [`${caller}.${i}`], { await: level, timeoutMs: 30_000 })
        written++
      }
    })
    for (let round = 0; round < 6; round++) {
      const to = others()[round % 2]!
      // Any node may be asked.
      const asked = cluster.node(INDEXES[round % 3]!)
      expect(await asked.handOff(`node-${to}`, { timeoutMs: 30_000 })).toBe(`node-${to}`)
      expect(await cluster.elected()).toBe(to)
    }
    over.abort()
    await Promise.all(callers)
    await cluster.expectEqual(...others())
    for (const index of INDEXES) expect(await cluster.node(index).read(NAME, COUNT)).toEqual([[written]])
    expect(cluster.warningsOf('diverged')).toEqual([])
    expect(cluster.warningsOf('leadership')).toEqual([])
  })

  test('a replica that is promoted is handed the office', async () => {
    const [to] = others()
    await cluster.node(to!).promote({ timeoutMs: 30_000 })
    expect(await cluster.elected()).toBe(to)
    await cluster.node(to!).promote()
    for (const index of INDEXES) await cluster.node(index).run(NAME, INSERT, [`by ${index}`], EVERYWHERE)
  })

  test('to a node that cannot catch up it fails, and the primary goes on', async () => {
    const old = cluster.primaryIndex
    const [to] = others()
    cluster.link(to!, old).hang('both')
    const writing = cluster.primary.run(NAME, INSERT, ['before'], { await: 'none' })
    await writing
    const failing = cluster.primary.handOff(`node-${to}`, { timeoutMs: 1_000 })
    const waiting = cluster.primary.run(NAME, INSERT, ['meanwhile'], { timeoutMs: 30_000 })
    await expect(failing).rejects.toMatchObject({ code: 'HANDOFF_FAILED' })
    await waiting
    expect(await cluster.elected([old])).toBe(old)
    await expect(cluster.primary.handOff('nobody', { timeoutMs: 200 })).rejects.toThrow(/"nobody" is not connected/)
    await expect(cluster.primary.handOff(`node-${old}`)).rejects.toThrow(/is the primary already/)
    cluster.link(to!, old).heal()
    expect(await cluster.primary.handOff(`node-${to}`, { timeoutMs: 30_000 })).toBe(`node-${to}`)
  })
})

test('a static lease cannot be handed off, and says what to do instead', async () => {
  cluster = await ProcessCluster.start(2, { database: NAME })
  await using _ = cluster
  for (const index of [0, 1])
    await expect(cluster.node(index).handOff()).rejects.toMatchObject({ code: 'HANDOFF_FAILED' })
  await expect(cluster.node(1).promote()).rejects.toThrow(/can be no candidate/)
})

function others(): readonly number[] {
  return INDEXES.filter((index) => index !== cluster.primaryIndex)
}
