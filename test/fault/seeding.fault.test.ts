/**
 * I9, I10 while a snapshot takes a database's place: a replica that dies over it begins again, and one whose history is not the
 * primary's gives its own up and says so.
 *
 * Real: nodes as processes, with files, sockets and SQLite of their own; SIGKILL; a reader of the replica's file in a process of its own.
 * What may be lost: the history of a replica that parted from the primary's, because the primary came back from an older backup.
 */
import { cpSync, existsSync, readdirSync, rmSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { formatPosition } from '@litefleet/core'
import { expect, test } from 'vitest'
import { commitAndDie } from '../support/foreign-program.ts'
import { BOOK_SCHEMA, nextVersion } from '../support/ledger-book.ts'
import { ProcessCluster } from '../support/process-cluster.ts'
import { Random, seedOfRun } from '../support/random.ts'
import { ReaderProcess } from '../support/reader-process.ts'

const NAME = 'book.db'
const ROW_BYTES = 500_000
const ROWS = 60

async function startLarge(nodes: number, random: Random): Promise<ProcessCluster> {
  const cluster = await ProcessCluster.start(nodes, { database: NAME })
  await cluster.primary.batch(NAME, BOOK_SCHEMA)
  for (let i = 0; i < ROWS; i++) await cluster.primary.batch(NAME, nextVersion(random, ROW_BYTES))
  return cluster
}

test('a replica killed again and again while its first copy arrives begins again, and has it in the end', async () => {
  const random = new Random(seedOfRun('kill while seeding'))
  await using cluster = await startLarge(1, random)
  for (let kill = 1; kill <= 6; kill++) {
    // A copy that had arrived before the kill would not be sent again.
    if (existsSync(cluster.fileOf(1))) rmSync(cluster.dataDirOf(1), { recursive: true })
    const node = cluster.spawnNode(1)
    await snapshotArrives(cluster, 1)
    await sleep(random.below(250))
    await node.kill()
  }
  await cluster.startNode(1)
  await cluster.expectEqual(1)
  expect(spoolOf(cluster, 1)).toEqual([])
})

test('a replica killed while a snapshot replaces its pages in place begins again; a reader sees the old state or the new one', async () => {
  const random = new Random(seedOfRun('kill while seeding in place'))
  await using cluster = await startLarge(2, random)
  await cluster.settle(1)
  for (let kill = 1; kill <= 6; kill++) {
    await cluster.node(1).kill()
    await commitAndDie(cluster.fileOf(1), ['UPDATE filler SET bytes = randomblob(400000)'])
    const node = cluster.spawnNode(1)
    await snapshotArrives(cluster, 1)
    await sleep(random.below(250))
    await node.kill()
  }
  await using reader = await ReaderProcess.start(cluster.fileOf(1), 5)
  await cluster.startNode(1)
  await cluster.expectEqual(1)
  await cluster.node(1).batch(NAME, nextVersion(random, ROW_BYTES))
  expect(await reader.read()).toBe(ROWS + 1)
  expect((await reader.stop()).problems).toEqual([])
})

test('replicas that are ahead of a primary from an older backup, or as far on another history, are seeded again and say so', async () => {
  const random = new Random(seedOfRun('older backup'))
  await using cluster = await ProcessCluster.start(3, { database: NAME })
  await cluster.primary.batch(NAME, BOOK_SCHEMA)
  await cluster.primary.stop()
  const backup = path.join(cluster.directory, 'backup')
  cpSync(cluster.dataDirOf(0), backup, { recursive: true, preserveTimestamps: true })
  await cluster.startNode(0)
  for (let i = 0; i < 5; i++) await cluster.primary.batch(NAME, nextVersion(random, 2000))
  await cluster.settle(1, 2)
  const { position } = await cluster.primary.facts(NAME)
  await cluster.node(2).kill()
  await cluster.primary.stop()
  rmSync(cluster.dataDirOf(0), { recursive: true })
  cpSync(backup, cluster.dataDirOf(0), { recursive: true, preserveTimestamps: true })
  await cluster.startNode(0)
  // Node 1 is ahead.
  await cluster.settle(1)
  while ((await cluster.primary.facts(NAME)).position.txid < position.txid) {
    await cluster.node(1).batch(NAME, nextVersion(random, 2000))
  }
  // Node 2 is exactly as far, by the number.
  const parted = (await cluster.primary.facts(NAME)).position
  expect(parted.txid).toBe(position.txid)
  expect(formatPosition(parted)).not.toBe(formatPosition(position))
  await cluster.startNode(2)
  await cluster.expectEqual(1, 2)
  expect(cluster.warningsOf().map(({ name, node }) => `${name} on node ${node}`)).toEqual([
    'diverged on node 1',
    'diverged on node 2',
  ])
})

function spoolOf(cluster: ProcessCluster, index: number): readonly string[] {
  const spool = path.join(cluster.directoryOf(index), 'spool')
  return existsSync(spool) ? readdirSync(spool) : []
}

/** The first bytes of a snapshot have been written down. */
async function snapshotArrives(cluster: ProcessCluster, index: number): Promise<void> {
  await expect.poll(() => spoolOf(cluster, index).length, { timeout: 30_000, interval: 2 }).toBeGreaterThan(0)
}
