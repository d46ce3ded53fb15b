/**
 * A replica's process is killed with SIGKILL at each step of applying and checkpointing.
 *
 * Invariant: after recovery the database is exactly the image of some record boundary, at or after the last one applied
 * before, and applying the rest leads to the primary's image; a reader in another process that lives through it never sees
 * a torn version or an older one. Real: processes, locks, files, SQLite's recovery. Modelled: the moment of the kill,
 * by the name of the file operation; half of a write's bytes arrive. A power cut is not covered here: what was written
 * stays written.
 */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { SqliteDatabase } from '../sqlite/sqlite-library.ts'
import type { ApplierChildTask } from './test-support/applier-child.ts'
import { createBank, transfer } from './test-support/bank.ts'
import type { ReaderReport } from './test-support/reader-child.ts'
import { checksumsOf, RecordSource } from './test-support/record-source.ts'
import { TestReplica } from './test-support/test-replica.ts'

const PAGE_SIZE = 4096
const support = path.join(import.meta.dirname, 'test-support')

type Point = readonly [operation: string, call: number]

/** At which call: late enough that the database has moved since it was opened. */
const POINTS: readonly Point[] = [
  ['apply.write-wal-header', 2],
  ['apply.sync-wal-header', 2],
  ['apply.write-frames', 3],
  ['apply.write-index', 3],
  ['apply.publish-copy2', 2],
  ['apply.publish-copy1', 2],
  ['apply.restart-info', 1],
  ['apply.restart-copy2', 1],
  ['apply.restart-copy1', 1],
  ['apply.restart-truncate', 1],
]
/** What only others who have the database open could be confused by. */
const MORE_POINTS: readonly Point[] = [
  ['apply.write-index', 2],
  ['apply.limit-backfill', 2],
  ['apply.restart-info', 2],
]

/** As long as a test may take: it starts a process, too. */
const HOOK_TIMEOUT_MS = 30_000
const TRANSFERS = 170

let directory: string
let source: RecordSource
let recordsFile: string
let replicaPath: string
/** Children start in half the time when their modules are compiled already. */
let env: NodeJS.ProcessEnv
beforeAll(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'apply-'))
  env = { ...process.env, NODE_COMPILE_CACHE: path.join(directory, 'compiled') }
  source = new RecordSource(path.join(directory, 'primary.db'), { pageSize: PAGE_SIZE })
  source.commit(createBank)
  for (let i = 1; i <= TRANSFERS; i++) source.commit((database) => transfer(database, i))
  recordsFile = path.join(directory, 'records')
  fs.writeFileSync(recordsFile, Buffer.concat(source.records.flatMap(({ bytes }) => [lengthOf(bytes), bytes])))
  // Who is killed compiles for nobody: one that ends does it for all.
  replicaPath = path.join(directory, 'first.db')
  TestReplica.createEmpty({ path: replicaPath, pageSize: PAGE_SIZE }).close()
  expect(runChild({ crashAt: 'never', crashCall: 1, half: false }).stdout).toBe('done\n')
}, HOOK_TIMEOUT_MS)
beforeEach(() => {
  replicaPath = path.join(fs.mkdtempSync(path.join(directory, 'replica-')), 'replica.db')
  const start = TestReplica.createEmpty({ path: replicaPath, pageSize: PAGE_SIZE })
  start.applier.apply(source.records.slice(0, 1))
  start.close()
})
afterAll(() => {
  source.close()
  fs.rmSync(directory, { recursive: true })
})

test('killed at each step, with nobody else there: recovery shows a record boundary, and the rest applies', () => {
  let applied = 1
  for (const [crashAt, crashCall] of POINTS) applied = crashOnce({ crashAt, crashCall, half: true }, applied)
  expect(applied).toBeGreaterThan(10)
  applyTheRest(applied)
})

