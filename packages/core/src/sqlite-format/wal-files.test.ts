/**
 * Reads and re-makes the files of a real SQLite. The `-shm` file is copied by a child process: closing a descriptor of it
 * in this process would drop SQLite's locks.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { FRAME_HEADER_BYTES, FrameReader, FrameWriter, frameOffset } from './wal-frame.ts'
import { encodeWalHeader, parseWalHeader, WAL_HEADER_BYTES } from './wal-header.ts'
import {
  assertLittleEndianHost,
  blockOfFrame,
  encodeWalIndexHeader,
  firstFrameOfBlock,
  parseWalCheckpointInfo,
  parseWalIndexHeader,
  READ_MARK_UNUSED,
  WAL_INDEX_BLOCK_BYTES,
  WalIndexBlock,
} from './wal-index.ts'

const PAGE_SIZES = [512, 4096, 65536]

let directory: string
let path: string
let db: Database.Database | undefined

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'wal-files-'))
  path = join(directory, 'app.db')
})

afterEach(() => {
  db?.close()
  db = undefined
  rmSync(directory, { recursive: true, force: true })
})

function openDatabase(pageSize: number): void {
  db = new Database(path)
  db.pragma(`page_size=${pageSize}`)
  db.pragma('journal_mode=wal')
  db.pragma('wal_autocheckpoint=0')
  db.exec('CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)')
}

/** Commits `transactions` transactions of `rows` rows each. */
function write(transactions: number, rows: number, bodyBytes: number): void {
  if (db === undefined) throw new Error('open a database first')
  const insert = db.prepare('INSERT INTO t(body) VALUES (randomblob(?))')
  const transaction = db.transaction(() => {
    for (let i = 0; i < rows; i++) insert.run(bodyBytes)
  })
  for (let i = 0; i < transactions; i++) transaction()
}

/** In memory of its own at a multiple of 4, as frames want it. */
function aligned(bytes: Buffer): { bytes: Buffer; words: Uint32Array } {
  const memory = new ArrayBuffer(Math.ceil(bytes.length / 4) * 4)
  const copy = Buffer.from(memory)
  bytes.copy(copy)
  return { bytes: copy, words: new Uint32Array(memory) }
}

function readWal(): { bytes: Buffer; words: Uint32Array } {
  return aligned(readFileSync(`${path}-wal`))
}

function readShm(): Buffer {
  return execFileSync('cat', [`${path}-shm`], { maxBuffer: 64 * 1024 * 1024 })
}

interface Frame {
  readonly pgno: number
  readonly commit: number
  readonly pageOffset: number
}

/** All valid frames of the WAL, and the reader as it stands behind them. */
function framesOf(wal: { bytes: Buffer; words: Uint32Array }): { frames: Frame[]; reader: FrameReader } {
  const header = parseWalHeader(wal.bytes)!
  const reader = new FrameReader(header.pageSize, header.bigEndianChecksum)
  reader.resume(header.checksum1, header.checksum2)
  const frames: Frame[] = []
  const count = (wal.bytes.length - WAL_HEADER_BYTES) / (FRAME_HEADER_BYTES + header.pageSize)
  for (let frame = 1; frame <= count; frame++) {
    const offset = frameOffset(frame, header.pageSize)
    if (!reader.read(wal.bytes, wal.words, offset, header.salt1, header.salt2)) break
    frames.push({ pgno: reader.pgno, commit: reader.commit, pageOffset: offset + FRAME_HEADER_BYTES })
  }
  return { frames, reader }
}

