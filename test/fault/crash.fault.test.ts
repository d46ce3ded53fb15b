/**
 * I1, I2, I7, I9 through SIGKILL and SIGSTOP: nodes die at any moment, also while they start, and come back by themselves.
 *
 * Real: nodes as processes on one machine, with files, sockets and SQLite of their own; signals. Not real: a power cut (what a process
 * wrote stays written).
 * What may be lost: a write whose caller was told that its outcome is unknown. Nothing that was acknowledged.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { CrashMoment } from '../support/fault-disk.ts'
import { ProcessCluster } from '../support/process-cluster.ts'
import type { ProcessNode } from '../support/process-node.ts'
import { Random, seedOfRun } from '../support/random.ts'
import { TRACKED_SCHEMA, TrackedWrites } from '../support/tracked-writes.ts'

const NAME = 'app.db'
/** `KILLS=200` in the environment for a long run. */
const KILLS = Number(process.env['KILLS'] ?? 12)
const TIMEOUT_MS = 60_000 + KILLS * 8_000
/** Nothing is removed from a log, so that its start tells whether a snapshot came. */
const KEEP_ALL = { retentionMs: 3_600_000, retentionBytes: 2 ** 40 }

test('a primary killed again and again under 64 callers on its replicas loses nothing, and they go on without a snapshot', {
  timeout: TIMEOUT_MS,
}, async () => {
  const random = new Random(seedOfRun('kill the primary'))
  await using cluster = await ProcessCluster.start(3, { database: NAME, log: KEEP_ALL })
  await cluster.primary.batch(NAME, TRACKED_SCHEMA)
  await cluster.settle(1, 2)
  const starts = await logStarts(cluster)
  const writes = new TrackedWrites({
    database: NAME,
    random,
    node: (caller) => cluster.node(1 + (caller % 2)),
    callers: 64,
    bodyBytesMax: 4_000,
    timeoutsMs: [400, 30_000],
  })
  writes.start()
  for (let kill = 1; kill <= KILLS; kill++) {
    await writes.progress(5 + random.below(300))
    await cluster.primary.kill()
    const acknowledged = writes.newestTxid
    if (random.below(3) === 0) await killWhileStarting(cluster, 0, random)
    await cluster.startNode(0)
    // TXIDs go on where they were.
    expect((await cluster.primary.facts(NAME)).position.txid).toBeGreaterThanOrEqual(acknowledged)
  }
  await writes.progress(5)
  await writes.stop()
  await writes.resolveUnknown(cluster.node(2))
  await cluster.expectEqual(1, 2)
  for (const index of [0, 1, 2]) await writes.expectHonest(cluster.node(index))
  expect(await logStarts(cluster)).toEqual(starts)
  expectOnlyTornLogs(cluster)
})

test('a replica killed again and again in the middle of applying opens clean and catches up each time, without a snapshot', {
  timeout: TIMEOUT_MS,
}, async () => {
  const random = new Random(seedOfRun('kill a replica'))
  await using cluster = await ProcessCluster.start(2, { database: NAME, log: KEEP_ALL })
  await cluster.primary.batch(NAME, TRACKED_SCHEMA)
  await cluster.settle(1)
  const starts = await logStarts(cluster)
  const writes = new TrackedWrites({
    database: NAME,
    random,
    node: () => cluster.primary,
    callers: 3,
    bodyBytesMax: 20_000,
    timeoutsMs: [10_000],
  })
  writes.start()
  for (let kill = 1; kill <= KILLS; kill++) {
    await killWhileApplying(cluster.node(1), random)
    if (random.below(2) === 0) await killWhileStarting(cluster, 1, random)
    const { newestTxid } = writes
    const node = await cluster.startNode(1)
    await expect
      .poll(async () => (await node.facts(NAME)).position.txid, { timeout: 20_000, interval: 5 })
      .toBeGreaterThanOrEqual(newestTxid)
  }
  await writes.stop()
  await cluster.expectEqual(1)
  await writes.expectHonest(cluster.node(1))
  expect(await logStarts(cluster)).toEqual(starts)
  expectOnlyTornLogs(cluster)
})

test('a primary that stood still for a while answers honestly, and goes on', async () => {
  const random = new Random(seedOfRun('stop the primary'))
  await using cluster = await ProcessCluster.start(2, { database: NAME })
  await cluster.primary.batch(NAME, TRACKED_SCHEMA)
  const writes = new TrackedWrites({
    database: NAME,
    random,
    node: () => cluster.node(1),
    callers: 4,
    bodyBytesMax: 10_000,
    timeoutsMs: [300, 20_000],
  })
  writes.start()
  await writes.progress(20)
  cluster.primary.pause()
  await sleep(1_500)
  cluster.primary.resume()
  await writes.progress(20)
  cluster.node(1).pause()
  await sleep(500)
  cluster.node(1).resume()
  await writes.progress(20)
  await writes.stop()
  await cluster.expectEqual(1)
  await writes.expectHonest(cluster.node(1))
  expectOnlyTornLogs(cluster)
})

/** At any moment, or exactly while it writes to the database, a frame or a part of the index half written. */
async function killWhileApplying(node: ProcessNode, random: Random): Promise<void> {
  if (random.below(3) === 0) {
    await sleep(random.below(200))
    return node.kill()
  }
  const when = random.pick<CrashMoment>(['before', 'midway', 'after'])
  await node.crashAt('apply.*', { methods: ['write'], when, occurrence: 1 + random.below(100) })
  await node.gone()
}

/** It gets some way into its start, and no further. */
async function killWhileStarting(cluster: ProcessCluster, index: number, random: Random): Promise<void> {
  const node = cluster.spawnNode(index)
  await Promise.race([node.ready().catch(() => undefined), sleep(100 + random.below(900))])
  await node.kill()
}

function logStarts(cluster: ProcessCluster): Promise<number[]> {
  return Promise.all(cluster.indexes.map((index) => cluster.logStart(index)))
}

/** A write to the log that the signal cut in two is cut off; nothing else is worth a warning. */
function expectOnlyTornLogs(cluster: ProcessCluster): void {
  expect(cluster.warningsOf().filter(({ name }) => name !== 'log-cut')).toEqual([])
}
