/**
 * I1, I2, I3, I7, I9 while a node's disk fails and comes back: the database stops, is served as it is, and goes on by itself.
 *
 * Real: nodes as processes with files, sockets and SQLite of their own. Modelled: the failing disk, which refuses a named operation of the
 * node and is whole again when the test says so; what SQLite itself writes does not fail here (disk.fault.test.ts fills a real one).
 * What may be lost: nothing. A write whose record could not be logged is `unknown` to its caller and is there afterwards, once.
 */
import { formatPosition } from '@litefleet/core'
import { expect, test } from 'vitest'
import type { FaultRule } from '../support/fault-disk.ts'
import { ProcessCluster } from '../support/process-cluster.ts'

const NAME = 'app.db'
const COUNT = 'SELECT count(*) FROM entry'
const INSERT = 'INSERT INTO entry (body) VALUES (randomblob(?))'

async function startWithRows(log: object = {}): Promise<ProcessCluster> {
  const cluster = await ProcessCluster.start(2, { database: NAME, log })
  await cluster.primary.batch(NAME, [{ sql: 'CREATE TABLE entry (id INTEGER PRIMARY KEY, body BLOB)' }])
  for (let i = 0; i < 10; i++) await cluster.primary.run(NAME, INSERT, [3000])
  await cluster.settle(1)
  return cluster
}

async function stateOf(cluster: ProcessCluster, index: number): Promise<string> {
  return (await cluster.node(index).facts(NAME)).state
}

const STOPS = { timeout: 20_000 }

test.each<{ operation: string; errno: string; more?: Partial<FaultRule> }>([
  { operation: 'log.append', errno: 'ENOSPC' },
  { operation: 'log.sync', errno: 'EIO' },
  { operation: 'apply.write-frames', errno: 'EIO' },
  { operation: 'apply.write-index', errno: 'EIO' },
  { operation: 'apply.publish-copy2', errno: 'EIO' },
  { operation: 'apply.publish-copy1', errno: 'EIO' },
])(
  'a replica whose $operation fails with $errno serves what it has, and goes on by itself when the disk is whole',
  async ({ operation, errno }) => {
    await using cluster = await startWithRows()
    const replica = cluster.node(1)
    await replica.failOperation(operation, errno, { times: 'always' })
    await replica.failOperation('store.probe', errno, { times: 'always' })
    await cluster.primary.run(NAME, INSERT, [3000])
    await expect.poll(() => stateOf(cluster, 1), STOPS).toBe('stopped')
    // It may be visible already: the last step of publishing it is the one that failed.
    expect([[[10]], [[11]]]).toContainEqual(await replica.read(NAME, COUNT))
    for (let i = 0; i < 3; i++) await cluster.primary.run(NAME, INSERT, [3000])
    await expect.poll(() => cluster.warningsOf('still-stopped').length, STOPS).toBeGreaterThan(0)
    expect(await stateOf(cluster, 1)).toBe('stopped')
    await replica.clearFaults()
    await expect.poll(() => stateOf(cluster, 1), STOPS).toBe('ready')
    await cluster.expectEqual(1)
    expect(await replica.read(NAME, COUNT)).toEqual([[14]])
    await replica.run(NAME, INSERT, [10])
    await cluster.expectEqual(1)
    const names = new Set(cluster.warningsOf().map(({ name, node }) => `${name} on ${node}`))
    expect([...names]).toEqual(['stopped on 1', 'still-stopped on 1', 'resumed on 1'])
  },
)

test('a replica that starts without room for what its log holds serves what it has, and goes on by itself', async () => {
  await using cluster = await startWithRows()
  const full = { operation: 'apply.write-frames', effect: { kind: 'fail', errno: 'ENOSPC' }, times: 'always' } as const
  await cluster.node(1).addFaults(full)
  await cluster.primary.run(NAME, INSERT, [3000])
  await expect.poll(() => stateOf(cluster, 1), STOPS).toBe('stopped')
  await cluster.node(1).kill()
  const replica = await cluster.startNode(1, {}, { faults: [full] })
  expect(await stateOf(cluster, 1)).toBe('stopped')
  expect(await replica.read(NAME, COUNT)).toEqual([[10]])
  await cluster.primary.run(NAME, INSERT, [3000])
  await replica.clearFaults()
  await expect.poll(() => stateOf(cluster, 1), STOPS).toBe('ready')
  await cluster.expectEqual(1)
  expect(await replica.read(NAME, COUNT)).toEqual([[12]])
})

