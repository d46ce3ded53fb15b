import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Disk, realDisk } from '../files/disk.ts'
import { LiveFiles } from '../files/live-files.ts'
import { isComplete, PassiveCheckpoint } from './checkpoint.ts'
import { type Connection, openConnection } from './connection.ts'
import { prepareDatabaseFile } from './open-database-file.ts'
import { ReadPin } from './read-pin.ts'
import { WalGuards } from './wal-guards.ts'
import { WalIndexReader } from './wal-index-reader.ts'

let directory = ''
let file = ''
let writer: Connection
let files: LiveFiles
let walIndex: WalIndexReader
const open: Connection[] = []

beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-guards-'))
  file = path.join(directory, 'database')
  prepareDatabaseFile(realDisk, file, { mayCreate: true })
  writer = connect()
  writer.exec('CREATE TABLE t(a)')
  files = LiveFiles.open(realDisk, file)
  walIndex = new WalIndexReader(files)
})
afterEach(() => {
  for (const connection of open.splice(0)) connection.close()
  files.close()
  fs.rmSync(directory, { recursive: true, force: true })
})

function connect(): Connection {
  const connection = openConnection(file, { synchronous: 'off' })
  open.push(connection)
  return connection
}

/** Another process that wants the WAL gone. */
const truncate = (): void => {
  execFileSync('sqlite3', [file, 'PRAGMA wal_checkpoint(TRUNCATE)'], { stdio: 'ignore' })
}

test('a guard keeps every frame that was there when it began, whatever another process checkpoints', () => {
  const guards = new WalGuards([connect(), connect()])
  guards.open()
  guards.open()
  const { salt1, mxFrame } = walIndex.header()
  for (let i = 0; i < 5; i++) {
    writer.exec('INSERT INTO t VALUES (zeroblob(9000))')
    truncate()
  }
  expect(walIndex.header().salt1).toBe(salt1)
  expect(walIndex.header().mxFrame).toBeGreaterThan(mxFrame + 10)
  guards.close()
  truncate()
  expect(walIndex.header().salt1).not.toBe(salt1)
})

test('the new guard begins before, the old one ends after the capture in between', () => {
  const [first, second] = [connect(), connect()]
  const guards = new WalGuards([first, second])
  guards.open()
  expect([first.inTransaction, second.inTransaction]).toEqual([true, false])
  const during: boolean[] = []
  expect(guards.rotate(() => during.push(first.inTransaction, second.inTransaction, guards.isRotating))).toBe(true)
  expect(during).toEqual([true, true, true])
  expect([first.inTransaction, second.inTransaction, guards.isRotating]).toEqual([false, true, false])
  guards.rotate(() => {})
  expect([first.inTransaction, second.inTransaction]).toEqual([true, false])
  guards.close()
})

test('when the capture in between fails the old guard stands and the new one is gone', () => {
  const [first, second] = [connect(), connect()]
  const guards = new WalGuards([first, second])
  guards.open()
  const fail = (): never => {
    throw new Error('log full')
  }
  expect(() => guards.rotate(fail)).toThrow('log full')
  expect([first.inTransaction, second.inTransaction, guards.isRotating]).toEqual([true, false, false])
  expect(guards.rotate(() => {})).toBe(true)
  expect(() => guards.rotate(() => void guards.rotate(() => {}))).toThrow(/rotation inside/)
  guards.close()
})

test('a guard blocks no writer', () => {
  const guards = new WalGuards([connect(), connect()])
  guards.open()
  guards.rotate(() => writer.exec('INSERT INTO t VALUES (1)'))
  execFileSync('sqlite3', [file, 'INSERT INTO t VALUES (2)'])
  expect(writer.prepare('SELECT sum(a) FROM t').pluck().get()).toBe(3)
  guards.close()
})

test('a passive checkpoint goes as far as the oldest reader, and says so', () => {
  const checkpoint = new PassiveCheckpoint(connect())
  const reader = connect()
  reader.exec('BEGIN')
  reader.prepare('SELECT count(*) FROM t').get()
  const { mxFrame } = walIndex.header()
  writer.exec('INSERT INTO t VALUES (zeroblob(9000))')
  const partial = checkpoint.run()
  expect(partial).toMatchObject({ busy: false, checkpointedFrames: mxFrame })
  expect(isComplete(partial)).toBe(false)
  reader.exec('COMMIT')
  const complete = checkpoint.run()
  expect(complete.checkpointedFrames).toBe(walIndex.header().mxFrame)
  expect(isComplete(complete)).toBe(true)
  expect(walIndex.checkpointInfo().backfilledFrames).toBe(complete.logFrames)
})

