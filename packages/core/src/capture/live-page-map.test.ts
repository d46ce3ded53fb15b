import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { CapturedDatabase } from './test-support/captured-database.ts'
import { FRAME_HEADER_BYTES, frameOffset } from '../sqlite-format/wal-frame.ts'
import { livePageMap } from './live-page-map.ts'

let directory = ''
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-map-'))
})
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }))

/** The page numbers of the frames, read from the `-wal` itself. */
function pgnosInWal(database: CapturedDatabase, mxFrame: number): number[] {
  const wal = fs.readFileSync(database.files.walPath)
  return Array.from({ length: mxFrame }, (_, i) => wal.readUInt32BE(frameOffset(i + 1, database.pageSize)))
}

test('over several blocks of the wal-index, each page is found at its newest frame in the range', () => {
  const database = CapturedDatabase.open(directory, { pageSize: 512, autoVacuum: 0 })
  const { writer } = database
  writer.exec('CREATE TABLE t(id INTEGER PRIMARY KEY, a)')
  for (let i = 0; i < 12; i++) writer.exec('INSERT INTO t(a) VALUES (zeroblob(400000))')
  writer.exec('UPDATE t SET a = zeroblob(1000) WHERE id % 2')
  database.take()
  const { frame } = database.capture.cursor
  expect(frame).toBeGreaterThan(4062 + 4096)
  const pgnos = pgnosInWal(database, frame)
  for (const [from, to] of [
    [0, frame],
    [0, 4062],
    [4062, 4063],
    [4000, 4062 + 4096 + 1],
    [frame, frame],
    [frame - 1, frame],
  ] as const) {
    const expected = new Map<number, number>()
    for (let i = from; i < to; i++) expected.set(pgnos[i] ?? 0, i + 1)
    expect(livePageMap(database.files, to, from)).toEqual(expected)
  }
  database.close()
})

test('frames of the map and the rest of the main file together are the pinned database', () => {
  const database = CapturedDatabase.open(directory)
  const { writer, files, pageSize } = database
  writer.exec('CREATE TABLE t(a); INSERT INTO t VALUES (zeroblob(100000))')
  database.checkpoint()
  writer.exec('UPDATE t SET a = 5; INSERT INTO t VALUES (zeroblob(20000))')
  writer.exec('INSERT INTO t VALUES (zeroblob(90000))')
  database.take()
  const image = writer.serialize()
  const map = livePageMap(files, database.capture.cursor.frame, 0)
  const page = Buffer.alloc(pageSize)
  for (let pgno = 1; pgno <= image.length / pageSize; pgno++) {
    const frame = map.get(pgno)
    if (frame === undefined) fs.readSync(files.databaseFd, page, 0, pageSize, (pgno - 1) * pageSize)
    else fs.readSync(files.walFd, page, 0, pageSize, frameOffset(frame, pageSize) + FRAME_HEADER_BYTES)
    expect(page.equals(image.subarray((pgno - 1) * pageSize, pgno * pageSize)), `page ${pgno}`).toBe(true)
  }
  expect(map.size).toBeGreaterThan(3)
  database.close()
})
