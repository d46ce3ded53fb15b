/**
 * I1, I2, I7, I9 on a disk that is really full: SQLite, the node and its worker threads all find no room. What is there is served, callers
 * are told the truth, nobody else is held up, and when there is room again the node goes on by itself.
 *
 * Real: nodes as processes, with files, sockets and SQLite of their own; a file system of a few MiB, made for the test, that runs full
 * anywhere in the middle of a write.
 * What may be lost: a write whose caller was told that its outcome is unknown. Nothing that was acknowledged.
 */
import { rmSync } from 'node:fs'
import { expect, test } from 'vitest'
import { ProcessCluster } from '../support/process-cluster.ts'
import type { ProcessNode } from '../support/process-node.ts'
import { Random, seedOfRun } from '../support/random.ts'
import { SmallDisk } from '../support/small-disk.ts'
import { TRACKED_SCHEMA, TrackedWrites } from '../support/tracked-writes.ts'

const NAME = 'app.db'
const MIB = 2 ** 20
const DISK_BYTES = 96 * MIB
const LOG = { segmentBytes: MIB / 4 }
const INSERT = 'INSERT INTO entry (caller, body) VALUES (-1, randomblob(?))'
/** What a full disk gives rise to, and nothing else: no history is given up for it. */
const EXPECTED_WARNINGS = ['stopped', 'still-stopped', 'resumed', 'log-cut', 'retention', 'leadership', 'members']

test.each([
  ['primary', 0],
  ['replica', 1],
])('a %s whose disk runs full goes on by itself when there is room, as often as it happens', async (role, index) => {
  const random = new Random(seedOfRun(`full disk of a ${role}`))
  using disk = SmallDisk.mount(DISK_BYTES)
  const places = [0, 1].map((node) => (node === index ? { dataDir: disk.dataDir } : undefined))
  await using cluster = await ProcessCluster.start(2, { database: NAME, log: LOG, places })
  await cluster.primary.batch(NAME, [...TRACKED_SCHEMA, { sql: 'CREATE TABLE filler (body BLOB)' }])
  await cluster.settle(1)
  const writes = new TrackedWrites({
    database: NAME,
    random,
    node: (caller) => cluster.node(caller % 2),
    callers: 4,
    bodyBytesMax: 30_000,
    timeoutsMs: [500, 60_000],
  })
  writes.start()
  for (let round = 1; round <= 4; round++) {
    await writes.progress(20)
    disk.fill(random.below(MIB))
    await expect.poll(() => feels(cluster, index), { timeout: 30_000, interval: 20 }).toBe(true)
    // What is there is served.
    const rows = await cluster.node(index).read(NAME, 'SELECT count(*) FROM entry')
    expect(Number(rows[0]?.[0])).toBeGreaterThan(0)
    // The other node goes on: a primary writes, a replica reads.
    if (index === 1) await writes.progress(20)
    const restarted = round === 3 ? await startWithoutRoom(cluster, index) : undefined
    disk.free()
    // A start that failed at once says why, and the next one succeeds; one that waits goes on by itself.
    if (restarted !== undefined && !(await comesUp(restarted))) await cluster.startNode(index)
    await expect.poll(() => stateOf(cluster, index), { timeout: 30_000, interval: 20 }).toBe('ready')
  }
  await writes.progress(20)
  await writes.stop()
  console.log('WARNINGS', cluster.warnings)
  await cluster.expectEqual(1)
  for (const each of [0, 1]) await writes.expectHonest(cluster.node(each))
  expect(cluster.warningsOf().filter(({ name }) => !EXPECTED_WARNINGS.includes(name))).toEqual([])
})

test('a replica that has no room for its first copy says so, and has it when there is', async () => {
  using disk = SmallDisk.mount(16 * MIB)
  await using cluster = await ProcessCluster.start(2, {
    database: NAME,
    places: [undefined, { dataDir: disk.dataDir }],
  })
  await cluster.primary.batch(NAME, TRACKED_SCHEMA)
  await cluster.settle(1)
  await cluster.node(1).kill()
  rmSync(disk.dataDir, { recursive: true })
  for (let i = 0; i < 8; i++) await cluster.primary.run(NAME, INSERT, [MIB / 2])
  disk.fill(2 * MIB)
  const node = cluster.spawnNode(1)
  await expect
    .poll(() => cluster.warnings.filter((warning) => /ENOSPC/.test(warning.message)).length, { timeout: 20_000 })
    .toBeGreaterThan(0)
  // Others are not held up by it.
  await cluster.primary.run(NAME, INSERT, [1000])
  disk.free()
  await node.ready()
  await cluster.expectEqual(1)
})

async function stateOf(cluster: ProcessCluster, index: number): Promise<string> {
  return (await cluster.node(index).facts(NAME)).state
}

/** The database stopped, or SQLite itself refuses a write. */
async function feels(cluster: ProcessCluster, index: number): Promise<boolean> {
  if ((await stateOf(cluster, index)) === 'stopped') return true
  if (index !== 0) return false
  try {
    await cluster.primary.run(NAME, 'INSERT INTO filler VALUES (randomblob(100000))')
    return false
  } catch {
    return true
  }
}

async function comesUp(node: ProcessNode): Promise<boolean> {
  try {
    await node.ready()
    return true
  } catch (error) {
    expect((error as Error).message).toMatch(/ENOSPC|SQLITE_FULL|disk is full|disk I\/O error/i)
    return false
  }
}

/** It comes up, does not and says what it lacks, or says so and goes on trying. */
async function startWithoutRoom(cluster: ProcessCluster, index: number): Promise<ProcessNode> {
  await cluster.node(index).kill()
  const said = cluster.warnings.length
  const node = cluster.spawnNode(index)
  let hasAnswered = false
  node
    .ready()
    .catch(() => undefined)
    .finally(() => (hasAnswered = true))
  const saysWhy = (): boolean => cluster.warnings.slice(said).some(({ message }) => message.includes('ENOSPC'))
  await expect.poll(() => hasAnswered || saysWhy(), { timeout: 30_000 }).toBe(true)
  return node
}