test('a pin holds one snapshot: its end, its size, and what of it is in the main file', () => {
  const checkpoint = new PassiveCheckpoint(connect())
  const pin = new ReadPin(connect(), walIndex)
  writer.exec('INSERT INTO t VALUES (zeroblob(50000))')
  // Keeps the WAL from being restarted by the next insert.
  const guards = new WalGuards([connect(), connect()])
  guards.open()
  checkpoint.run()
  const backfilled = walIndex.header().mxFrame
  writer.exec('INSERT INTO t VALUES (zeroblob(50000))')
  const { mxFrame, pageCount, salt1, salt2 } = walIndex.header()
  expect(pin.pin()).toEqual({ mxFrame, pageCount, salt1, salt2, backfilledFrames: backfilled })
  guards.close()
  expect(pin.isHeld).toBe(true)
  expect(() => pin.pin()).toThrow(/held already/)
  // Neither later commits nor checkpoints of others move what is pinned.
  writer.exec('INSERT INTO t VALUES (zeroblob(50000))')
  truncate()
  expect(walIndex.header()).toMatchObject({ salt1, salt2 })
  expect(walIndex.checkpointInfo().backfilledFrames).toBe(mxFrame)
  pin.release()
  pin.release()
  expect(pin.isHeld).toBe(false)
  truncate()
  expect(walIndex.header().salt1).not.toBe(salt1)
})

test('a commit of another process while the pin begins makes it begin again; too many are DATABASE_BUSY', () => {
  let commitsLeft = 1
  const disk: Disk = {
    ...realDisk,
    read(operation, fd, target, offset, length, position) {
      const count = realDisk.read(operation, fd, target, offset, length, position)
      // The header is out of date as soon as it was read.
      if (commitsLeft-- > 0) writer.exec('INSERT INTO t VALUES (1)')
      return count
    },
  }
  const ownFiles = LiveFiles.open(disk, file)
  const pin = new ReadPin(connect(), new WalIndexReader(ownFiles))
  expect(pin.pin()).toMatchObject({ mxFrame: walIndex.header().mxFrame })
  pin.release()
  commitsLeft = Number.POSITIVE_INFINITY
  expect(() => pin.pin()).toThrow(expect.objectContaining({ code: 'DATABASE_BUSY' }))
  expect(pin.isHeld).toBe(false)
  for (const connection of open.splice(0)) connection.close()
  ownFiles.close()
})

test('a pin on a WAL that is copied completely is a pin on the main file', () => {
  const pin = new ReadPin(connect(), walIndex)
  new PassiveCheckpoint(connect()).run()
  const snapshot = pin.pin()
  expect(snapshot.backfilledFrames).toBe(snapshot.mxFrame)
  writer.exec('INSERT INTO t VALUES (zeroblob(9000))')
  // The WAL was restarted, but nothing of it reaches the main file.
  expect(walIndex.header().salt1).not.toBe(snapshot.salt1)
  expect(new PassiveCheckpoint(connect()).run().checkpointedFrames).toBeLessThanOrEqual(0)
  pin.release()
})

test('a header whose writer was stopped between the two copies is read from the copy that is whole', () => {
  const before = walIndex.header()
  const bytes = Buffer.alloc(48)
  fs.readSync(files.shmFd, bytes, 0, 48, 48)
  const torn = Buffer.from(bytes)
  torn.writeUInt32LE(before.mxFrame + 1, 16)
  fs.writeSync(files.shmFd, torn, 0, 48, 48)
  expect(new WalIndexReader(files).header()).toEqual(before)
  fs.writeSync(files.shmFd, bytes, 0, 48, 48)
  fs.writeSync(files.shmFd, torn, 0, 48, 0)
  expect(new WalIndexReader(files).header()).toEqual(before)
  fs.writeSync(files.shmFd, torn, 0, 48, 48)
  expect(() => new WalIndexReader(files).header()).toThrow(expect.objectContaining({ code: 'CORRUPT_DATA' }))
  for (const at of [48, 0]) fs.writeSync(files.shmFd, bytes, 0, 48, at)
})
