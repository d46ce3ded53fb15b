/**
 * I1 towards other nodes: a replica says that it has a transaction durably only when its disk has said so, also while it reports the
 * progress of earlier ones.
 *
 * Real: nodes as processes with files and sockets of their own.
 * Modelled: the replica's disk takes its time over two flushes of the log, so that one transaction is applied, and reported, while the
 * next one stands in the log and is not on disk.
 * What may be lost: nothing here; the write in question is committed on the primary, and its caller is told that no replica has it.
 */
import { expect, test } from 'vitest'
import { ProcessCluster } from '../support/process-cluster.ts'

const NAME = 'app.db'
const INSERT = 'INSERT INTO item (body) VALUES (?)'

test('I1: a write is not acknowledged for a replica whose disk has not flushed it, while earlier ones are reported', async () => {
  await using cluster = await ProcessCluster.start(2, { database: NAME })
  const { primary } = cluster
  await primary.batch(NAME, [{ sql: 'CREATE TABLE item (id INTEGER PRIMARY KEY, body TEXT)' }])
  await cluster.settle(1)
  const replica = cluster.node(1)
  const flushes = async (): Promise<number> => {
    const seen = await replica.operations()
    return seen.find(({ operation, method }) => operation === 'log.sync' && method === 'dataSync')?.count ?? 0
  }
  const before = await flushes()
  const slowly = (occurrence: number, ms: number) =>
    replica.addFaults({ operation: 'log.sync', methods: ['dataSync'], effect: { kind: 'delay', ms }, occurrence })
  await slowly(1, 1_500)
  await slowly(2, 60_000)
  await primary.run(NAME, INSERT, ['one'], { await: 'local' })
  await expect.poll(flushes, { timeout: 30_000, interval: 5 }).toBeGreaterThan(before)
  // Arrives while the first one is being flushed: it is appended before that one is applied and reported.
  const second = primary.run(NAME, INSERT, ['two'], { await: { replicas: 1 }, timeoutMs: 6_000 })
  await expect(second).rejects.toMatchObject({ code: 'NOT_YET_VISIBLE', details: { reached: 'none' } })
  const [rows] = await replica.read(NAME, 'SELECT count(*) FROM item')
  expect(rows).toEqual([1])
  await replica.kill()
})
