import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { systemClock } from '../base/clock.ts'
import { realDisk } from '../files/disk.ts'
import { LiveFiles } from '../files/live-files.ts'
import { tryLock, unlock } from '../files/range-lock.ts'
import { openConnection } from '../sqlite/connection.ts'
import { SqliteDatabase } from '../sqlite/sqlite-library.ts'
import { ReplicaWriteLock } from './replica-write-lock.ts'
import { createBank, transfer } from './test-support/bank.ts'
import type { ReaderReport } from './test-support/reader-child.ts'
import { checksumsOf, differingPages, RecordSource } from './test-support/record-source.ts'
import { TestReplica } from './test-support/test-replica.ts'
import { CHECKPOINT_LOCK_BYTE, readLockByte, WAL_READ_MARKS } from './wal-lock-bytes.ts'

const PAGE_SIZE = 4096
const SHELL = '/usr/bin/sqlite3'
const support = path.join(import.meta.dirname, 'test-support')

let directory: string
let source: RecordSource
let replica: TestReplica
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'apply-'))
  source = new RecordSource(path.join(directory, 'primary.db'), { pageSize: PAGE_SIZE })
  source.commit(createBank)
  replica = TestReplica.createEmpty({
    path: path.join(directory, 'replica.db'),
    pageSize: PAGE_SIZE,
    options: { walSoftLimitBytes: 30 * PAGE_SIZE, checkpointStepBytes: 64 * PAGE_SIZE },
  })
  replica.applier.apply(source.records)
})
afterEach(() => {
  replica.close()
  source.close()
  fs.rmSync(directory, { recursive: true })
})

class Reader {
  readonly #process: ChildProcess
  readonly #lines: AsyncIterator<string>

  private constructor(child: ChildProcess, lines: AsyncIterator<string>) {
    this.#process = child
    this.#lines = lines
  }

  /** Resolves once it has read for the first time. */
  static async start(pauseMs: number, modes = ''): Promise<Reader> {
    const child = spawn(process.execPath, [path.join(support, 'reader-child.ts'), replica.path, `${pauseMs}`, modes], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    await lines.next()
    return new Reader(child, lines)
  }

  async stop(): Promise<ReaderReport> {
    this.#process.stdin?.end()
    const { value } = await this.#lines.next()
    await once(this.#process, 'close')
    return JSON.parse(String(value)) as ReaderReport
  }
}

test('readers and a checkpointer in other processes: no version is torn, and the WAL empties when applying pauses', async () => {
  const readers = await Promise.all([
    Reader.start(0),
    Reader.start(20),
    Reader.start(0, 'PASSIVE,FULL,RESTART,TRUNCATE'),
  ])
  let applied = source.records.length
  for (let i = 1; i <= 320; i++) {
    source.commit((database) => transfer(database, i))
    if (i === 200) {
      replica.applier.applyPages(snapshotOfNow())
      applied = source.records.length
    }
    if (i % 3 !== 0) continue
    replica.applier.apply(source.records.slice(applied))
    applied = source.records.length
    replica.applier.checkpoint()
    await nextTurn()
    if (i % 60 === 0) await pauseUntilEmpty()
  }
  replica.applier.apply(source.records.slice(applied))
  const reports = await Promise.all(readers.map((reader) => reader.stop()))
  for (const report of reports) {
    expect(report.problems).toEqual([])
    expect(report.reads).toBeGreaterThan(2)
    expect(report.lastVersion).toBeGreaterThan(report.firstVersion)
  }
  expect(replica.image().equals(source.image)).toBe(true)
})

/** Readers come and go all the time; those that come during the pause do not need the WAL. */
async function pauseUntilEmpty(): Promise<void> {
  while (replica.applier.checkpoint({ force: true }).kind !== 'restarted') await nextTurn()
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve)
  })
}

const WRITES = [
  "INSERT INTO account VALUES (9999, 0, 'x')",
  'CREATE TABLE intruder (a)',
  'VACUUM',
  'BEGIN EXCLUSIVE',
  'BEGIN IMMEDIATE',
  'PRAGMA journal_mode = DELETE',
  'PRAGMA user_version = 7',
]

/** Runs statements in another process, each on a connection of its own; what it was told, line by line. */
type Party = (statements: readonly string[]) => readonly string[]

