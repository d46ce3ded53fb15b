/**
 * I1, I2, I7, I9 when any single operation on a disk fails: no room, an I/O error, a write that stops half-way, a flush that fails. The node
 * goes on, or stops that database and opens it again by itself; a start that fails says why, and the next one succeeds.
 *
 * Real: nodes as processes, with files, sockets and SQLite of their own; the operations are those that the nodes are seen to do, not a list.
 * Modelled: the failing disk. What SQLite itself writes does not fail here; disk.fault.test.ts fills a real one.
 * What may be lost: a write whose caller was told that its outcome is unknown. Nothing that was acknowledged.
 */
import { expect, test } from 'vitest'
import { drawn } from '../support/crash-points.ts'
import { type FaultEffect, type FaultRule, GROWING, type SeenOperation, SYNCING } from '../support/fault-disk.ts'
import { operationsByPhase } from '../support/operations-by-phase.ts'
import { ProcessCluster } from '../support/process-cluster.ts'
import type { ProcessNode } from '../support/process-node.ts'
import { Random, seedOfRun } from '../support/random.ts'
import { TRACKED_SCHEMA, TrackedWrites } from '../support/tracked-writes.ts'

const NAME = 'app.db'
const LOG = { segmentBytes: 65_536, retentionMs: 4_000 }
/** Operations that cannot fail on a real disk, or whose failure means nothing. */
const NEVER_FAIL = ['close']
/** A point that did not come by then is left alone. */
const WAIT_MS = 30_000
/** Operations that fail while a node works, and while it starts, drawn from all; all of them with `FAULT_POINTS=all` in the environment. */
const WORKING = 10
const STARTS = 8

test.each([
  ['primary', 0],
  ['replica', 1],
])('a %s survives that any of its operations fails, while it works, closes and starts', async (role, index) => {
  const random = new Random(seedOfRun(`disk errors of a ${role}`))
  await using cluster = await ProcessCluster.start(2, { database: NAME, log: (of) => (of === index ? LOG : {}) })
  await cluster.primary.batch(NAME, TRACKED_SCHEMA)
  await cluster.settle(1)
  const writes = new TrackedWrites({
    database: NAME,
    random,
    node: (caller) => cluster.node(caller % 3 === 0 ? 0 : 1),
    callers: 6,
    // A replica copies its WAL back when it has grown.
    bodyBytesMax: index === 0 ? 12_000 : 30_000,
    timeoutsMs: [400, 30_000],
  })
  writes.start()
  await writes.progress(5)
  const { working, closing, starting } = await operationsByPhase(cluster, index, writes)
  const ways: string[] = []
  for (const rule of rulesOf(working, random, WORKING)) {
    const node = cluster.node(index)
    await node.operations({ forget: true })
    await node.addFaults(rule)
    await happened(node, rule)
    await node.clearFaults()
    await readyAgain(cluster, index, rule)
    await writes.progress(3)
    ways.push(nameOf(rule))
  }
  for (const rule of rulesOf(closing, random)) {
    await cluster.node(index).addFaults(rule)
    await cluster
      .node(index)
      .stop()
      .catch(() => undefined)
    await cluster.node(index).kill()
    await restart(cluster, index, rule)
    await writes.progress(3)
    ways.push(`closing: ${nameOf(rule)}`)
  }
  for (const rule of rulesOf(starting, random, STARTS)) {
    await cluster.node(index).kill()
    try {
      await cluster.startNode(index, {}, { faults: [rule] })
      await readyAgain(cluster, index, rule)
    } catch (error) {
      expect(error, nameOf(rule)).toMatchObject({ code: 'STORAGE_FAILED' })
      await cluster.node(index).kill()
      await restart(cluster, index, rule)
    }
    await writes.progress(3)
    ways.push(`starting: ${nameOf(rule)}`)
  }
  await writes.stop()
  console.log(`${role}: ${ways.length} ways to fail`)
  await cluster.expectEqual(1)
  for (const each of [0, 1]) await writes.expectHonest(cluster.node(each))
  const expected = ['stopped', 'still-stopped', 'resumed', 'log-cut', 'retention', 'leadership']
  expect(cluster.warningsOf().filter(({ name }) => !expected.includes(name))).toEqual([])
})

/** One way to fail for each operation, drawn. */
function rulesOf(seen: readonly SeenOperation[], random: Random, most?: number): readonly FaultRule[] {
  const failing = seen.filter(({ method }) => !NEVER_FAIL.includes(method))
  return (most === undefined ? failing : drawn(failing, random, most)).map(({ operation, method }) => ({
    operation,
    methods: [method],
    effect: random.pick(effectsOn(method)),
  }))
}

function effectsOn(method: SeenOperation['method']): readonly FaultEffect[] {
  const fail = (errno: string): FaultEffect => ({ kind: 'fail', errno })
  if (!GROWING.includes(method) || SYNCING.includes(method)) return [fail('EIO')]
  return [fail('ENOSPC'), fail('EIO'), { kind: 'short', errno: 'ENOSPC' }]
}

function nameOf({ operation, methods, effect }: FaultRule): string {
  return `${operation} (${methods?.join()}) ${effect.kind} ${'errno' in effect ? effect.errno : ''}`
}

async function happened(node: ProcessNode, { operation, methods = [] }: FaultRule): Promise<void> {
  const count = async (): Promise<number> => {
    const seen = (await node.operations()).filter((one) => one.operation === operation && methods.includes(one.method))
    return seen.length
  }
  await expect.poll(count, { message: operation, timeout: WAIT_MS, interval: 5 }).toBeGreaterThan(0)
}

async function readyAgain(cluster: ProcessCluster, index: number, rule: FaultRule): Promise<void> {
  await expect
    .poll(async () => (await cluster.node(index).facts(NAME)).state, {
      message: nameOf(rule),
      timeout: 20_000,
      interval: 10,
    })
    .toBe('ready')
}

async function restart(cluster: ProcessCluster, index: number, rule: FaultRule): Promise<void> {
  try {
    await cluster.startNode(index)
  } catch (error) {
    throw new Error(`the node did not come back after ${nameOf(rule)}`, { cause: error })
  }
}