describe.each(PAGE_SIZES)('files of SQLite with pages of %i bytes', (pageSize) => {
  it('every frame of a WAL is accepted, and the wal-index names the last one', () => {
    openDatabase(pageSize)
    write(5, 3, 700)
    const wal = readWal()
    const header = parseWalHeader(wal.bytes)!
    expect(header.pageSize).toBe(pageSize)
    const { frames, reader } = framesOf(wal)
    const index = parseWalIndexHeader(readShm())!
    expect(frames.length).toBe(index.mxFrame)
    expect(frames.filter(({ commit }) => commit > 0).length).toBe(6)
    expect(frames.at(-1)?.commit).toBe(index.pageCount)
    expect([reader.checksum1, reader.checksum2]).toEqual([index.frameChecksum1, index.frameChecksum2])
    expect([index.salt1, index.salt2]).toEqual([header.salt1, header.salt2])
    expect(index.pageSize).toBe(pageSize)
    expect(index.bigEndianChecksum).toBe(header.bigEndianChecksum)
  })

  it('writing the same frames gives the same WAL, byte for byte', () => {
    openDatabase(pageSize)
    write(4, 2, 900)
    const wal = readWal()
    const header = parseWalHeader(wal.bytes)!
    const { frames } = framesOf(wal)
    const made = aligned(Buffer.alloc(wal.bytes.length))
    const start = encodeWalHeader(header)
    start.bytes.copy(made.bytes)
    const writer = new FrameWriter(pageSize, header.salt1, header.salt2)
    writer.resume(start.checksum1, start.checksum2)
    frames.forEach(({ pgno, commit, pageOffset }, i) => {
      writer.write(made.bytes, made.words, frameOffset(i + 1, pageSize), pgno, commit, wal.bytes, pageOffset)
    })
    expect(made.bytes.equals(wal.bytes)).toBe(true)
  })

  it('a damaged frame is refused, and the state stays that of the frame before', () => {
    openDatabase(pageSize)
    write(1, 1, 10)
    const wal = readWal()
    const { frames } = framesOf(wal)
    for (const at of [0, 5, 9, 17, FRAME_HEADER_BYTES, FRAME_HEADER_BYTES + pageSize - 1]) {
      const damaged = aligned(wal.bytes)
      const offset = frameOffset(frames.length, pageSize) + at
      damaged.bytes[offset] = damaged.bytes[offset]! ^ 1
      const rest = framesOf(damaged)
      expect(rest.frames.length).toBe(frames.length - 1)
      const offsetOfLast = frameOffset(frames.length, pageSize)
      const header = parseWalHeader(wal.bytes)!
      expect(rest.reader.read(wal.bytes, wal.words, offsetOfLast, header.salt1, header.salt2)).toBe(true)
    }
  })

  it('frames of another generation are refused by their salts', () => {
    openDatabase(pageSize)
    write(1, 1, 10)
    const wal = readWal()
    const header = parseWalHeader(wal.bytes)!
    const reader = new FrameReader(pageSize, header.bigEndianChecksum)
    reader.resume(header.checksum1, header.checksum2)
    expect(reader.read(wal.bytes, wal.words, WAL_HEADER_BYTES, header.salt1 + 1, header.salt2)).toBe(false)
    expect(reader.read(wal.bytes, wal.words, WAL_HEADER_BYTES, header.salt1, header.salt2 ^ 1)).toBe(false)
    expect(reader.read(wal.bytes, wal.words, WAL_HEADER_BYTES, header.salt1, header.salt2)).toBe(true)
  })

  it('the header of the wal-index is encoded as SQLite did', () => {
    openDatabase(pageSize)
    write(2, 1, 100)
    const shm = readShm()
    const header = parseWalIndexHeader(shm)!
    expect(encodeWalIndexHeader(header).equals(shm.subarray(0, 48))).toBe(true)
  })
})