const libraryParty: Party = (statements) =>
  output(process.execPath, [path.join(support, 'foreign-writer.ts'), replica.path, ...statements]).split('\n')
/** Usually another version of SQLite, where the machine has it. */
const shellParty: Party = (statements) => statements.map((statement) => output(SHELL, [replica.path, statement]))
const parties: readonly (readonly [string, Party])[] = [
  ['better-sqlite3', libraryParty],
  ...(fs.existsSync(SHELL) ? ([['the sqlite3 shell', shellParty]] as const) : []),
]

test.each(parties)(
  '%s in another process is told that the database is locked, whatever it tries to write',
  (_, write) => {
    const locked = WRITES.map(() => expect.stringContaining('database is locked') as string)
    expect(write(WRITES)).toEqual(locked)
    // The same with an empty WAL.
    expect(replica.applier.checkpoint({ force: true }).kind).toBe('restarted')
    expect(write(WRITES)).toEqual(locked)
    expect(replica.image().equals(source.image)).toBe(true)
    replica.applier.close()
    expect(write(WRITES.slice(0, 1))).toEqual([expect.not.stringContaining('locked')])
    expect(replica.image().equals(source.image)).toBe(false)
  },
)

test('the lock is refused while somebody else has it: another applier, or a writing connection of this process', async () => {
  const other = LiveFiles.open(realDisk, replica.path)
  const take = (): ReplicaWriteLock => ReplicaWriteLock.take(other, replica.connection)
  expect(take).toThrow(expect.objectContaining({ code: 'DATABASE_BUSY' }))
  replica.applier.close()
  const writer = openConnection(replica.path)
  writer.exec('BEGIN IMMEDIATE')
  expect(take).toThrow(expect.objectContaining({ code: 'DATABASE_BUSY' }))
  writer.exec('COMMIT')
  writer.exec('BEGIN IMMEDIATE')
  const parts = { files: other, connection: replica.connection, clock: systemClock }
  const refused = ReplicaWriteLock.acquire({ ...parts, timeoutMs: 5 })
  await expect(refused).rejects.toMatchObject({ code: 'DATABASE_BUSY' })
  const acquired = ReplicaWriteLock.acquire({ ...parts, timeoutMs: 30_000 })
  await nextTurn()
  writer.exec('COMMIT')
  const lock = await acquired
  expect(() => writer.exec('BEGIN IMMEDIATE')).toThrow('database is locked')
  lock.release()
  lock.release()
  writer.close()
  replica.close()
  other.close()
})

test("our own locks on -shm neither take nor drop those of this process's readers", () => {
  const probe = (): string => output(process.execPath, [path.join(support, 'lock-probe.ts'), replica.files.shmPath])
  const reader = new SqliteDatabase(replica.path)
  reader.exec('BEGIN; SELECT count(*) FROM account')
  // Write lock (ours), one read mark (the reader's), and SQLite's "somebody is here" on byte 128.
  expect(probe()).toBe('100010001')
  const { shmFd } = replica.files
  expect(tryLock(shmFd, CHECKPOINT_LOCK_BYTE, 1)).toBe(true)
  expect(tryLock(shmFd, readLockByte(1), WAL_READ_MARKS)).toBe(false)
  expect(tryLock(shmFd, readLockByte(2), WAL_READ_MARKS - 1)).toBe(true)
  expect(probe()).toBe('110011111')
  unlock(shmFd, CHECKPOINT_LOCK_BYTE, 1)
  unlock(shmFd, readLockByte(1), WAL_READ_MARKS)
  expect(probe()).toBe('100010001')
  replica.applier.close()
  expect(probe()).toBe('000010001')
  reader.exec('COMMIT')
  expect(probe()).toBe('000000001')
  reader.close()
})

/** What a program says, on both outputs. */
function output(program: string, args: readonly string[]): string {
  const { stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8' })
  if (error !== undefined) throw error
  return (stdout + stderr).trimEnd()
}

function snapshotOfNow() {
  const { image, position } = source
  return {
    pgnos: differingPages(replica.image(), image, PAGE_SIZE),
    read: (pgno: number, target: Buffer, offset: number) => {
      image.copy(target, offset, (pgno - 1) * PAGE_SIZE, pgno * PAGE_SIZE)
    },
    commit: image.length / PAGE_SIZE,
    checksums: checksumsOf(image, PAGE_SIZE),
    position,
  }
}
