import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { CapturedDatabase } from './test-support/captured-database.ts'
import { isClusterError } from '../errors/cluster-error.ts'
import { type Connection, openConnection } from '../sqlite/connection.ts'
import { WalIndexReader } from '../sqlite/wal-index-reader.ts'
import { resolveCheckpointOptions } from './checkpoint-options.ts'

let directory = ''
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-checkpoint-'))
})
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }))

function openSmall(): CapturedDatabase {
  const database = CapturedDatabase.open(directory, { checkpoint: { thresholdFrames: 20, hardLimitFrames: 60 } })
  database.writer.exec('CREATE TABLE t(a)')
  database.take()
  return database
}

const grow = (database: CapturedDatabase, frames: number): void => {
  database.writer.exec(`INSERT INTO t VALUES (zeroblob(${frames * 4096}))`)
}

const backfilled = (database: CapturedDatabase): number =>
  new WalIndexReader(database.files).checkpointInfo().backfilledFrames

/** A reader that keeps its snapshot until it is closed. */
function readerOf(database: CapturedDatabase): Connection {
  const reader = openConnection(database.file, { readonly: true })
  database.files.track(reader)
  reader.exec('BEGIN')
  reader.prepare('SELECT count(*) FROM t').get()
  return reader
}

test('by default a checkpoint is due at 1000 frames or 4 MiB, whichever is larger', () => {
  expect(resolveCheckpointOptions({}, 4096)).toEqual({ thresholdFrames: 1019, hardLimitFrames: 8152, lockWaitMs: 20 })
  expect(resolveCheckpointOptions({}, 512).thresholdFrames).toBe(7826)
  expect(resolveCheckpointOptions({}, 65536).thresholdFrames).toBe(1000)
})

test.for([
  { thresholdFrames: 0 },
  { thresholdFrames: 10, hardLimitFrames: 9 },
  { lockWaitMs: -1 },
  { thresholdFrame: 5 },
])('checkpoint options %o are refused', (given) => {
  let error: unknown
  try {
    resolveCheckpointOptions(given, 4096)
  } catch (caught) {
    error = caught
  }
  expect(isClusterError(error, 'INVALID_OPTION')).toBe(true)
})

test('pressure follows the frames captured', () => {
  const database = openSmall()
  expect(database.checkpointer.pressure).toBe('none')
  grow(database, 30)
  database.take()
  expect(database.checkpointer.pressure).toBe('threshold')
  grow(database, 40)
  database.take()
  expect(database.checkpointer.pressure).toBe('hard-limit')
  database.close()
})

test('a complete turn copies everything, keeps the frames, and lets the next writer restart the WAL', () => {
  const database = openSmall()
  grow(database, 30)
  const outcome = database.checkpoint()
  expect(outcome).toMatchObject({ kind: 'complete', usedWriteLock: false })
  expect(outcome.backfilledFrames).toBe(outcome.walFrames)
  expect(database.capture.cursor.frame).toBe(outcome.walFrames)
  expect(database.checkpointer.pressure).toBe('none')
  database.writer.exec('INSERT INTO t VALUES (1)')
  database.take()
  expect(database.capture.cursor.frame).toBeLessThan(10)
  database.expectSame()
  database.close()
})

test('everything is captured, handed over and made durable before the guard lets the WAL restart', () => {
  const database = openSmall()
  grow(database, 30)
  const steps: string[] = []
  database.checkpointer.run({
    onCaptured: (records) => {
      steps.push(`captured ${records.length}`)
      database.accept(records)
    },
    beforeDiscard: () => {
      steps.push(`durable, ${database.capture.hasUncaptured() ? 'but behind' : 'and up to date'}`)
    },
  })
  expect(steps).toEqual(['captured 1', 'durable, and up to date', 'durable, and up to date'])
  database.close()
})

test.for(['onCaptured', 'beforeDiscard'] as const)('when %s fails, nothing may be discarded', (duty) => {
  const database = openSmall()
  grow(database, 30)
  const { salt1, salt2 } = database.capture.cursor
  const fail = (): never => {
    throw new Error('disk full')
  }
  const duties = { onCaptured: () => {}, beforeDiscard: () => {}, [duty]: fail }
  expect(() => database.checkpointer.run(duties)).toThrow('disk full')
  // Another process copies what it can; our guard still keeps the WAL from being restarted.
  database.writer.pragma('wal_checkpoint(RESTART)')
  database.writer.exec('INSERT INTO t VALUES (1)')
  expect(new WalIndexReader(database.files).header()).toMatchObject({ salt1, salt2 })
  database.close()
})

test('a reader with an old snapshot makes the turn partial, and no new one is tried before the WAL has grown', () => {
  const database = openSmall()
  const reader = readerOf(database)
  grow(database, 30)
  expect(database.checkpoint()).toMatchObject({ kind: 'partial' })
  expect(database.checkpointer.pressure).toBe('none')
  grow(database, 8)
  database.take()
  expect(database.checkpointer.pressure).toBe('threshold')
  reader.exec('COMMIT')
  reader.close()
  expect(database.checkpoint()).toMatchObject({ kind: 'complete' })
  database.expectSame()
  database.close()
})

test('above the hard limit the rest is copied under the write lock, which is given back', () => {
  const database = openSmall()
  grow(database, 70)
  database.take()
  const writer = openConnection(database.file)
  database.files.track(writer)
  let commits = 0
  // Another writer commits whenever it can: between every two steps of a turn without the lock.
  const outcome = database.checkpointer.run({
    onCaptured: (records) => database.accept(records),
    beforeDiscard: () => {
      try {
        writer.exec('INSERT INTO t VALUES (7)')
        commits++
      } catch (error) {
        expect(error).toMatchObject({ code: 'SQLITE_BUSY' })
      }
    },
  })
  expect(outcome).toMatchObject({ kind: 'complete', usedWriteLock: true })
  expect(commits).toBeGreaterThan(0)
  writer.exec('INSERT INTO t VALUES (8)')
  database.take()
  expect(database.capture.cursor.frame).toBeLessThan(10)
  database.expectSame()
  writer.close()
  database.close()
})

test('when the write lock cannot be had the turn ends as busy after a bounded time', () => {
  const database = openSmall()
  grow(database, 70)
  database.take()
  const reader = readerOf(database)
  grow(database, 1)
  database.writer.exec('BEGIN IMMEDIATE')
  expect(database.checkpoint()).toMatchObject({ kind: 'busy' })
  database.writer.exec('COMMIT')
  reader.close()
  database.close()
})

test('the copied frames are in the main file even before the WAL restarts', () => {
  const database = openSmall()
  grow(database, 30)
  database.checkpoint()
  expect(backfilled(database)).toBe(database.capture.cursor.frame)
  database.close()
})