test.each<{ operation: string; errno: string; log?: object; more?: Partial<FaultRule> }>([
  { operation: 'log.append', errno: 'ENOSPC' },
  { operation: 'log.append', errno: 'EIO', more: { times: 3 } },
  { operation: 'log.new-segment', errno: 'ENOSPC', log: { segmentBytes: 4096 } },
  { operation: 'capture.read-frames', errno: 'EIO' },
  { operation: 'log.sync', errno: 'EIO', log: { segmentBytes: 4096 } },
])(
  'a primary whose $operation fails with $errno refuses writes, and takes them again by itself; no replica notices',
  async ({ operation, errno, log, more }) => {
    await using cluster = await startWithRows(log)
    const { primary } = cluster
    await primary.failOperation(operation, errno, { times: 'always', ...more })
    await primary.failOperation('store.probe', errno, { times: 'always' })
    const logStart = await cluster.logStart(1)
    let acknowledged = 10
    let unknown = 0
    for (let tries = 0; tries < 200 && (await stateOf(cluster, 0)) === 'ready'; tries++) {
      try {
        await primary.run(NAME, INSERT, [3000])
        acknowledged++
      } catch (error) {
        expect(error).toMatchObject({ outcome: 'unknown' })
        unknown++
      }
    }
    expect(await stateOf(cluster, 0)).toBe('stopped')
    await expect(cluster.node(1).run(NAME, INSERT, [10], { timeoutMs: 1_000 })).rejects.toMatchObject({
      outcome: 'not-applied',
    })
    await expect.poll(() => cluster.warningsOf('still-stopped').length, STOPS).toBeGreaterThan(0)
    await primary.clearFaults()
    await expect.poll(() => stateOf(cluster, 0), STOPS).toBe('ready')
    const before = (await primary.facts(NAME)).position
    await cluster.expectEqual(1)
    expect(await primary.read(NAME, COUNT)).toEqual([[acknowledged + unknown]])
    await cluster.node(1).run(NAME, INSERT, [10])
    await cluster.expectEqual(1)
    // It was a copy of the log all along: nothing was sent anew.
    expect(await cluster.logStart(1)).toBe(logStart)
    const names = new Set(cluster.warningsOf().map(({ name, node }) => `${name} on ${node}`))
    expect([...names].filter((name) => name !== 'still-stopped on 0')).toEqual(['resumed on 0'])
    // And it is what a restart finds.
    await primary.kill()
    await cluster.startNode(0)
    expect((await cluster.primary.facts(NAME)).position.txid).toBe(before.txid + 1n)
    await cluster.expectEqual(1)
  },
)

test('a primary that is stopped while its disk fails keeps the proof of what it committed: no replica is seeded again', async () => {
  await using cluster = await startWithRows()
  await cluster.primary.failOperation('log.append', 'ENOSPC', { times: 'always' })
  await expect(cluster.primary.run(NAME, INSERT, [3000])).rejects.toMatchObject({ outcome: 'unknown' })
  const { position } = await cluster.primary.facts(NAME)
  await cluster.primary.stop()
  await cluster.startNode(0)
  await cluster.expectEqual(1)
  expect(await cluster.primary.read(NAME, COUNT)).toEqual([[11]])
  const after = (await cluster.primary.facts(NAME)).position
  expect(formatPosition(after)).not.toBe(formatPosition(position))
  expect(after.txid).toBe(position.txid + 1n)
  expect(cluster.warningsOf().filter(({ name }) => name === 'history-restarted' || name === 'seeded-again')).toEqual([])
})
