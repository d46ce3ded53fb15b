/**
 * I3 and I5 towards other processes: any program that reads a replica's file with SQLite sees whole transactions only, never an older
 * state after a newer one, and at once what a node has announced; no reader, however long, holds up the replica; and no program but
 * the node changes the file.
 *
 * Real: a primary and a replica in this process, with files, sockets and SQLite of their own; readers in processes of their own, on
 * plain better-sqlite3; writers and checkpoints by the `sqlite3` shell. Nothing may be lost.
 */
import { statSync } from 'node:fs'
import { formatPosition } from '@litefleet/core'
import { TestCluster } from '@litefleet/core/testing'
import type { Database } from '@litefleet/core'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { shell } from '../support/foreign-shell.ts'
import { differingPages, imageOf, integrityOf } from '../support/images.ts'
import { BOOK_SCHEMA, nextVersion } from '../support/ledger-book.ts'
import { Random, seedOfRun } from '../support/random.ts'
import { ReaderProcess } from '../support/reader-process.ts'

const NAME = 'book.db'
const PAGE_SIZE = 4096
/** Large enough for several checkpoints of the replica, which begin at 16 MiB of WAL. */
const STREAM = { transactions: 320, fillerBytes: 220_000 }

let cluster: TestCluster
let primary: Database
let replica: Database
let random: Random

beforeEach(async ({ task }) => {
  random = new Random(seedOfRun(task.name))
  cluster = await TestCluster.start({ nodes: 2 })
  const [first, second] = await cluster.database(NAME)
  primary = first!
  replica = second!
  await primary.batch(BOOK_SCHEMA)
  await cluster.settle(NAME)
})
afterEach(() => cluster.close())

test('readers of other processes see whole transactions only, never an older one, while records stream in and checkpoints run', async () => {
  await using quick = await ReaderProcess.start(replica.path, 2)
  await using pausing = await ReaderProcess.start(replica.path, 15)
  await using slow = await ReaderProcess.start(replica.path, 120)
  const readers = [quick, pausing, slow]
  const fileTimes = new Set<bigint>()
  let checkpoints = Promise.resolve('')
  for (let i = 0; i < STREAM.transactions; i++) {
    const version = await write(i % 2 === 0 ? replica : primary, STREAM.fillerBytes)
    // Announced on the replica, so visible to every read that begins now (I3). The primary's writes may still be under way.
    if (i % 20 === 0) expect(await random.pick(readers).read()).toBeGreaterThanOrEqual(version)
    if (i % 50 === 25) {
      await checkpoints
      checkpoints = shell(
        replica.path,
        `PRAGMA wal_checkpoint(${random.pick(['PASSIVE', 'FULL', 'RESTART', 'TRUNCATE'])})`,
        0,
      )
    }
    fileTimes.add(statSync(replica.path, { bigint: true }).mtimeNs)
  }
  await checkpoints
  // Pages were copied into the database file under the readers' feet, in more than one checkpoint.
  expect(fileTimes.size).toBeGreaterThan(3)
  for (const reader of readers) {
    const report = await reader.stop()
    expect(report.problems).toEqual([])
    expect(report.reads).toBeGreaterThan(10)
    expect(report.lastVersion).toBeGreaterThan(report.firstVersion)
  }
  await expectEqual()
})

test('a reader that stays in its transaction stops neither the replica nor the writers who wait for it, and keeps its snapshot', async () => {
  await using reader = await ReaderProcess.start(replica.path, 5)
  await write(primary, 1000)
  await cluster.settle(NAME)
  const held = await reader.hold()
  const before = replica.position
  const heldSinceMs = performance.now()
  let version = held
  let writes = 0
  // Long enough for the WAL to pass the size at which checkpoints begin, and for seconds.
  while (performance.now() - heldSinceMs < 2_500 || walBytesOf(1) < 17 * 2 ** 20) {
    version = await write(replica, 100_000)
    writes++
    expect(replica.position.txid).toBe(before.txid + BigInt(writes))
  }
  expect(replica.prepare('SELECT value FROM version').pluck().get()).toBe(version)
  expect(await reader.release()).toBe(version)
  expect((await reader.stop()).problems).toEqual([])
  await expectEqual()
})

test.each([
  ['a row', "INSERT INTO filler VALUES (99, 0, 'intruder')"],
  ['a table', 'CREATE TABLE intruder (id INTEGER)'],
  ['VACUUM', 'VACUUM'],
  ['an exclusive transaction', 'BEGIN EXCLUSIVE; DELETE FROM account; COMMIT'],
  ['another journal mode', 'PRAGMA journal_mode = DELETE'],
])("the shell is told that a replica's file is locked when it tries to write: %s", async (_, sql) => {
  await write(primary, 10_000)
  await cluster.settle(NAME)
  const before = imageOf(replica.path)
  await expect(shell(replica.path, sql, 100)).rejects.toThrow('database is locked')
  expect(differingPages(before, imageOf(replica.path), PAGE_SIZE)).toBe('')
  await write(replica, 10_000)
  await expectEqual()
})

/** Answers the version it made. */
async function write(through: Database, fillerBytes: number): Promise<number> {
  const { results } = await through.batch(nextVersion(random, fillerBytes))
  return Number(results[0]?.rows?.[0]?.['value'])
}

function walBytesOf(node: number): number {
  return cluster.node(node).status().databases[0]?.walBytes ?? 0
}

async function expectEqual(): Promise<void> {
  await cluster.settle(NAME)
  expect(formatPosition(replica.position)).toBe(formatPosition(primary.position))
  expect(differingPages(imageOf(primary.path), imageOf(replica.path), PAGE_SIZE)).toBe('')
  expect(integrityOf(replica.path)).toBe('ok')
  expect(cluster.warnings).toEqual([])
}
