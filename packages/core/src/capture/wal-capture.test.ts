import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { CapturedDatabase, makeDatabase, TEST_NODE_ID } from './test-support/captured-database.ts'
import { InvariantError } from '../base/assert.ts'
import { isClusterError } from '../errors/cluster-error.ts'
import { type Disk, realDisk } from '../files/disk.ts'
import { PageChecksums } from '../ltx/page-checksums.ts'
import { NO_CHECKSUM } from '../position/checksum.ts'
import { txid } from '../position/txid.ts'
import { SqliteDatabase } from '../sqlite/sqlite-library.ts'
import { FRAME_HEADER_BYTES, frameOffset } from '../sqlite-format/wal-frame.ts'

let directory = ''
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-capture-'))
})
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }))

const FRAME_BYTES = FRAME_HEADER_BYTES + 4096

test('the first commit of a new database becomes TXID 1 with every page', () => {
  const database = CapturedDatabase.open(directory)
  expect(database.take()).toEqual([])
  // Page 1 is in the main file only; the commit changes it and adds one.
  database.writer.exec('CREATE TABLE t(a)')
  const [record, ...more] = database.take()
  expect(more).toEqual([])
  expect(record?.isSnapshot).toBe(true)
  expect([...(record?.pgnos() ?? [])]).toEqual([1, 2])
  database.expectSame()
  database.close()
})

test('a database with content and no position: TXID 1 takes pages from the main file, from old frames and from new ones', () => {
  const file = path.join(directory, 'database')
  const other = new SqliteDatabase(file)
  other.pragma('journal_mode = WAL')
  other.exec('CREATE TABLE t(a); CREATE TABLE u(a); INSERT INTO t VALUES (zeroblob(50000))')
  other.pragma('wal_checkpoint(TRUNCATE)')
  // Stays in the WAL, before the cursor.
  other.exec('INSERT INTO u VALUES (zeroblob(50000))')
  const database = CapturedDatabase.open(directory)
  expect(database.capture.cursor.frame).toBeGreaterThan(0)
  database.writer.exec('INSERT INTO u VALUES (1)')
  database.writer.exec('INSERT INTO u VALUES (2)')
  const records = database.take()
  expect(records.map((record) => record.txid)).toEqual([1n])
  expect(records[0]?.pageCount).toBe(records[0]?.commit)
  database.expectSame()
  other.close()
  database.close()
})

test('several commits between two captures give one record each, every one continuing the last', () => {
  const database = CapturedDatabase.open(directory)
  database.writer.exec('CREATE TABLE t(a)')
  for (let i = 0; i < 5; i++) database.writer.exec(`INSERT INTO t VALUES (${i})`)
  database.take()
  const before = database.capture.position
  for (let i = 0; i < 5; i++) database.writer.exec(`INSERT INTO t VALUES (${i})`)
  const records = database.take()
  expect(records.map((record) => record.txid)).toEqual([2n, 3n, 4n, 5n, 6n])
  expect(records[0]?.preApply).toEqual(before)
  for (const [i, record] of records.entries()) {
    if (i > 0) expect(record.preApply).toEqual(records[i - 1]?.postApply)
  }
  expect(database.capture.position).toEqual(records.at(-1)?.postApply)
  database.close()
})

test('a record names its place in the WAL, its writer, and the time of its capture', () => {
  const database = CapturedDatabase.open(directory)
  database.writer.exec('CREATE TABLE t(a)')
  database.take()
  const { frame, salt1, salt2 } = database.capture.cursor
  database.writer.exec('CREATE TABLE u(a)')
  const beforeMs = Date.now()
  const header = database.take()[0]?.header
  expect(header).toMatchObject({
    compressed: false,
    pageSize: 4096,
    walOffset: frameOffset(frame + 1, 4096),
    walBytes: (database.capture.cursor.frame - frame) * FRAME_BYTES,
    walSalt1: salt1,
    walSalt2: salt2,
    nodeId: TEST_NODE_ID,
  })
  expect(header?.timestampMs).toBeGreaterThanOrEqual(beforeMs)
  expect(header?.preApplyChecksum).not.toBe(NO_CHECKSUM)
  database.close()
})

