import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { realDisk } from '../files/disk.ts'
import { lockPage } from '../sqlite-format/lock-page.ts'
import { WAL_HEADER_BYTES } from '../sqlite-format/wal-header.ts'
import { packPageMap, type PinnedPages, readBlocks, slicePageMap } from './page-source.ts'
import { frameOf } from './test-support/live-database.ts'

let directory = ''
const descriptors: number[] = []
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-pages-'))
})
afterEach(() => {
  for (const fd of descriptors.splice(0)) fs.closeSync(fd)
  fs.rmSync(directory, { recursive: true, force: true })
})

const corrupt = expect.objectContaining({ code: 'CORRUPT_DATA' })

function open(name: string, content: Buffer): number {
  const file = path.join(directory, name)
  fs.writeFileSync(file, content)
  const fd = fs.openSync(file, 'r+')
  descriptors.push(fd)
  return fd
}

const page = (pageSize: number, text: string): Buffer => Buffer.alloc(pageSize, text)

/** Frames 1, 2, … of the pages given, and the database file. */
function pinned(
  pageSize: number,
  pageCount: number,
  main: Buffer,
  frames: readonly [pgno: number, text: string][],
): PinnedPages {
  const wal = Buffer.concat([
    Buffer.alloc(WAL_HEADER_BYTES),
    ...frames.map(([, text]) => frameOf(page(pageSize, text))),
  ])
  const map = new Map(frames.map(([pgno], i) => [pgno, i + 1]))
  return { databaseFd: open('main', main), walFd: open('wal', wal), pageSize, pageCount, wal: packPageMap(map) }
}

function readAll(pages: PinnedPages, first = 1, last = pages.pageCount): Buffer {
  return Buffer.concat(Array.from(readBlocks(realDisk, pages, first, last), (block) => Buffer.from(block.bytes)))
}

test('a map is sorted by page, whatever its order was', () => {
  const map = packPageMap(
    new Map([
      [9, 1],
      [2, 5],
      [300_000, 3],
      [4, 2],
    ]),
  )
  expect([...map.pgnos]).toEqual([2, 4, 9, 300_000])
  expect([...map.frames]).toEqual([5, 2, 1, 3])
  expect([...slicePageMap(map, 3, 9).pgnos]).toEqual([4, 9])
  expect([...slicePageMap(map, 3, 9).frames]).toEqual([2, 1])
  expect([...slicePageMap(map, 10, 299_999).pgnos]).toEqual([])
})

test.for([512, 4096, 65536])(
  'page size %i: each page comes from the WAL where the map has it, else from the file',
  (pageSize) => {
    const count = Math.floor((2.5 * 1024 * 1024) / pageSize)
    const expected = Array.from({ length: count }, (_, i) => page(pageSize, `main ${i + 1}`))
    const main = Buffer.concat(expected)
    const changed = [1, 2, Math.floor(count / 2), Math.ceil((1024 * 1024) / pageSize), count]
    const frames = [...new Set(changed)].map((pgno): [number, string] => [pgno, `frame of ${pgno}`]).reverse()
    for (const [pgno, text] of frames) expected[pgno - 1] = page(pageSize, text)
    const pages = pinned(pageSize, count, main, frames)
    expect(readAll(pages).equals(Buffer.concat(expected))).toBe(true)
    expect(readAll(pages, 2, count - 1).equals(Buffer.concat(expected.slice(1, -1)))).toBe(true)
  },
)

test('pages beyond the end of the file come from the WAL, and a whole block of them', () => {
  const frames = Array.from({ length: 2100 }, (_, i): [number, string] => [i + 3, `frame ${i}`])
  const pages = pinned(512, 2102, Buffer.concat([page(512, 'a'), page(512, 'b')]), frames)
  const all = readAll(pages)
  expect(all.subarray(512, 1024)).toEqual(page(512, 'b'))
  expect(all.subarray(2101 * 512)).toEqual(page(512, 'frame 2099'))
})

test('a page that neither has, or a frame the WAL does not hold, is damage', () => {
  const main = Buffer.concat([page(512, 'a'), page(512, 'b'), Buffer.alloc(100)])
  const without = pinned(512, 4, main, [[4, 'd']])
  expect(() => readAll(without)).toThrow(corrupt)
  const whole = pinned(512, 4, main, [
    [4, 'd'],
    [3, 'c'],
  ])
  expect(readAll(whole).subarray(1024, 1536)).toEqual(page(512, 'c'))
  fs.ftruncateSync(whole.walFd, WAL_HEADER_BYTES + 24 + 512 + 24 + 511)
  expect(() => readAll(whole)).toThrow(corrupt)
})

test('the lock page reads as zeros, also at the end, and need not be anywhere', () => {
  const pageSize = 65536
  const lock = lockPage(pageSize)
  const pages = pinned(pageSize, lock + 1, Buffer.alloc(0), [[lock + 1, 'after']])
  fs.ftruncateSync(pages.databaseFd, lock * pageSize)
  fs.writeSync(pages.databaseFd, page(pageSize, 'before'), 0, pageSize, (lock - 2) * pageSize)
  fs.writeSync(pages.databaseFd, page(pageSize, 'not to be seen'), 0, pageSize, (lock - 1) * pageSize)
  const expected = [page(pageSize, 'before'), Buffer.alloc(pageSize), page(pageSize, 'after')]
  expect(readAll(pages, lock - 1, lock + 1).equals(Buffer.concat(expected))).toBe(true)
  fs.ftruncateSync(pages.databaseFd, (lock - 1) * pageSize)
  expect(readAll(pages, lock - 1, lock + 1).equals(Buffer.concat(expected))).toBe(true)
  expect(readAll(pages, lock - 1, lock).equals(Buffer.concat(expected.slice(0, 2)))).toBe(true)
})
