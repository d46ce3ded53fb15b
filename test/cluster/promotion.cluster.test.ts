/**
 * Who takes office has everything that others have, or says what is lost: I1 over elections.
 *
 * Real: nodes as processes, the lock of the operating system or an etcd, links that are cut, SIGKILL and SIGSTOP.
 * What may be lost: what only a node has that does not come back, and only when an operator accepts that.
 */
import { readFileSync, rmSync } from 'node:fs'
import path from 'node:path'
import type { ClusterOptions } from '@litefleet/core'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { EtcdServer } from '../support/etcd.ts'
import { ProcessCluster } from '../support/process-cluster.ts'

const NAME = 'app.db'
const CREATE = 'CREATE TABLE entry (text TEXT)'
const INSERT = 'INSERT INTO entry VALUES (?)'
const TEXTS = 'SELECT text FROM entry ORDER BY rowid'
const EVERYWHERE = { await: 'all', timeoutMs: 60_000 } as const
const LOCALLY = { await: 'none', timeoutMs: 60_000 } as const
const TIMEOUT = { timeout: 60_000, interval: 20 }

let cluster: ProcessCluster
let lease: ClusterOptions['lease']

const texts = async (index: number): Promise<readonly unknown[]> =>
  (await cluster.node(index).read(NAME, TEXTS)).map(([text]) => text)
let voters: readonly string[] = []
const start = (index: number, more: Partial<ClusterOptions> = {}) =>
  cluster.startNode(index, { lease, voters, ...more })

/** Nodes 0, 1 and 2; the first is the primary, and all have the table. */
async function startThree(): Promise<void> {
  for (const index of [0, 1, 2]) await start(index)
  expect(await cluster.elected()).toBe(0)
  await cluster.node(1).batch(NAME, [{ sql: CREATE }], EVERYWHERE)
  await cluster.settle(1, 2)
}

describe('without voters, on one machine', () => {
  beforeEach(() => {
    cluster = new ProcessCluster({ database: NAME, links: true })
    lease = { kind: 'host', directory: path.join(cluster.directory, 'lease') }
  })
  afterEach(() => cluster.close())

  test('a node that was stopped while others wrote waits for them, serves what it has, and goes on from what they have', async () => {
    await startThree()
    await cluster.node(2).stop()
    await cluster.node(1).run(NAME, INSERT, ['while 2 was away'], EVERYWHERE)
    await Promise.all([cluster.node(0).kill(), cluster.node(1).kill()])
    await start(2)
    const refused = cluster.node(2).run(NAME, INSERT, ['too early'], { timeoutMs: 1_500 })
    await expect(refused).rejects.toMatchObject({ code: 'NO_PRIMARY', outcome: 'not-applied' })
    await expect(refused).rejects.toThrow(/PROMOTION_REFUSED|may be behind.*node-[01]/)
    expect(await texts(2)).toEqual([])
    expect(cluster.warningsOf('leadership').at(-1)?.message).toContain('--accept-loss')
    // The one that was in office last needs nobody's word.
    await start(0)
    expect(await cluster.elected([0, 2])).toBe(0)
    await cluster.node(2).run(NAME, INSERT, ['all is well'], EVERYWHERE)
    expect(await texts(2)).toEqual(['while 2 was away', 'all is well'])
  })

  test('a stale node that hears from everybody takes office with what they have', async () => {
    await startThree()
    await cluster.node(2).stop()
    await cluster.node(0).run(NAME, INSERT, ['while 2 was away'], EVERYWHERE)
    await cluster.node(0).stop()
    await cluster.elected([1])
    await cluster.node(1).stop()
    // Neither may be the primary now.
    const follower = { lease: { ...lease, candidate: false } as typeof lease }
    await Promise.all([start(0, follower), start(1, follower), start(2)])
    expect(await cluster.elected()).toBe(2)
    expect(await texts(2)).toEqual(['while 2 was away'])
    await cluster.node(1).run(NAME, INSERT, ['goes on'], EVERYWHERE)
    await cluster.expectEqual(0, 1)
    expect(cluster.warningsOf('diverged')).toEqual([])
  })

  test('an operator accepts the loss: it is recorded, and what was lost is in a report when the node comes back', async () => {
    await startThree()
    await cluster.node(2).stop()
    await cluster.node(1).run(NAME, INSERT, ['lost'], EVERYWHERE)
    await Promise.all([cluster.node(0).kill(), cluster.node(1).kill()])
    await start(2)
    await cluster.node(2).promote({ acceptLoss: true, timeoutMs: 30_000 })
    expect(await cluster.elected([2])).toBe(2)
    await cluster.node(2).run(NAME, INSERT, ['kept'], { await: 'none' })
    expect(cluster.warningsOf('loss-accepted')).toMatchObject([{ node: 2 }])
    const [record] = readFileSync(path.join(cluster.dataDirOf(2), 'main/accepted-losses'), 'utf8').split('\n')
    expect(JSON.parse(record!)).toMatchObject({ node: 'node-2', losses: [expect.stringMatching(/node-0.*did not/)] })
    await start(0)
    await start(1)
    await cluster.expectEqual(0, 1)
    expect(await texts(0)).toEqual(['kept'])
    for (const index of [0, 1]) expect(await cluster.node(index).facts(NAME)).toMatchObject({ divergences: 1 })
  })

  test('records that a replica lacks are fetched from the one that has them', async () => {
    await start(0)
    expect(await cluster.elected()).toBe(0)
    await start(1)
    await start(2, { lease: { ...lease, candidate: false } as typeof lease })
    await cluster.node(1).batch(NAME, [{ sql: CREATE }], EVERYWHERE)
    await cluster.settle(1, 2)
    cluster.link(1, 0).drop() // node 1 gets nothing any more
    for (let i = 0; i < 20; i++) await cluster.node(0).run(NAME, INSERT, [`${i}`], { await: { replicas: 1 } })
    expect(await texts(1)).toEqual([])
    await cluster.node(0).kill()
    expect(await cluster.elected([1, 2])).toBe(1)
    expect(await texts(1)).toHaveLength(20)
    await cluster.settle(2)
    expect(cluster.warningsOf('diverged')).toEqual([])
  })

  test('a database that is not there at all is fetched whole', async () => {
    await startThree()
    for (let i = 0; i < 40; i++) await cluster.node(0).run(NAME, INSERT, [`${i}`], LOCALLY)
    await cluster.settle(1, 2)
    await cluster.node(2).stop()
    await cluster.node(0).stop()
    await cluster.elected([1])
    await cluster.node(1).stop()
    // Its disk was replaced; what it knows of the cluster stayed.
    rmSync(cluster.directoryOf(2), { recursive: true })
    const follower = { lease: { ...lease, candidate: false } as typeof lease }
    await Promise.all([start(0, follower), start(1, follower), start(2)])
    expect(await cluster.elected()).toBe(2)
    expect(await texts(2)).toHaveLength(40)
    await cluster.node(1).run(NAME, INSERT, ['goes on'], EVERYWHERE)
    await cluster.expectEqual(0, 1)
  })
})

