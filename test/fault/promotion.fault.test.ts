/**
 * I1, I2, I9 where a node becomes primary on the WAL that it filled as a replica, and its first commit dies before it is logged.
 *
 * The newest record of its log then is none of its own: nothing in it says behind which frame of the WAL the new commit begins. Taken from
 * the first frame on, transactions that everybody has would be sent once more, and replicas would see the past again.
 *
 * Real: nodes as processes; the reader that keeps the WAL from being restarted is plain better-sqlite3 in this one.
 * What may be lost: nothing. The commit that died is `unknown` to its caller and is there afterwards, as the next transaction.
 */
import Database from 'better-sqlite3'
import { expect, test } from 'vitest'
import { ProcessCluster } from '../support/process-cluster.ts'

const NAME = 'app.db'
const COUNT = 'SELECT count(*), sum(value) FROM entry'
const INSERT = 'INSERT INTO entry (value, body) VALUES (?, randomblob(3000))'
const ROWS = 10

/** Ends as the replica's WAL is wanted: wholly copied back and kept, or not copied back. */
const WALS = {
  'that was copied back while a reader held it': async (cluster: ProcessCluster) => {
    const reader = new Database(cluster.fileOf(1), { readonly: true })
    reader.exec('BEGIN')
    reader.prepare(COUNT).get()
    await cluster.node(1).stop()
    reader.close()
  },
  'that was not copied back': (cluster: ProcessCluster) => cluster.node(1).kill(),
}

/** Its first commit is in its WAL and not in its log; then it serves again. */
const DEATHS = {
  'its log cannot be written': async (cluster: ProcessCluster) => {
    const { primary } = cluster
    await primary.failOperation('log.append', 'ENOSPC')
    await expect(primary.run(NAME, INSERT, [0])).rejects.toMatchObject({ outcome: 'unknown' })
    await expect.poll(async () => (await primary.facts(NAME)).state, { timeout: 20_000 }).toBe('ready')
  },
  'it is killed': async (cluster: ProcessCluster) => {
    const { primary } = cluster
    await primary.crashAt('log.append')
    await expect(primary.run(NAME, INSERT, [0])).rejects.toThrow()
    await primary.gone()
    await cluster.startNode(1)
  },
}

const CASES = Object.entries(WALS).flatMap(([wal, end]) =>
  Object.entries(DEATHS).map(([death, die]) => [wal, death, end, die] as const),
)

test.each(CASES)(
  'a primary on the WAL of its life as a replica, %s, logs its first commit once, though %s',
  async (_wal, _death, end, die) => {
    await using cluster = await ProcessCluster.start(2, { database: NAME })
    await cluster.primary.batch(NAME, [{ sql: 'CREATE TABLE entry (value INTEGER, body BLOB)' }])
    for (let i = 0; i < ROWS; i++) await cluster.primary.run(NAME, INSERT, [1])
    await cluster.settle(1)
    const { txid } = (await cluster.primary.facts(NAME)).position
    await end(cluster)
    await cluster.node(0).kill()
    cluster.appointPrimary(1)
    await cluster.startNode(1)
    expect((await cluster.primary.facts(NAME)).position.txid).toBe(txid)
    await cluster.startNode(0)
    await cluster.settle(0)

    await die(cluster)

    expect((await cluster.primary.facts(NAME)).position.txid).toBe(txid + 1n)
    expect(await cluster.primary.read(NAME, COUNT)).toEqual([[ROWS + 1, ROWS]])
    await cluster.node(0).run(NAME, INSERT, [0])
    await cluster.expectEqual(0)
    expect((await cluster.primary.facts(NAME)).position.txid).toBe(txid + 2n)
    // No replica was seeded again, and nothing was given up.
    const said = cluster.warningsOf().filter(({ name }) => name !== 'resumed')
    expect(said).toEqual([])
  },
)
