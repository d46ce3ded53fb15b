/**
 * D15, I5, I6, I9: what other programs commit to the primary's file is replicated like anything else, also when the node was not there to see
 * it, or dies while they write.
 *
 * Real: nodes as processes, with files, sockets and SQLite of their own; SIGKILL; the `sqlite3` shell and plain better-sqlite3 as the other
 * programs, with checkpoints of their own. Not real: a power cut.
 * What may be lost: nothing that a program committed. Where nothing proves that the file continues the log, its state travels as a snapshot.
 */
import { rmSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { commitAndDie, ForeignLoop } from '../support/foreign-program.ts'
import { shell } from '../support/foreign-shell.ts'
import { ProcessCluster } from '../support/process-cluster.ts'
import { Random, seedOfRun } from '../support/random.ts'
import { TRACKED_SCHEMA, TrackedWrites } from '../support/tracked-writes.ts'

const NAME = 'app.db'
const THEIRS = 'CREATE TABLE theirs (id INTEGER PRIMARY KEY, body BLOB)'
const FOREIGN = [THEIRS, 'INSERT INTO theirs VALUES (1, randomblob(9000))', 'DELETE FROM entry']

test.each([
  // As when the primary itself dies between a commit and its log.
  { end: 'killed', wal: 'left', commit: commitAndDie, isSnapshot: false },
  { end: 'killed', wal: 'copied back', commit: commitByShell, isSnapshot: true },
  { end: 'stopped', wal: 'left', commit: commitAndDie, isSnapshot: false },
  { end: 'stopped', wal: 'copied back', commit: commitByShell, isSnapshot: true },
])('what another program commits after the primary was $end arrives when it is back: WAL $wal', async (given) => {
  await using cluster = await startEmpty()
  for (let id = 1; id <= 20; id++)
    await cluster.node(1).run(NAME, 'INSERT INTO entry VALUES (?, 0, randomblob(5000))', [id])
  await cluster.settle(1)
  const start = await cluster.logStart(1)
  const { position } = await cluster.primary.facts(NAME)
  await end(cluster, given.end)
  await given.commit(cluster.fileOf(0), FOREIGN)
  await cluster.startNode(0)
  await cluster.expectEqual(1)
  const counts = 'SELECT (SELECT count(*) FROM theirs), (SELECT count(*) FROM entry)'
  expect(await cluster.node(1).read(NAME, counts)).toEqual([[1, 0]])
  // A record for each commit, or one snapshot.
  const more = given.isSnapshot ? 1 : FOREIGN.length
  expect((await cluster.primary.facts(NAME)).position.txid).toBe(position.txid + BigInt(more))
  expect((await cluster.logStart(1)) !== start).toBe(given.isSnapshot)
  const warned = cluster.warningsOf().map(({ name, node }) => `${name} on node ${node}`)
  expect(warned).toEqual(given.isSnapshot ? ['history-restarted on node 0', 'seeded-again on node 1'] : [])
  // Writes go on.
  await cluster.node(1).run(NAME, 'INSERT INTO entry VALUES (1, 0, NULL)')
  await cluster.expectEqual(1)
})

test.each(['killed', 'stopped'])(
  'a program that goes on writing while the primary is %s and started again costs no snapshot',
  async (how) => {
    await using cluster = await startEmpty()
    const start = await cluster.logStart(1)
    await using program = await ForeignLoop.start(cluster.fileOf(0), 'INSERT INTO entry (caller) VALUES (0)', 5)
    for (let restart = 1; restart <= 3; restart++) {
      await cluster.node(1).run(NAME, 'UPDATE tally SET count = count + 1')
      await end(cluster, how)
      await sleep(50)
      await cluster.startNode(0)
    }
    const committed = await program.stop()
    await cluster.node(1).run(NAME, 'UPDATE tally SET count = count + 1')
    await cluster.expectEqual(1)
    const counts = 'SELECT (SELECT count(*) FROM entry), (SELECT count FROM tally)'
    expect(await cluster.node(1).read(NAME, counts)).toEqual([[committed, 4]])
    expect(committed).toBeGreaterThan(10)
    expect(await cluster.logStart(1)).toBe(start)
    expect(cluster.warningsOf().filter(({ name }) => name !== 'log-cut')).toEqual([])
  },
)

test('a primary killed again and again beside a program that writes and checkpoints loses nothing of either', async () => {
  const random = new Random(seedOfRun('kill the primary beside another program'))
  await using cluster = await startEmpty()
  await cluster.primary.run(NAME, THEIRS)
  await using program = await ForeignLoop.start(
    cluster.fileOf(0),
    'INSERT INTO theirs (body) VALUES (randomblob(3000))',
    1,
  )
  const writes = new TrackedWrites({
    database: NAME,
    random,
    node: () => cluster.node(1),
    callers: 4,
    bodyBytesMax: 20_000,
    timeoutsMs: [400, 30_000],
  })
  writes.start()
  for (let kill = 1; kill <= 5; kill++) {
    await writes.progress(5 + random.below(30))
    await end(cluster, random.below(3) > 0 ? 'killed' : 'stopped')
    await sleep(random.below(300))
    await cluster.startNode(0)
  }
  await writes.progress(5)
  await writes.stop()
  const committed = await program.stop()
  await cluster.primary.run(NAME, 'UPDATE tally SET count = count')
  await cluster.expectEqual(1)
  for (const index of [0, 1]) await writes.expectHonest(cluster.node(index))
  expect(await cluster.node(1).read(NAME, 'SELECT count(*) FROM theirs')).toEqual([[committed]])
})

test('a replica that joins while another program commits without a pause gets one state, whole, at the first attempt', async () => {
  await using cluster = await startEmpty()
  await using program = await ForeignLoop.start(
    cluster.fileOf(0),
    'INSERT INTO entry (caller, body) VALUES (0, randomblob(500))',
    0,
  )
  for (let join = 1; join <= 4; join++) {
    await cluster.node(1).kill()
    rmSync(cluster.dataDirOf(1), { recursive: true })
    await cluster.startNode(1)
  }
  const committed = await program.stop()
  await cluster.primary.run(NAME, 'UPDATE tally SET count = count + 1')
  await cluster.expectEqual(1)
  expect(await cluster.node(1).read(NAME, 'SELECT count(*) FROM entry')).toEqual([[committed]])
  expect(cluster.warningsOf()).toEqual([])
})

test('a program that writes to the file of a replica is refused, always, while the replica applies and checkpoints', async () => {
  await using cluster = await startEmpty()
  await using program = await ForeignLoop.start(cluster.fileOf(1), 'UPDATE tally SET count = count + 1000', 0)
  // Enough for checkpoints, in which SQLite takes locks.
  for (let id = 1; id <= 80; id++)
    await cluster.node(1).run(NAME, 'INSERT INTO entry VALUES (?, 0, randomblob(300000))', [id])
  await cluster.node(1).run(NAME, 'VACUUM')
  await cluster.expectEqual(1)
  expect(await program.stop()).toBe(0)
  await expect(shell(cluster.fileOf(1), 'DELETE FROM entry', 300)).rejects.toThrow(/locked|busy/)
  expect(await cluster.node(1).read(NAME, 'SELECT count(*) FROM entry')).toEqual([[80]])
  await cluster.expectEqual(1)
  expect(cluster.warningsOf()).toEqual([])
})

async function startEmpty(): Promise<ProcessCluster> {
  const cluster = await ProcessCluster.start(2, { database: NAME })
  await cluster.primary.batch(NAME, TRACKED_SCHEMA)
  await cluster.settle(1)
  return cluster
}

async function end(cluster: ProcessCluster, how: string): Promise<void> {
  await (how === 'killed' ? cluster.primary.kill() : cluster.primary.stop())
}

async function commitByShell(file: string, statements: readonly string[]): Promise<void> {
  await shell(file, statements.join(';'))
}