describe('with voters, through an etcd', () => {
  let etcd: EtcdServer
  beforeEach(async () => {
    voters = ['node-0', 'node-1', 'node-2']
    etcd = await EtcdServer.start()
    cluster = new ProcessCluster({ database: NAME, links: true })
    lease = { kind: 'etcd', endpoints: [etcd.url], ttlMs: 2_000 }
  })
  afterEach(async () => {
    voters = []
    await cluster.close()
    await etcd.close()
  })

  /** Nobody takes office before two of them are there. */
  async function foundThree(): Promise<void> {
    await cluster.startNodes([0, 1, 2], { lease, voters })
    await cluster.elected()
    await cluster.primary.batch(NAME, [{ sql: CREATE }], EVERYWHERE)
    await cluster.settle(...[0, 1, 2].filter((index) => index !== cluster.primaryIndex))
  }

  test('a candidate without a majority takes no office, and does as soon as it has one', async () => {
    await foundThree()
    const last = cluster.primaryIndex === 2 ? 1 : 2
    const others = [0, 1, 2].filter((index) => index !== last)
    await Promise.all(others.map((index) => cluster.node(index).kill()))
    await expect
      .poll(() => cluster.warningsOf('leadership').at(-1)?.message, TIMEOUT)
      .toContain('only 1 of 3 voters answered')
    expect((await cluster.node(last).status()).role).not.toBe('primary')
    await start(others[0]!)
    await cluster.elected([last, others[0]!])
    await cluster.node(last).run(NAME, INSERT, ['two are a majority'], { await: 'majority', timeoutMs: 30_000 })
  })

  test('what was acknowledged at majority is there after every election, also when the old primary only stood still', async () => {
    await foundThree()
    const acknowledged: string[] = []
    for (let round = 0; round < 3; round++) {
      const old = cluster.primaryIndex
      const others = [0, 1, 2].filter((index) => index !== old)
      // One of the others has less: it was away for a while.
      const lagging = others[round % 2]!
      cluster.node(lagging).pause()
      for (let i = 0; i < 5; i++) {
        await cluster.node(old).run(NAME, INSERT, [`${round}.${i}`], { await: 'majority', timeoutMs: 30_000 })
        acknowledged.push(`${round}.${i}`)
      }
      // These are in flight when it stops, and may be told to nobody afterwards unless a majority has them.
      const late = [0, 1, 2].map(async (i) => {
        await cluster.node(old).run(NAME, INSERT, [`${round}.late.${i}`], { await: 'majority', timeoutMs: 20_000 })
        acknowledged.push(`${round}.late.${i}`)
      })
      cluster.node(old).pause()
      cluster.node(lagging).resume()
      await cluster.elected(others)
      cluster.node(old).resume()
      await Promise.allSettled(late)
      await cluster.settle(...[0, 1, 2].filter((index) => index !== cluster.primaryIndex))
      for (const index of [0, 1, 2]) expect(await texts(index)).toEqual(expect.arrayContaining(acknowledged))
    }
  })

  test('a primary that others cannot reach acknowledges nothing at majority, and its writes end in a report', async () => {
    await foundThree()
    const old = cluster.primaryIndex
    const others = [0, 1, 2].filter((index) => index !== old)
    for (const link of cluster.linksOf(old)) link.drop()
    const lonely = cluster.node(old).run(NAME, INSERT, ['alone'], { await: 'majority', timeoutMs: 2_000 })
    await expect(lonely).rejects.toMatchObject({
      code: 'NOT_YET_VISIBLE',
      outcome: 'applied',
      details: { level: 'none' },
    })
    // It holds its lease as long as it likes; the operator moves the office by stopping it.
    cluster.node(old).pause()
    await cluster.elected(others)
    await cluster.primary.run(NAME, INSERT, ['together'], { await: 'majority', timeoutMs: 30_000 })
    for (const link of cluster.linksOf(old)) link.heal()
    cluster.node(old).resume()
    await cluster.settle(...[0, 1, 2].filter((index) => index !== cluster.primaryIndex))
    expect(await texts(old)).toEqual(['together'])
    expect(await cluster.node(old).facts(NAME)).toMatchObject({ divergences: 1 })
  })
})
