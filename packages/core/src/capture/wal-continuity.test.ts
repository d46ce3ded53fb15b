import { execFileSync, spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { CapturedDatabase } from './test-support/captured-database.ts'
import { systemClock } from '../base/clock.ts'
import { realDisk } from '../files/disk.ts'
import { LiveFiles } from '../files/live-files.ts'
import { decodeLtxRecord, type LtxRecord } from '../ltx/ltx-record.ts'
import { type Connection, openConnection } from '../sqlite/connection.ts'
import { WalGuards } from '../sqlite/wal-guards.ts'
import { frameOffset } from '../sqlite-format/wal-frame.ts'
import { WalCapture } from './wal-capture.ts'
import { openCursor, readUncapturedMerged, type WalContinuity } from './wal-continuity.ts'

let directory = ''
let crashed = ''
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-continuity-'))
  crashed = path.join(directory, 'crashed')
})
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }))

/** Runs a life of the database, and leaves in `crashed/` the files as a crash at its end would. The records survive. */
function lifeUntilCrash(live: (database: CapturedDatabase) => void): CapturedDatabase {
  const database = CapturedDatabase.open(directory)
  database.writer.exec('CREATE TABLE t(a)')
  live(database)
  fs.mkdirSync(crashed)
  // By another process: this one must not open and close the live files.
  execFileSync('cp', [database.file, `${database.file}-wal`, crashed])
  return database
}

interface Restarted {
  readonly writer: Connection
  readonly files: LiveFiles
  readonly guards: WalGuards
  close(): void
}

/** Starts on a copy, because the last connection to close checkpoints and deletes the WAL. */
function restart(): Restarted {
  const own = fs.mkdtempSync(path.join(directory, 'restarted-'))
  fs.cpSync(crashed, own, { recursive: true })
  const file = path.join(own, 'database')
  const connections = [openConnection(file), openConnection(file), openConnection(file)] as const
  const files = LiveFiles.open(realDisk, file)
  const guards = new WalGuards([connections[1], connections[2]])
  guards.open()
  return {
    writer: connections[0],
    files,
    guards,
    close() {
      for (const connection of connections) connection.close()
      files.close()
    },
  }
}

/** What the restarted node finds for the last record, under the write lock. */
function lookFor(record: LtxRecord | undefined): WalContinuity {
  const node = restart()
  node.writer.exec('BEGIN IMMEDIATE')
  const found = openCursor(node.files, record, 4096)
  node.writer.exec('COMMIT')
  node.close()
  return found
}

test('the WAL holds the last record: capture goes on behind it, with everything that was not captured as one record', () => {
  const database = lifeUntilCrash((life) => {
    life.take()
    life.writer.exec('INSERT INTO t VALUES (zeroblob(30000))')
    life.take()
    life.writer.exec('UPDATE t SET a = 1')
    life.writer.exec('INSERT INTO t VALUES (zeroblob(50000))')
  })
  const node = restart()
  node.writer.exec('BEGIN IMMEDIATE')
  const last = database.records.at(-1)
  const found = openCursor(node.files, last, 4096)
  if (found.kind !== 'continues') throw new Error(found.reason)
  expect(found.cursor).toEqual(database.capture.cursor)
  expect(found.uncapturedFrames).toBeGreaterThan(2)
  const merged = readUncapturedMerged(node.files, found.cursor, 4096)
  expect(merged?.firstFrame).toBe(found.cursor.frame + 1)
  expect((merged?.lastFrame ?? 0) - found.cursor.frame).toBe(found.uncapturedFrames)
  const capture = new WalCapture({
    files: node.files,
    guards: node.guards,
    checksums: database.capture.checksums.clone(),
    position: database.capture.position,
    pageSize: 4096,
    nodeId: 0x1122334455667788n,
    clock: systemClock,
    cursor: found.cursor,
  })
  const record = capture.captureMerged()
  expect([...(record?.pgnos() ?? [])]).toEqual([...(merged?.pgnos ?? [])])
  database.replica.apply(record ?? expect.unreachable())
  node.writer.exec('COMMIT')
  expect(database.replica.difference(node.writer.serialize())).toBeUndefined()
  // The merged record is found again at the next start.
  expect(openCursor(node.files, record, 4096)).toMatchObject({ kind: 'continues', uncapturedFrames: 0 })
  node.close()
  database.close()
})

test('TXID 1, which holds more pages than its frames, is found', () => {
  const database = lifeUntilCrash((life) => void life.take())
  expect(database.records).toHaveLength(1)
  expect(lookFor(database.records[0])).toMatchObject({ kind: 'continues', uncapturedFrames: 0 })
  database.close()
})

test('a spilled transaction that was rolled back or cut off by the crash does not count', () => {
  const database = lifeUntilCrash((life) => {
    life.take()
    life.writer.pragma('cache_size = 5')
    life.writer.exec('BEGIN; INSERT INTO t VALUES (zeroblob(300000))')
  })
  expect(lookFor(database.records.at(-1))).toMatchObject({ kind: 'continues', uncapturedFrames: 0 })
  database.writer.exec('ROLLBACK')
  database.close()
})

