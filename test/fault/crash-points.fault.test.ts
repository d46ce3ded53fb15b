/**
 * I1, I2, I7, I9 when a node dies exactly before, in the middle of, or after any operation on its disk, while it starts for the first time,
 * starts again, works, is seeded, and closes: it comes back by itself, and nothing that was acknowledged is lost.
 *
 * Real: nodes as processes, with files, sockets and SQLite of their own; SIGKILL from inside the process at the named operation; the
 * operations are those that the nodes are seen to do, not a list. Not real: a power cut.
 * What may be lost: a write whose caller was told that its outcome is unknown.
 */
import { rmSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { type CrashPoint, crashPointsOf, crashRule, drawn, nameOf } from '../support/crash-points.ts'
import { commitAndDie } from '../support/foreign-program.ts'
import { operationsByPhase } from '../support/operations-by-phase.ts'
import { ProcessCluster } from '../support/process-cluster.ts'
import type { ProcessNode } from '../support/process-node.ts'
import { Random, seedOfRun } from '../support/random.ts'
import { TRACKED_SCHEMA, TrackedWrites } from '../support/tracked-writes.ts'

const NAME = 'app.db'
/** Segments are small and short-lived, so that they are made and removed all the time; a restart takes less. */
const LOG = { segmentBytes: 65_536, retentionMs: 4_000 }
/** The log is pruned every ten seconds. */
const FIRES_WITHIN_MS = 30_000
/** Starts that die, drawn from all; all of them with `FAULT_POINTS=all` in the environment. */
const STARTS = 8
/** A point that did not come by then is left alone while a node works. */
const OCCURRENCES_MAX = 8

test.each([
  ['primary', 0],
  ['replica', 1],
])(
  'a %s that dies at any of its operations, while it works, closes and starts again, comes back',
  async (role, index) => {
    const random = new Random(seedOfRun(`crash points of a ${role}`))
    await using cluster = await ProcessCluster.start(2, { database: NAME, log: (of) => (of === index ? LOG : {}) })
    await cluster.primary.batch(NAME, TRACKED_SCHEMA)
    await cluster.settle(1)
    const writes = new TrackedWrites({
      database: NAME,
      random,
      node: (caller) => cluster.node(caller % 3 === 0 ? 0 : 1),
      callers: 6,
      bodyBytesMax: 12_000,
      timeoutsMs: [400, 30_000],
    })
    writes.start()
    const { working, closing, starting } = await operationsByPhase(cluster, index, writes)
    const points = [
      ...crashPointsOf(working, random, OCCURRENCES_MAX).map((point) => ({ phase: 'working', point })),
      ...crashPointsOf(closing, random, 2).map((point) => ({ phase: 'closing', point })),
      ...drawn(crashPointsOf(starting, random, 2), random, STARTS).map((point) => ({ phase: 'starting', point })),
    ]
    const missed: string[] = []
    for (const { phase, point } of points) {
      const what = `${phase}: ${nameOf(point)}`
      if (!(await dieAt(cluster, index, phase, point))) missed.push(what)
      await cluster.node(index).kill()
      const { newestTxid } = writes
      const node = await comesBack(cluster, index, what)
      // TXIDs go on where they were; on a replica, everything acknowledged arrives.
      await expect
        .poll(async () => (await node.facts(NAME)).position.txid, { message: what, timeout: 20_000, interval: 5 })
        .toBeGreaterThanOrEqual(newestTxid)
      await writes.progress(3)
    }
    await writes.stop()
    console.log(
      `${role}: died at ${points.length - missed.length} of ${points.length} points; missed: ${missed.join(', ')}`,
    )
    await cluster.expectEqual(1)
    for (const each of [0, 1]) await writes.expectHonest(cluster.node(each))
    expect(cluster.warningsOf().filter(({ name }) => name !== 'log-cut')).toEqual([])
    // What a node does to close and to start depends on what it finds.
    expect(missed.filter((what) => what.startsWith('working'))).toEqual([])
    expect(missed.length).toBeLessThan(points.length / 4)
  },
)

test('a primary that dies at any operation of its very first start begins anew', async () => {
  const random = new Random(seedOfRun('crash points of a first start'))
  await using cluster = await ProcessCluster.start(1, { database: NAME, log: LOG })
  for (const point of crashPointsOf(await cluster.primary.operations(), random, 3)) {
    await cluster.primary.kill()
    rmSync(cluster.dataDirOf(0), { recursive: true })
    expect(await diesStarting(cluster, 0, point), nameOf(point)).toBe(true)
    const node = await comesBack(cluster, 0, nameOf(point))
    await node.batch(NAME, TRACKED_SCHEMA)
  }
})

test.each([
  ['without a copy', (cluster: ProcessCluster) => Promise.resolve(rmSync(cluster.dataDirOf(1), { recursive: true }))],
  [
    'with a copy that has become another',
    (cluster: ProcessCluster) => commitAndDie(cluster.fileOf(1), ['UPDATE entry SET body = randomblob(900)']),
  ],
])('a replica %s that dies at any operation of being seeded is seeded again', async (_, prepare) => {
  const random = new Random(seedOfRun('crash points of seeding'))
  await using cluster = await ProcessCluster.start(2, { database: NAME, log: LOG })
  await cluster.primary.batch(NAME, TRACKED_SCHEMA)
  for (let id = 1; id <= 300; id++)
    await cluster.primary.run(NAME, 'INSERT INTO entry VALUES (?, 0, randomblob(900))', [id])
  await cluster.settle(1)
  const restart = async (): Promise<void> => {
    await cluster.node(1).kill()
    await prepare(cluster)
  }
  await restart()
  await cluster.startNode(1)
  await cluster.settle(1)
  const points = crashPointsOf(await cluster.node(1).operations(), random, 1)
  for (const point of points) {
    await restart()
    expect(await diesStarting(cluster, 1, point), nameOf(point)).toBe(true)
    await comesBack(cluster, 1, nameOf(point))
    await cluster.expectEqual(1)
  }
  await cluster.node(1).run(NAME, 'DELETE FROM entry WHERE id = 1')
  await cluster.expectEqual(1)
})

/** Answers whether the node came to that point. */
async function dieAt(cluster: ProcessCluster, index: number, phase: string, point: CrashPoint): Promise<boolean> {
  const node = cluster.node(index)
  if (phase === 'working') {
    await node.addFaults(crashRule(point))
    return diesSoon(node)
  }
  if (phase === 'closing') {
    await node.addFaults(crashRule(point))
    await node.stop().catch(() => undefined)
    return (await node.gone()) === 'SIGKILL'
  }
  // In turn, because the two kinds of starts differ.
  await (point.occurrence % 2 === 0 ? node.kill() : node.stop())
  return diesStarting(cluster, index, point, true)
}

/** @param mayServe a node that serves will not come to that point any more: a start repairs what it finds, not always the same */
async function diesStarting(cluster: ProcessCluster, index: number, point: CrashPoint, mayServe = false) {
  const node = cluster.spawnNode(index, {}, { faults: [crashRule(point)] })
  const serves = node.ready().then(
    () => sleep(500),
    () => undefined,
  )
  return mayServe ? Promise.race([diesSoon(node), serves.then(() => !node.isAlive)]) : diesSoon(node)
}

async function diesSoon(node: ProcessNode): Promise<boolean> {
  const waiting = new AbortController()
  const timeout = sleep(FIRES_WITHIN_MS, undefined, { signal: waiting.signal }).catch(() => undefined)
  const signal = await Promise.race([node.gone(), timeout])
  waiting.abort()
  return signal === 'SIGKILL'
}

async function comesBack(cluster: ProcessCluster, index: number, after: string): Promise<ProcessNode> {
  try {
    return await cluster.startNode(index)
  } catch (error) {
    throw new Error(`the node did not come back after it died ${after}`, { cause: error })
  }
}