test('rolled back and empty transactions give no record', () => {
  const database = CapturedDatabase.open(directory)
  const { writer } = database
  writer.pragma('cache_size = 5')
  writer.exec('CREATE TABLE t(a)')
  database.take()
  writer.exec('BEGIN; INSERT INTO t VALUES (zeroblob(400000)); ROLLBACK')
  writer.exec('BEGIN IMMEDIATE; COMMIT')
  expect(database.capture.hasUncaptured()).toBe(false)
  expect(database.take()).toEqual([])
  // Their frames are overwritten by the next commit.
  writer.exec('INSERT INTO t VALUES (1)')
  expect(database.take()).toHaveLength(1)
  database.expectSame()
  database.close()
})

test('a database that shrinks loses the checksums of its last pages', () => {
  const database = CapturedDatabase.open(directory)
  database.writer.exec('CREATE TABLE t(a); INSERT INTO t VALUES (zeroblob(200000)); DELETE FROM t')
  database.take()
  const grown = database.capture.checksums.pageCount
  database.writer.exec('VACUUM')
  database.take()
  expect(database.capture.checksums.pageCount).toBeLessThan(grown)
  database.expectSame()
  database.close()
})

test.for([512, 65536])('page size %i: a database that grows past 1 GiB never gives its lock page away', (pageSize) => {
  const file = path.join(directory, 'database')
  makeDatabase(file, pageSize, 0)
  const lockPage = 0x40000000 / pageSize + 1
  // A sparse file: so many pages that the next ones lie around the lock page. SQLite believes the size in the header.
  const fd = fs.openSync(file, 'r+')
  const header = Buffer.alloc(100)
  fs.readSync(fd, header, 0, 100, 0)
  header.writeUInt32BE(lockPage - 3, 28)
  fs.writeSync(fd, header, 0, 100, 0)
  fs.ftruncateSync(fd, (lockPage - 3) * pageSize)
  fs.closeSync(fd)

  const checksums = new PageChecksums(pageSize)
  checksums.set(lockPage - 3, 0x80000000, 1)
  const position = { txid: txid(1n), checksum: checksums.checksum }
  const database = CapturedDatabase.open(directory, { startAt: { position, checksums } })
  database.writer.exec(`CREATE TABLE t(a); INSERT INTO t VALUES (zeroblob(${20 * pageSize}))`)
  const records = database.capture.capture()
  const pgnos = records.flatMap((record) => [...record.pgnos()])
  expect(pgnos).toContain(lockPage - 1)
  expect(pgnos).toContain(lockPage + 1)
  expect(pgnos).not.toContain(lockPage)
  expect(checksums.high(lockPage)).toBe(0)
  expect(checksums.pageCount).toBeGreaterThan(lockPage)
  database.close()
})

test('a restart of the WAL is followed, and the guard moves on so that checkpoints go on working', () => {
  const database = CapturedDatabase.open(directory)
  const { writer } = database
  writer.exec('CREATE TABLE t(a)')
  for (let round = 0; round < 4; round++) {
    writer.exec('INSERT INTO t VALUES (zeroblob(20000))')
    database.take()
    const { salt1, salt2 } = database.capture.cursor
    expect(database.checkpoint()).toMatchObject({ kind: 'complete', usedWriteLock: false })
    writer.exec('INSERT INTO t VALUES (1)')
    database.take()
    expect(database.capture.cursor).not.toMatchObject({ salt1, salt2 })
    expect(database.capture.cursor.frame).toBeLessThan(5)
  }
  database.expectSame()
  database.close()
})

test('after the first commit of a new generation another process can copy its frames', () => {
  const database = CapturedDatabase.open(directory)
  const { writer } = database
  writer.exec('CREATE TABLE t(a)')
  database.checkpoint()
  writer.exec('INSERT INTO t VALUES (1)')
  const copied = (): unknown => writer.pragma('wal_checkpoint(PASSIVE)')
  // The guard is on slot 0, where it keeps the main file as it is.
  expect(copied()).not.toEqual([expect.objectContaining({ checkpointed: database.capture.cursor.frame })])
  database.take()
  expect(copied()).toEqual([{ busy: 0, log: 1, checkpointed: 1 }])
  database.close()
})

