/** Hand-made WAL files: what SQLite itself would never write, and what a damaged file may hold. */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { realDisk } from '../files/disk.ts'
import type { LiveFiles } from '../files/live-files.ts'
import { lockPage } from '../sqlite-format/lock-page.ts'
import { FRAME_HEADER_BYTES, FrameWriter } from '../sqlite-format/wal-frame.ts'
import { encodeWalHeader, WAL_HEADER_BYTES } from '../sqlite-format/wal-header.ts'
import { type WalEnd, WalScanner } from './wal-scanner.ts'

const PAGE_SIZE = 512
const FRAME_BYTES = FRAME_HEADER_BYTES + PAGE_SIZE
const GENERATION = { salt1: 0xfffffffe, salt2: 7 }
const START = { ...GENERATION, frame: 0, checksum1: 0, checksum2: 0 }

let directory = ''
let walFd = -1
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-scanner-'))
})
afterEach(() => {
  fs.closeSync(walFd)
  fs.rmSync(directory, { recursive: true, force: true })
})

interface Frame {
  readonly pgno: number
  readonly commit?: number
}

/** Writes a WAL whose frame n holds nothing but the byte n; answers its end as the wal-index would. */
function writeWal(frames: readonly Frame[]): WalEnd & { frameChecksum1: number; frameChecksum2: number } {
  const header = encodeWalHeader({ pageSize: PAGE_SIZE, checkpointSequence: 0, ...GENERATION })
  const memory = new ArrayBuffer(frames.length * FRAME_BYTES)
  const bytes = Buffer.from(memory)
  const writer = new FrameWriter(PAGE_SIZE, GENERATION.salt1, GENERATION.salt2)
  writer.resume(header.checksum1, header.checksum2)
  for (const [i, { pgno, commit = 0 }] of frames.entries()) {
    const page = Buffer.alloc(PAGE_SIZE, i + 1)
    writer.write(bytes, new Uint32Array(memory), i * FRAME_BYTES, pgno, commit, page, 0)
  }
  walFd = fs.openSync(path.join(directory, 'database-wal'), 'w+')
  fs.writeSync(walFd, header.bytes, 0, WAL_HEADER_BYTES, 0)
  fs.writeSync(walFd, bytes, 0, bytes.length, WAL_HEADER_BYTES)
  const { checksum1, checksum2 } = writer
  return { mxFrame: frames.length, bigEndianChecksum: false, frameChecksum1: checksum1, frameChecksum2: checksum2 }
}

/** The scanner reads nothing but the `-wal`. */
const filesOf = (): LiveFiles => ({ disk: realDisk, walFd, walPath: 'database-wal' }) as unknown as LiveFiles

function scan(end: WalEnd, options: { merge?: boolean; windowFrames?: number } = {}) {
  const scanner = new WalScanner(filesOf(), PAGE_SIZE, { windowBytesMax: (options.windowFrames ?? 100) * FRAME_BYTES })
  scanner.begin(START, end)
  const found: { frames: [number, number]; commit: number; pages: string }[] = []
  for (let next = scanner.next(options.merge); next !== undefined; next = scanner.next(options.merge)) {
    const pages: string[] = []
    scanner.visitPages(next, (pgno, source, offset) => pages.push(`${pgno}:${source[offset + PAGE_SIZE - 1]}`))
    found.push({ frames: [next.firstFrame, next.lastFrame], commit: next.commit, pages: pages.join(' ') })
  }
  scanner.end()
  return found
}

const corrupt = expect.objectContaining({ code: 'CORRUPT_DATA' })

test.for([1, 2, 3, 4, 7, 100])('with windows of %i frames transactions are cut the same', (windowFrames) => {
  const end = writeWal([
    { pgno: 5 },
    { pgno: 1 },
    { pgno: 5 },
    { pgno: 2, commit: 5 },
    { pgno: 1, commit: 5 },
    { pgno: 7 },
    { pgno: 6 },
    { pgno: 1, commit: 7 },
  ])
  // Each page once (page:frame), with its newest frame, in ascending order.
  expect(scan(end, { windowFrames })).toEqual([
    { frames: [1, 4], commit: 5, pages: '1:2 2:4 5:3' },
    { frames: [5, 5], commit: 5, pages: '1:5' },
    { frames: [6, 8], commit: 7, pages: '1:8 6:7 7:6' },
  ])
  const pages = '1:8 2:4 5:3 6:7 7:6'
  expect(scan(end, { windowFrames, merge: true })).toEqual([{ frames: [1, 8], commit: 7, pages }])
})

test('the lock page and pages beyond the size of the database are left out', () => {
  const lock = lockPage(PAGE_SIZE)
  const end = writeWal([{ pgno: lock }, { pgno: lock + 5 }, { pgno: lock + 1 }, { pgno: 1, commit: lock + 1 }])
  expect(scan(end)[0]?.pages).toBe(`1:4 ${lock + 1}:3`)
})

test('frames behind the end are not looked at', () => {
  const end = writeWal([{ pgno: 1, commit: 1 }, { pgno: 2 }, { pgno: 1, commit: 2 }])
  expect(scan({ mxFrame: 1, bigEndianChecksum: false })).toHaveLength(1)
  expect(scan(end)).toHaveLength(2)
})

test('an end that is no commit is CORRUPT_DATA', () => {
  writeWal([{ pgno: 1, commit: 1 }, { pgno: 2 }, { pgno: 3 }])
  expect(() => scan({ mxFrame: 2, bigEndianChecksum: false })).toThrow(corrupt)
})

test('an end with another checksum than the wal-index names is CORRUPT_DATA', () => {
  const end = writeWal([{ pgno: 1, commit: 1 }])
  expect(() => scan({ ...end, frameChecksum2: end.frameChecksum2 ^ 1 })).toThrow(corrupt)
  expect(() => scan({ ...end, frameChecksum1: end.frameChecksum1 ^ 1 })).toThrow(corrupt)
})

test('a WAL that is shorter than its index says is CORRUPT_DATA', () => {
  const end = writeWal([{ pgno: 1, commit: 1 }])
  expect(() => scan({ ...end, mxFrame: 2 })).toThrow(corrupt)
})

test.for(['bigEndianChecksum', 'salt1', 'pageSize', 'the bytes'])(
  'a WAL header that does not agree in %s is CORRUPT_DATA',
  (what) => {
    const end = writeWal([{ pgno: 1, commit: 1 }])
    if (what === 'the bytes') fs.writeSync(walFd, 'x', 20)
    const scanner = new WalScanner(filesOf(), what === 'pageSize' ? 1024 : PAGE_SIZE)
    const start = what === 'salt1' ? { ...START, salt1: 1 } : START
    expect(() => scanner.begin(start, { ...end, bigEndianChecksum: what === 'bigEndianChecksum' })).toThrow(corrupt)
  },
)

test('a page that changed between the two passes over a large transaction is CORRUPT_DATA', () => {
  const end = writeWal([{ pgno: 3 }, { pgno: 2 }, { pgno: 4 }, { pgno: 1, commit: 4 }])
  const scanner = new WalScanner(filesOf(), PAGE_SIZE, { windowBytesMax: FRAME_BYTES })
  scanner.begin(START, end)
  const transaction = scanner.next() ?? expect.unreachable()
  // The page number of frame 2.
  fs.writeSync(walFd, Buffer.of(0, 0, 0, 9), 0, 4, WAL_HEADER_BYTES + FRAME_BYTES)
  expect(() => scanner.visitPages(transaction, () => {})).toThrow(corrupt)
})
