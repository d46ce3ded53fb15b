/**
 * I1, I7, I9 with clocks that are wrong: by hours, in both directions, and jumping while the nodes work. Order comes from TXIDs and epochs,
 * waits from a clock that only goes forward; the wall clock decides how long things are remembered, and nothing else.
 *
 * Real: nodes as processes, with files, sockets and SQLite of their own. Modelled: the wall clock, which is the machine's with an offset.
 * What may be lost: nothing. A node whose clock is off by more than the ledger remembers is refused by name until it is set right.
 */
import { expect, test } from 'vitest'
import { ProcessCluster } from '../support/process-cluster.ts'
import { Random, seedOfRun } from '../support/random.ts'
import { TRACKED_SCHEMA, TrackedWrites } from '../support/tracked-writes.ts'

const NAME = 'app.db'
const HOUR_MS = 3_600_000
const INSERT = 'INSERT INTO entry VALUES (?, 0, NULL)'

test('clocks that are hours apart, and jump while everybody writes and the primary is killed, change nothing', async () => {
  const random = new Random(seedOfRun('wrong clocks'))
  await using cluster = new ProcessCluster({ database: NAME })
  const skews = [5 * HOUR_MS, -9 * HOUR_MS, 11 * HOUR_MS]
  for (const [index, skewMs] of skews.entries()) await cluster.startNode(index, {}, { skewMs })
  await cluster.primary.batch(NAME, TRACKED_SCHEMA)
  await cluster.settle(1, 2)
  const start = await cluster.logStart(1)
  const writes = new TrackedWrites({
    database: NAME,
    random,
    node: (caller) => cluster.node(caller % 3),
    callers: 6,
    bodyBytesMax: 5_000,
    timeoutsMs: [500, 30_000],
  })
  writes.start()
  for (let jump = 1; jump <= 12; jump++) {
    await writes.progress(20)
    const skewMs = (random.below(24) - 12) * HOUR_MS
    if (jump % 4 === 0) {
      const { position, epoch } = await cluster.primary.facts(NAME)
      await cluster.primary.kill()
      const primary = await cluster.startNode(0, {}, { skewMs })
      await writes.progress(1)
      const after = await primary.facts(NAME)
      expect(after.position.txid).toBeGreaterThanOrEqual(position.txid)
      // Also when the clock says that it is earlier.
      expect(after.epoch).toBeGreaterThan(epoch)
    } else {
      await cluster.node(random.below(3)).skewClock(skewMs)
    }
  }
  await writes.progress(20)
  await writes.stop()
  await cluster.expectEqual(1, 2)
  for (const index of cluster.indexes) await writes.expectHonest(cluster.node(index))
  // Nobody needed a snapshot.
  expect(await cluster.logStart(1)).toBe(start)
  expect(cluster.warningsOf().filter(({ name }) => name !== 'log-cut')).toEqual([])
})

test('the same key means the same write, whatever the clocks say in between', async () => {
  await using cluster = await ProcessCluster.start(2, { database: NAME })
  await cluster.primary.batch(NAME, TRACKED_SCHEMA)
  const write = (index: number): Promise<{ replayed: boolean }> =>
    cluster.node(index).run(NAME, 'UPDATE tally SET count = count + 1', [], { idempotencyKey: 'once' })
  expect((await write(1)).replayed).toBe(false)
  for (const skewMs of [10 * HOUR_MS, -10 * HOUR_MS]) {
    for (const index of [0, 1]) {
      await cluster.node(index).skewClock(skewMs)
      expect((await write(index)).replayed).toBe(true)
      expect((await write(1 - index)).replayed).toBe(true)
    }
  }
  expect(await cluster.primary.read(NAME, 'SELECT count FROM tally')).toEqual([[1]])
})

test.each([
  ['ahead', 50 * HOUR_MS, 'INVALID_REQUEST'],
  ['behind', -50 * HOUR_MS, 'REQUEST_TOO_OLD'],
])(
  'a replica whose clock is days %s is told so for its writes, none of which is done, until it is set',
  async (_, skewMs, code) => {
    await using cluster = await ProcessCluster.start(2, { database: NAME })
    await cluster.primary.batch(NAME, TRACKED_SCHEMA)
    await cluster.node(1).kill()
    const replica = await cluster.startNode(1, {}, { skewMs })
    await expect(replica.run(NAME, INSERT, [1])).rejects.toMatchObject({ code })
    await cluster.primary.run(NAME, INSERT, [2])
    await cluster.expectEqual(1)
    expect(await replica.read(NAME, 'SELECT id FROM entry')).toEqual([[2]])
    await cluster.node(1).kill()
    await cluster.startNode(1)
    await cluster.node(1).run(NAME, INSERT, [1])
    await cluster.expectEqual(1)
  },
)