test('a truncated WAL is an empty new generation and loses nothing', () => {
  const database = CapturedDatabase.open(directory)
  const { writer } = database
  writer.exec('CREATE TABLE t(a); INSERT INTO t VALUES (1)')
  database.checkpoint()
  const other = new SqliteDatabase(database.file)
  other.pragma('wal_checkpoint(TRUNCATE)')
  expect(fs.statSync(database.files.walPath).size).toBe(0)
  expect(database.capture.hasUncaptured()).toBe(false)
  expect(database.take()).toEqual([])
  expect(database.capture.cursor.frame).toBe(0)
  other.exec('INSERT INTO t VALUES (2)')
  expect(database.capture.hasUncaptured()).toBe(true)
  expect(database.take()).toHaveLength(1)
  database.expectSame()
  other.close()
  database.close()
})

test('everything uncaptured can be taken as one record', () => {
  const database = CapturedDatabase.open(directory)
  const { writer } = database
  writer.exec('CREATE TABLE t(a); INSERT INTO t VALUES (zeroblob(100000))')
  database.take()
  writer.exec('DELETE FROM t')
  writer.exec('VACUUM')
  writer.exec('INSERT INTO t VALUES (zeroblob(300000))')
  const record = database.capture.captureMerged()
  expect(record?.txid).toBe(database.replica.position.txid + 1n)
  expect(new Set(record?.pgnos()).size).toBe(record?.pageCount)
  database.accept(record === undefined ? [] : [record])
  expect(database.capture.captureMerged()).toBeUndefined()
  database.expectSame()
  database.close()
})

test('commits of others are synced before they are read; ours were synced by SQLite', () => {
  const synced: string[] = []
  const disk: Disk = { ...realDisk, dataSyncNow: (operation) => void synced.push(operation) }
  const database = CapturedDatabase.open(directory, { disk })
  database.writer.exec('CREATE TABLE t(a)')
  database.take(false)
  expect(synced).toEqual([])
  database.writer.exec('INSERT INTO t VALUES (1)')
  database.take(true)
  expect(synced).toEqual(['capture.sync-wal'])
  database.take(true)
  expect(synced).toHaveLength(1)
  database.close()
})

test.for([
  { what: 'a page', at: 200 },
  { what: 'a page number', at: 3 },
  { what: 'a salt', at: 9 },
  { what: 'a checksum', at: 20 },
])(
  'a flipped bit in $what of a frame is CORRUPT_DATA, and capture goes on from where it was once it is mended',
  ({ at }) => {
    const database = CapturedDatabase.open(directory)
    const { writer, capture, files } = database
    writer.exec('CREATE TABLE t(a)')
    database.take()
    const position = capture.position
    const cursor = capture.cursor
    const checksum = capture.checksums.checksum
    // The first of two transactions is whole; it must not be taken either.
    writer.exec('INSERT INTO t VALUES (1)')
    const first = cursorFrames(database)
    writer.exec('CREATE TABLE u(a)')
    const damage = (): void => flipBit(files.walPath, frameOffset(first + 1, 4096) + at)
    damage()
    const error = thrownBy(() => capture.capture())
    expect(isClusterError(error, 'CORRUPT_DATA')).toBe(true)
    expect(capture.position).toEqual(position)
    expect(capture.cursor).toEqual(cursor)
    expect(capture.checksums.checksum).toBe(checksum)
    damage()
    expect(database.take()).toHaveLength(2)
    database.expectSame()
    database.close()
  },
)