test('an empty log proves nothing', () => {
  const database = lifeUntilCrash(() => {})
  expect(lookFor(undefined)).toEqual({ kind: 'broken', reason: 'no-record' })
  database.close()
})

test('a record that names no place in a WAL proves nothing', () => {
  const database = lifeUntilCrash((life) => void life.take())
  const record = changed(database.records[0], { walOffset: 0, walBytes: 0, walSalt1: 0, walSalt2: 0 })
  expect(lookFor(record)).toEqual({ kind: 'broken', reason: 'not-from-this-wal' })
  database.close()
})

test('a WAL that was restarted since proves nothing', () => {
  const database = lifeUntilCrash((life) => {
    life.take()
    life.checkpoint()
    life.writer.exec('INSERT INTO t VALUES (1)')
  })
  expect(lookFor(database.records.at(-1))).toEqual({ kind: 'broken', reason: 'other-generation' })
  database.close()
})

test('a WAL that another process checkpointed and deleted proves nothing', () => {
  const database = lifeUntilCrash((life) => void life.take())
  // The last connection to close does both.
  spawnSync('sqlite3', [path.join(crashed, 'database'), 'SELECT count(*) FROM t'])
  expect(fs.existsSync(path.join(crashed, 'database-wal'))).toBe(false)
  expect(lookFor(database.records.at(-1))).toEqual({ kind: 'broken', reason: 'other-generation' })
  database.close()
})

test('a WAL that lost its end proves nothing', () => {
  const database = lifeUntilCrash((life) => {
    life.take()
    life.writer.exec('INSERT INTO t VALUES (zeroblob(9000))')
    life.take()
  })
  fs.truncateSync(path.join(crashed, 'database-wal'), database.records.at(-1)?.header.walOffset)
  expect(lookFor(database.records.at(-1))).toEqual({ kind: 'broken', reason: 'too-short' })
  database.close()
})

test('a damaged frame inside the record ends the WAL before it', () => {
  const database = lifeUntilCrash((life) => {
    life.take()
    life.writer.exec('INSERT INTO t VALUES (zeroblob(9000))')
    life.take()
  })
  const wal = path.join(crashed, 'database-wal')
  const fd = fs.openSync(wal, 'r+')
  fs.writeSync(fd, 'x', (database.records.at(-1)?.header.walOffset ?? 0) + 500)
  fs.closeSync(fd)
  expect(lookFor(database.records.at(-1))).toEqual({ kind: 'broken', reason: 'too-short' })
  database.close()
})

test.for([
  'another content',
  'a page less than the record',
  'no commit at the end',
  'frames of the commit before',
  'another size',
])('frames at the same place with %s are not the record', (what) => {
  const database = lifeUntilCrash((life) => {
    life.take()
    life.writer.exec('CREATE TABLE u(a); INSERT INTO u VALUES (zeroblob(9000))')
    life.take()
    life.writer.exec('CREATE TABLE v(a)')
    life.take()
  })
  const [, , grown, last] = database.records
  if (grown === undefined || last === undefined) throw new Error('two more records were expected')
  const { walOffset, walBytes, walSalt1, walSalt2 } = grown.header
  expect(walOffset).toBeGreaterThan(frameOffset(2, 4096))
  const elsewhere = {
    // As if another commit had taken the record's place.
    'another content': () => tampered(grown),
    'a page less than the record': () => changed(grown, {}, grown.pageCount + 1),
    'no commit at the end': () => changed(grown, { walBytes: walBytes - 4120 }),
    'frames of the commit before': () => changed(last, { walOffset: walOffset - 4120, walBytes: walBytes + 4120 }),
    'another size': () => changed(grown, { commit: grown.commit + 1 }),
  }[what]
  const record = elsewhere?.()
  expect(record?.header).toMatchObject({ walSalt1, walSalt2 })
  expect(lookFor(record)).toEqual({ kind: 'broken', reason: 'other-frames' })
  // The record itself is found: it is the change that breaks the proof.
  expect(lookFor(grown)).toMatchObject({ kind: 'continues' })
  database.close()
})

/** A record that says something else about itself. Its bytes and checksums stay. */
function changed(record: LtxRecord | undefined, header: Partial<LtxRecord['header']>, pageCount?: number): LtxRecord {
  if (record === undefined) throw new Error('no record')
  const own = { ...record.header, ...header }
  return Object.create(record, {
    header: { value: own },
    commit: { value: own.commit },
    pageCount: { value: pageCount ?? record.pageCount },
  }) as LtxRecord
}

function tampered(record: LtxRecord): LtxRecord {
  const copy = decodeLtxRecord(Buffer.from(record.bytes))
  const page = copy.page(copy.pageCount - 1)
  page[100] = (page[100] ?? 0) ^ 1
  return copy
}