test('killed at each step under a reader of another process: its versions are whole and never go back', async () => {
  const reader = spawn(process.execPath, [path.join(support, 'reader-child.ts'), replicaPath, '1'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env,
  })
  const lines = createInterface({ input: reader.stdout })[Symbol.asyncIterator]()
  await lines.next()
  let applied = 1
  for (const [i, [crashAt, crashCall]] of [...POINTS, ...MORE_POINTS].entries()) {
    applied = crashOnce({ crashAt, crashCall, half: i % 2 === 1 }, applied)
  }
  expect(applied).toBeGreaterThan(10)
  applyTheRest(applied)
  reader.stdin.end()
  const { value } = await lines.next()
  await once(reader, 'close')
  const report = JSON.parse(String(value)) as ReaderReport
  expect(report.problems).toEqual([])
  expect(report.lastVersion).toBe(TRANSFERS)
})

test('a damaged end of the WAL, as after a power cut: SQLite comes up at an earlier record boundary, never in between', () => {
  const options = { walSoftLimitBytes: 100 * PAGE_SIZE }
  const position = source.records[0]!.postApply
  const checksums = checksumsOf(source.images[1]!, PAGE_SIZE)
  const replica = new TestReplica({ path: replicaPath, pageSize: PAGE_SIZE, position, checksums, options })
  for (const [i, record] of source.records.slice(1).entries()) {
    replica.applier.apply([record])
    // Not in the second half, so that the WAL has many versions.
    if (i < TRANSFERS / 2) replica.applier.checkpoint({ force: true })
  }
  const main = readFd(replica.files.databaseFd)
  const wal = readFd(replica.files.walFd)
  replica.close()
  const copy = path.join(directory, 'copy.db')
  const boundaries = new Set<number>()
  for (let i = 0; i < 42; i++) {
    const damaged = Buffer.from(wal)
    const at = 32 + Math.floor(((i + 0.5) / 42) * (wal.length - 32))
    if (i % 3 === 1) damaged.writeUInt8(damaged.readUInt8(at) ^ 16, at)
    if (i % 3 === 2) damaged.fill(0, at & ~511, (at & ~511) + 512)
    fs.writeFileSync(copy, main)
    fs.writeFileSync(`${copy}-wal`, i % 3 === 0 ? damaged.subarray(0, at) : damaged)
    boundaries.add(boundaryOf(copy))
  }
  expect(boundaries).not.toContain(-1)
  expect(boundaries.size).toBeGreaterThan(15)
})

type Crash = Pick<ApplierChildTask, 'crashAt' | 'crashCall' | 'half'>

/** Lets a child apply until it is killed; the boundary at which the database stands afterwards. */
function crashOnce(crash: Crash, applied: number): number {
  const { signal, stdout, stderr } = runChild(crash)
  expect({ ...crash, signal, stdout, stderr }).toEqual({ ...crash, signal: 'SIGKILL', stdout: '', stderr: '' })
  const boundary = boundaryOf(replicaPath)
  expect(boundary, `after ${crash.crashAt}`).toBeGreaterThanOrEqual(applied)
  return boundary
}

function runChild(crash: Crash) {
  const task: ApplierChildTask = {
    path: replicaPath,
    pageSize: PAGE_SIZE,
    recordsFile,
    batch: 3,
    walSoftLimitBytes: PAGE_SIZE,
    checkpointStepBytes: 16 * PAGE_SIZE,
    ...crash,
  }
  const args = [path.join(support, 'applier-child.ts'), JSON.stringify(task)]
  return spawnSync(process.execPath, args, { encoding: 'utf8', env })
}

/** How many records the database holds, by its whole image; -1 when it is no boundary. */
function boundaryOf(file: string): number {
  const database = new SqliteDatabase(file, { timeout: 5000 })
  const image = database.serialize()
  database.close()
  return source.images.findIndex((known) => known.equals(image))
}

function applyTheRest(applied: number): void {
  const position = source.records[applied - 1]!.postApply
  const checksums = checksumsOf(source.images[applied]!, PAGE_SIZE)
  const replica = new TestReplica({ path: replicaPath, pageSize: PAGE_SIZE, position, checksums })
  replica.applier.apply(source.records.slice(applied))
  expect(replica.image().equals(source.image)).toBe(true)
  replica.close()
}

function readFd(fd: number): Buffer {
  const bytes = Buffer.alloc(fs.fstatSync(fd).size)
  fs.readSync(fd, bytes, 0, bytes.length, 0)
  return bytes
}

function lengthOf(bytes: Buffer): Buffer {
  const length = Buffer.alloc(4)
  length.writeUInt32LE(bytes.length, 0)
  return length
}