describe('WAL headers', () => {
  it('checksums over big-endian words are understood and made', () => {
    const salts = [0x01020304, 0xfffefdfc] as const
    const bytes = encodeWalHeader({ pageSize: 1024, checkpointSequence: 7, salt1: salts[0], salt2: salts[1] }).bytes
    bytes.writeUInt32BE(0x377f0683, 0)
    // The sums over big-endian words, worked out here on their own.
    let s0 = 0
    let s1 = 0
    for (let at = 0; at < 24; at += 8) {
      s0 = (s0 + bytes.readUInt32BE(at) + s1) >>> 0
      s1 = (s1 + bytes.readUInt32BE(at + 4) + s0) >>> 0
    }
    expect(parseWalHeader(bytes)).toBeUndefined()
    bytes.writeUInt32BE(s0, 24)
    bytes.writeUInt32BE(s1, 28)
    expect(parseWalHeader(bytes)).toEqual({
      pageSize: 1024,
      checkpointSequence: 7,
      salt1: salts[0],
      salt2: salts[1],
      bigEndianChecksum: true,
      checksum1: s0,
      checksum2: s1,
    })
    const target = aligned(Buffer.alloc(FRAME_HEADER_BYTES + 1024))
    const writer = new FrameWriter(1024, ...salts, true)
    writer.resume(s0, s1)
    writer.write(target.bytes, target.words, 0, 3, 0, Buffer.alloc(1024, 'page'), 0)
    const reader = new FrameReader(1024, true)
    reader.resume(s0, s1)
    expect(reader.read(target.bytes, target.words, 0, ...salts)).toBe(true)
    expect(reader.pgno).toBe(3)
    const other = new FrameReader(1024, false)
    other.resume(s0, s1)
    expect(other.read(target.bytes, target.words, 0, ...salts)).toBe(false)
  })

  it('a frame without a page number is refused, whatever its checksum', () => {
    const target = aligned(Buffer.alloc(FRAME_HEADER_BYTES + 512))
    new FrameWriter(512, 1, 2).write(target.bytes, target.words, 0, 0, 0, Buffer.alloc(512), 0)
    expect(new FrameReader(512, false).read(target.bytes, target.words, 0, 1, 2)).toBe(false)
    new FrameWriter(512, 1, 2).write(target.bytes, target.words, 0, 1, 0, Buffer.alloc(512), 0)
    expect(new FrameReader(512, false).read(target.bytes, target.words, 0, 1, 2)).toBe(true)
  })

  it('buffer and words that show different memory are a broken assumption', () => {
    const target = aligned(Buffer.alloc(2 * (FRAME_HEADER_BYTES + 512)))
    const writer = new FrameWriter(512, 1, 2)
    const page = Buffer.alloc(512)
    expect(() => writer.write(target.bytes, target.words, 2, 1, 0, page, 0)).toThrow('multiple of 4')
    expect(() => writer.write(target.bytes, target.words.slice(), 0, 1, 0, page, 0)).toThrow('same memory')
    expect(() => writer.write(target.bytes, target.words, 540, 1, 0, page, 0)).toThrow('too short')
    expect(() => writer.write(target.bytes, target.words, 0, 1, 0, page, 4)).toThrow('source too short')
  })

  it('no header is found in bytes that are too few or damaged anywhere', () => {
    openDatabase(4096)
    const wal = readWal().bytes.subarray(0, WAL_HEADER_BYTES)
    expect(parseWalHeader(wal)).toBeDefined()
    expect(parseWalHeader(wal.subarray(0, 31))).toBeUndefined()
    for (let i = 0; i < WAL_HEADER_BYTES; i++) {
      const damaged = Buffer.from(wal)
      damaged[i] = damaged[i]! ^ 0x80
      expect(parseWalHeader(damaged)).toBeUndefined()
    }
  })
})

