/**
 * I1, I2, I7, I9 when any operation of a node on its disk fails, once or for a while, as it works, is seeded, closes and starts: nobody has to
 * restart a node that runs, nobody is seeded again that was not being seeded, and nothing that was acknowledged is lost.
 *
 * Real: nodes as processes, with files, sockets and SQLite of their own. Modelled: a disk that refuses the named operation; the operations
 * are those that the nodes are seen to do, not a list. SQLite's own writes do not fail here.
 * What may be lost: a write whose caller was told that its outcome is unknown.
 */
import { rmSync } from 'node:fs'
import { expect, test } from 'vitest'
import type { FaultRule, SeenOperation } from '../support/fault-disk.ts'
import { ProcessCluster } from '../support/process-cluster.ts'
import { Random, seedOfRun } from '../support/random.ts'
import { TRACKED_SCHEMA, TrackedWrites } from '../support/tracked-writes.ts'

const NAME = 'app.db'
const LOG = { segmentBytes: 65_536, retentionMs: 4_000 }
/** For nodes that are away for longer. */
const LONG_LOG = { segmentBytes: 65_536 }
const COMES_BACK = { timeout: 30_000, interval: 20 }

/** What no failure of one node's disk may lead to while its data is whole. */
const FORBIDDEN = new Set(['history-restarted', 'seeded-again', 'diverged', 'set-aside', 'copy-kept'])

/** Once, or for long enough that everything which tries again meets it again. */
function ruleFor({ operation, method }: SeenOperation, random: Random): FaultRule {
  const effect = { kind: random.below(4) === 0 ? 'short' : 'fail', errno: random.pick(['EIO', 'ENOSPC']) } as const
  const length = random.below(2) === 0 ? { times: 1 } : { times: 'always' as const, forMs: 400 }
  return { operation, methods: [method], effect, occurrence: 1 + random.below(3), ...length }
}

const describeRule = ({ operation, methods, effect, times, occurrence }: FaultRule): string =>
  `${operation} (${methods?.join()}) ${JSON.stringify(effect)} ${times} from ${occurrence}`

function trackedWrites(cluster: ProcessCluster, random: Random): TrackedWrites {
  return new TrackedWrites({
    database: NAME,
    random,
    node: (caller) => cluster.node(caller % 3 === 0 ? 0 : 1),
    callers: 4,
    bodyBytesMax: 6_000,
    timeoutsMs: [400, 30_000],
  })
}

async function stateOf(cluster: ProcessCluster, index: number): Promise<string> {
  return (await cluster.node(index).facts(NAME)).state
}

test.each([
  ['primary', 0],
  ['replica', 1],
])('a %s whose operations fail one after another while it works goes on by itself each time', async (role, index) => {
  const random = new Random(seedOfRun(`failing operations of a ${role}`))
  await using cluster = await ProcessCluster.start(2, { database: NAME, log: LOG })
  await cluster.primary.batch(NAME, TRACKED_SCHEMA)
  await cluster.settle(1)
  const writes = trackedWrites(cluster, random)
  writes.start()
  const node = cluster.node(index)
  await node.operations({ forget: true })
  await expect
    .poll(async () => (await node.operations()).some(({ operation }) => operation === 'log.prune'), {
      timeout: 60_000,
      interval: 100,
    })
    .toBe(true)
  for (const seen of await node.operations()) {
    const rule = ruleFor(seen, random)
    const what = describeRule(rule)
    await node.addFaults(rule)
    await new Promise((resolve) => setTimeout(resolve, 300))
    await node.clearFaults()
    for (const each of [0, 1]) {
      await expect.poll(() => stateOf(cluster, each), { message: `node ${each}, ${what}`, ...COMES_BACK }).toBe('ready')
    }
    await writes.progress(3)
    const { newestTxid } = writes
    await expect
      .poll(async () => (await cluster.node(1).facts(NAME)).position.txid, { message: what, ...COMES_BACK })
      .toBeGreaterThanOrEqual(newestTxid)
    expect(
      cluster.warningsOf().filter(({ name }) => FORBIDDEN.has(name)),
      what,
    ).toEqual([])
  }
  await writes.stop()
  await cluster.expectEqual(1)
  for (const each of [0, 1]) await writes.expectHonest(cluster.node(each))
})

test.each([
  ['primary', 0],
  ['replica', 1],
])('a %s whose operations fail while it closes or starts comes back at the next start', async (role, index) => {
  const random = new Random(seedOfRun(`failing operations of a ${role} that closes and starts`))
  await using cluster = await ProcessCluster.start(2, { database: NAME, log: LONG_LOG })
  await cluster.primary.batch(NAME, TRACKED_SCHEMA)
  await cluster.settle(1)
  const writes = trackedWrites(cluster, random)
  writes.start()
  await writes.progress(5)
  await cluster.node(index).operations({ forget: true })
  const closing = await cluster.node(index).stop()
  await cluster.startNode(index)
  await writes.progress(5)
  await cluster.node(index).kill()
  await cluster.startNode(index)
  // Half of them in one run; which ones is drawn.
  const starting = (await cluster.node(index).operations()).filter(() => random.below(2) === 0)
  for (const [phase, seen] of [
    ...closing.map((each) => ['closing', each] as const),
    ...starting.map((each) => ['starting', each] as const),
  ]) {
    const rule = { ...ruleFor(seen, random), occurrence: 1 }
    const what = `${phase}: ${describeRule(rule)}`
    if (phase === 'closing') {
      await cluster.node(index).addFaults(rule)
      await cluster
        .node(index)
        .stop()
        .catch(() => cluster.node(index).kill())
    } else {
      await (random.below(2) === 0 ? cluster.node(index).kill() : cluster.node(index).stop())
      const node = cluster.spawnNode(index, {}, { faults: [rule] })
      await node.ready().catch(() => undefined)
      await node.kill()
    }
    await cluster.startNode(index)
    const { newestTxid } = writes
    for (const each of [0, 1]) {
      await expect
        .poll(async () => (await cluster.node(each).facts(NAME)).position.txid, { message: what, ...COMES_BACK })
        .toBeGreaterThanOrEqual(newestTxid)
    }
    await writes.progress(3)
    expect(
      cluster.warningsOf().filter(({ name }) => FORBIDDEN.has(name)),
      what,
    ).toEqual([])
  }
  await writes.stop()
  await cluster.expectEqual(1)
  for (const each of [0, 1]) await writes.expectHonest(cluster.node(each))
})

test('a replica whose operations fail while it is seeded is seeded all the same, by the same process', async () => {
  const random = new Random(seedOfRun('failing operations of seeding'))
  await using cluster = await ProcessCluster.start(2, { database: NAME, log: LOG })
  await cluster.primary.batch(NAME, TRACKED_SCHEMA)
  for (let id = 1; id <= 100; id++)
    await cluster.primary.run(NAME, 'INSERT INTO entry VALUES (?, 0, randomblob(900))', [id])
  const restart = async (faults: readonly FaultRule[]): Promise<void> => {
    await cluster.node(1).kill()
    rmSync(cluster.directoryOf(1), { recursive: true, force: true })
    const node = cluster.spawnNode(1, {}, { faults })
    await node.ready()
  }
  await restart([])
  await cluster.settle(1)
  for (const seen of await cluster.node(1).operations()) {
    const rule = { ...ruleFor(seen, random), occurrence: 1 }
    // What fails before there is a node fails its start, and is told.
    await restart([rule]).catch(() => restart([]))
    await cluster.settle(1).catch((error: unknown) => {
      throw new Error(describeRule(rule), { cause: error })
    })
    await cluster.expectEqual(1)
  }
})