test('a disk that fails in the middle of a transaction leaves capture where it was', () => {
  let failing = false
  let reads = 0
  const disk: Disk = {
    ...realDisk,
    read(operation, fd, target, offset, length, position) {
      if (failing && operation === 'capture.read-pages' && ++reads === 2) throw new Error('disk')
      return realDisk.read(operation, fd, target, offset, length, position)
    },
  }
  const scanner = { windowBytesMax: 4 * FRAME_BYTES }
  const database = CapturedDatabase.open(directory, { disk, scanner })
  database.writer.exec('CREATE TABLE t(a)')
  database.take()
  const { position } = database.capture
  database.writer.exec('INSERT INTO t VALUES (1)')
  database.writer.exec('BEGIN; UPDATE t SET a = zeroblob(90000); INSERT INTO t VALUES (zeroblob(90000)); COMMIT')
  failing = true
  reads = 1
  expect(() => database.capture.capture()).toThrow('disk')
  expect(database.capture.position).toBe(position)
  failing = false
  expect(database.take()).toHaveLength(2)
  database.expectSame()
  database.close()
})

test('a WAL that was rewritten behind the captured frames stops the database', () => {
  const database = CapturedDatabase.open(directory)
  database.writer.exec('CREATE TABLE t(a)')
  database.take()
  Reflect.set(database.capture.cursor, 'checksum1', 1)
  expect(() => database.capture.capture()).toThrow(InvariantError)
  database.close()
})

test('commits lost between two generations of the WAL stop the database', () => {
  const database = CapturedDatabase.open(directory)
  const { writer, guards } = database
  writer.exec('CREATE TABLE t(a)')
  database.take()
  // Against the rule: the guards are gone, so the WAL is restarted over commits that nobody captured.
  guards.close()
  for (let i = 0; i < 3; i++) writer.exec(`INSERT INTO t VALUES (${i})`)
  writer.pragma('wal_checkpoint(TRUNCATE)')
  writer.exec('INSERT INTO t VALUES (9)')
  expect(() => database.capture.capture()).toThrow(/commits were made/)
  database.close()
})

test('a database that grows by pages which are not in the WAL stops', () => {
  makeDatabase(path.join(directory, 'database'), 4096, 0)
  const other = new SqliteDatabase(path.join(directory, 'database'))
  other.exec('CREATE TABLE t(a); INSERT INTO t VALUES (zeroblob(50000))')
  other.close()
  // As if the checksums had been taken of another, smaller database.
  const checksums = new PageChecksums(4096)
  checksums.set(2, 0x80000000, 1)
  const position = { txid: txid(4n), checksum: checksums.checksum }
  const database = CapturedDatabase.open(directory, { startAt: { position, checksums } })
  database.writer.exec('INSERT INTO t VALUES (1)')
  expect(() => database.capture.capture()).toThrow(/new pages are in the WAL/)
  expect(database.capture.position).toBe(position)
  database.close()
})

test('one call ends where the WAL ended when it began', () => {
  const scanner = { windowBytesMax: FRAME_BYTES }
  let commit: (() => void) | undefined
  const disk: Disk = {
    ...realDisk,
    read(operation, fd, target, offset, length, position) {
      if (operation === 'capture.read-frames') commit?.()
      return realDisk.read(operation, fd, target, offset, length, position)
    },
  }
  const database = CapturedDatabase.open(directory, { disk, scanner })
  database.writer.exec('CREATE TABLE t(a)')
  database.take()
  database.writer.exec('INSERT INTO t VALUES (1)')
  // Every read of a frame finds the WAL longer.
  commit = () => void database.writer.exec('INSERT INTO t VALUES (2)')
  expect(database.take()).toHaveLength(1)
  commit = undefined
  expect(database.capture.hasUncaptured()).toBe(true)
  database.expectSame()
  database.close()
})

function cursorFrames(database: CapturedDatabase): number {
  const header = Buffer.alloc(96)
  realDisk.read('test', database.files.shmFd, header, 0, 96, 0)
  return header.readUInt32LE(16)
}

/** Through a descriptor of `-wal`, which may be opened and closed beside SQLite. */
function flipBit(file: string, at: number): void {
  const fd = fs.openSync(file, 'r+')
  const byte = Buffer.alloc(1)
  fs.readSync(fd, byte, 0, 1, at)
  byte[0] = (byte[0] ?? 0) ^ 1
  fs.writeSync(fd, byte, 0, 1, at)
  fs.closeSync(fd)
}

function thrownBy(action: () => void): unknown {
  try {
    action()
  } catch (error) {
    return error
  }
  return undefined
}