describe('the wal-index', () => {
  it('blocks and frames belong together without gap or overlap', () => {
    let frame = 1
    for (let block = 0; block < 5; block++) {
      expect(firstFrameOfBlock(block)).toBe(frame)
      const capacity = new WalIndexBlock(block).capacity
      expect(blockOfFrame(frame)).toBe(block)
      expect(blockOfFrame(frame + capacity - 1)).toBe(block)
      frame += capacity
    }
    expect(firstFrameOfBlock(1)).toBe(4063)
    expect(firstFrameOfBlock(2)).toBe(8159)
  })

  it('blocks built from the frames equal those SQLite built, over several blocks', () => {
    openDatabase(512)
    write(1100, 2, 900)
    const { frames } = framesOf(readWal())
    const shm = readShm()
    expect(parseWalIndexHeader(shm)?.mxFrame).toBe(frames.length)
    expect(blockOfFrame(frames.length)).toBeGreaterThanOrEqual(1)
    for (let b = 0; b <= blockOfFrame(frames.length); b++) {
      const block = new WalIndexBlock(b)
      const first = firstFrameOfBlock(b)
      frames.slice(first - 1, first - 1 + block.capacity).forEach(({ pgno }, i) => {
        const slot = block.insert(i + 1, pgno)
        expect(block.bytes.readUInt16LE(block.slotOffset(slot))).toBe(i + 1)
        expect(block.bytes.readUInt32LE(block.entryOffset(i + 1))).toBe(pgno)
      })
      const from = block.entryOffset(1)
      const inFile = shm.subarray(block.fileOffset + from, block.fileOffset + WAL_INDEX_BLOCK_BYTES)
      expect(block.bytes.subarray(from).equals(inFile)).toBe(true)
    }
  })

  it('find gives the newest frame of a page within the limit', () => {
    openDatabase(512)
    write(200, 1, 300)
    const { frames } = framesOf(readWal())
    const block = new WalIndexBlock(0, readShm().subarray(0, WAL_INDEX_BLOCK_BYTES))
    for (const limit of [1, 17, frames.length]) {
      const newest = new Map<number, number>()
      frames.slice(0, limit).forEach(({ pgno }, i) => newest.set(pgno, i + 1))
      for (const { pgno } of frames) expect(block.find(pgno, limit)).toBe(newest.get(pgno) ?? 0)
    }
    expect(block.find(0xfffffff, frames.length)).toBe(0)
  })

  it('clearAbove leaves the block as it was before the removed entries', () => {
    const block = new WalIndexBlock(1)
    // Many pages with the same slot, so that chains run over one another and around the end.
    for (let i = 1; i <= 3000; i++) block.insert(i, ((i * 7) % 500) * 8192 + 21)
    const before = Buffer.from(block.bytes)
    for (let i = 3001; i <= 4096; i++) block.insert(i, i)
    expect(block.clearAbove(3000)).toBe(true)
    expect(block.bytes.equals(before)).toBe(true)
    expect(block.clearAbove(3000)).toBe(false)
    block.clear()
    expect(block.bytes.every((byte) => byte === 0)).toBe(true)
  })

  it('an entry is never taken twice, nor one that does not exist', () => {
    const block = new WalIndexBlock(0)
    block.insert(1, 5)
    expect(() => block.insert(1, 6)).toThrow('taken')
    expect(() => block.insert(4063, 6)).toThrow('range')
    expect(() => block.insert(0, 6)).toThrow('range')
  })

  it('a torn or damaged header is not believed', () => {
    openDatabase(4096)
    write(1, 1, 10)
    const shm = readShm().subarray(0, 96)
    expect(parseWalIndexHeader(shm)).toBeDefined()
    expect(parseWalIndexHeader(shm.subarray(0, 95))).toBeUndefined()
    for (let i = 0; i < 48; i++) {
      for (const copies of [[i], [i + 48], [i, i + 48]]) {
        const damaged = Buffer.from(shm)
        for (const at of copies) damaged[at] = damaged[at]! ^ 1
        expect(parseWalIndexHeader(damaged)).toBeUndefined()
      }
    }
  })

  it('an encoded header is read back, with 65536 and an empty WAL too', () => {
    const header = {
      version: 3007000,
      change: 0xffffffff,
      isInit: true,
      bigEndianChecksum: false,
      pageSize: 65536,
      mxFrame: 0,
      pageCount: 0xfffffffe,
      frameChecksum1: 0xffffffff,
      frameChecksum2: 1,
      salt1: 0xdeadbeef,
      salt2: 0x00000001,
    }
    const copy = encodeWalIndexHeader(header)
    expect(parseWalIndexHeader(Buffer.concat([copy, copy]))).toEqual(header)
    const empty = encodeWalIndexHeader({ ...header, pageSize: 0 })
    expect(parseWalIndexHeader(Buffer.concat([empty, empty]))?.pageSize).toBe(0)
    const notInit = encodeWalIndexHeader({ ...header, isInit: false })
    expect(parseWalIndexHeader(Buffer.concat([notInit, notInit]))).toBeUndefined()
  })

  it('checkpoint state is read', () => {
    openDatabase(4096)
    write(3, 1, 10)
    const before = parseWalCheckpointInfo(readShm())!
    expect(before.backfilledFrames).toBe(0)
    db?.pragma('wal_checkpoint(PASSIVE)')
    const shm = readShm()
    const after = parseWalCheckpointInfo(shm)!
    expect(after.backfilledFrames).toBe(parseWalIndexHeader(shm)?.mxFrame)
    expect(after.attemptedFrames).toBe(after.backfilledFrames)
    expect(after.readMarks.length).toBe(5)
    expect(after.readMarks[4]).toBe(READ_MARK_UNUSED)
    expect(parseWalCheckpointInfo(shm.subarray(0, 131))).toBeUndefined()
  })

  it('is only for little-endian machines, as this one is', () => {
    expect(() => assertLittleEndianHost()).not.toThrow()
  })
})
