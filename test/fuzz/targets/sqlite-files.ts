/** SQLite's files: the header of a database, the WAL and the wal-index. */
import { WalIndexMirror } from '../../../packages/core/src/apply/wal-index-mirror.ts'
import { cursorAtStart } from '../../../packages/core/src/capture/wal-cursor.ts'
import { WalScanner } from '../../../packages/core/src/capture/wal-scanner.ts'
import type { LiveFiles } from '../../../packages/core/src/files/live-files.ts'
import { isWalMode, parseDatabaseHeader } from '../../../packages/core/src/sqlite-format/database-header.ts'
import { lockPage } from '../../../packages/core/src/sqlite-format/lock-page.ts'
import { walChecksum } from '../../../packages/core/src/sqlite-format/wal-checksum.ts'
import { FRAME_HEADER_BYTES, FrameWriter } from '../../../packages/core/src/sqlite-format/wal-frame.ts'
import {
  encodeWalHeader,
  parseWalHeader,
  WAL_HEADER_BYTES,
} from '../../../packages/core/src/sqlite-format/wal-header.ts'
import { encodeWalIndexHeader, WAL_INDEX_HEADER_BYTES } from '../../../packages/core/src/sqlite-format/wal-index.ts'
import { WalIndexReader } from '../../../packages/core/src/sqlite/wal-index-reader.ts'
import { type FuzzTarget, promise } from '../target.ts'

const PAGE_SIZE = 512
const FRAME_BYTES = FRAME_HEADER_BYTES + PAGE_SIZE
const SALTS = { salt1: 0x01020304, salt2: 0xfffffffe }

/** Both files of a live database as one piece of memory. */
function liveFiles(bytes: Buffer): { readonly files: LiveFiles; content(): Buffer } {
  let content = bytes
  const disk = {
    read: (_: string, _fd: number, target: Uint8Array, offset: number, length: number, position: number) => {
      const piece = content.subarray(position, position + length)
      target.set(piece, offset)
      return piece.length
    },
    write: (_: string, _fd: number, source: Uint8Array, offset: number, length: number, position: number) => {
      if (position + length > content.length) content = Buffer.concat([content], position + length)
      content.set(source.subarray(offset, offset + length), position)
    },
    sizeBytes: () => content.length,
  }
  const files = { disk, walFd: 1, shmFd: 1, walPath: 'fuzz-wal', shmPath: 'fuzz-shm' }
  return { files: files as unknown as LiveFiles, content: () => content }
}

/** Frames of three transactions, the last one rewriting pages of the first. */
function walCorpus(): Buffer[] {
  return [false, true].map((bigEndianChecksum) => {
    const frames = [1, 2, 3, 0, 2, 0, 1, 3, 3, 4, 0].flatMap((pgno, i, all) =>
      pgno === 0 ? [] : [{ pgno, commit: all[i + 1] === 0 ? 4 : 0 }],
    )
    const memory = new ArrayBuffer(frames.length * FRAME_BYTES)
    const bytes = Buffer.from(memory)
    const header = walHeader(bigEndianChecksum)
    const writer = new FrameWriter(PAGE_SIZE, SALTS.salt1, SALTS.salt2, bigEndianChecksum)
    writer.resume(header.readUInt32BE(24), header.readUInt32BE(28))
    for (const [i, { pgno, commit }] of frames.entries())
      writer.write(bytes, new Uint32Array(memory), i * FRAME_BYTES, pgno, commit, Buffer.alloc(PAGE_SIZE, i), 0)
    return Buffer.concat([header, bytes])
  })
}

function walHeader(bigEndianChecksum: boolean): Buffer {
  const header = encodeWalHeader({ pageSize: PAGE_SIZE, checkpointSequence: 3, ...SALTS }).bytes
  if (bigEndianChecksum) {
    header[3] = header[3]! | 1
    writeWalChecksum(header, 0, 24, 24, true, [0, 0])
  }
  return header
}

/** Checksum over `length` bytes at `from`, stored big-endian at `to`; answers it. */
function writeWalChecksum(
  bytes: Buffer,
  from: number,
  length: number,
  to: number,
  bigEndian: boolean,
  before: readonly [number, number],
): [number, number] {
  const state = Int32Array.from(before)
  const words = new Uint32Array(length / 4)
  Buffer.from(words.buffer).set(bytes.subarray(from, from + length))
  walChecksum(words, 0, words.length, state, bigEndian)
  if (to >= 0) {
    bytes.writeInt32BE(state[0]!, to)
    bytes.writeInt32BE(state[1]!, to + 4)
  }
  return [state[0]!, state[1]!]
}

/** Header checksum, then salts and running checksum of every whole frame. */
function repairWal(input: Buffer): Buffer {
  if (input.length < WAL_HEADER_BYTES) return input
  const wal = Buffer.from(input)
  const isBig = (wal[3]! & 1) === 1
  let sums = writeWalChecksum(wal, 0, 24, 24, isBig, [0, 0])
  const pageSize = parseWalHeader(wal)?.pageSize
  if (pageSize === undefined) return wal
  for (
    let at = WAL_HEADER_BYTES;
    at + FRAME_HEADER_BYTES + pageSize <= wal.length;
    at += FRAME_HEADER_BYTES + pageSize
  ) {
    wal.copy(wal, at + 8, 16, 24)
    sums = writeWalChecksum(wal, at, 8, -1, isBig, sums)
    sums = writeWalChecksum(wal, at + FRAME_HEADER_BYTES, pageSize, at + 16, isBig, sums)
  }
  return wal
}

function scanWal(input: Buffer): void {
  const header = parseWalHeader(input)
  const pageSize = header?.pageSize ?? PAGE_SIZE
  const frameBytes = FRAME_HEADER_BYTES + pageSize
  const { files } = liveFiles(input)
  // Windows of a few frames, so that large transactions are read in two passes.
  const scanner = new WalScanner(files, pageSize, { windowBytesMax: ((input.length % 5) + 1) * frameBytes })
  // Sometimes the wal-index names more frames than there are.
  const mxFrame =
    Math.max(0, Math.floor((input.length - WAL_HEADER_BYTES) / frameBytes)) + (input.length % 7 === 0 ? 1 : 0)
  scanner.begin(cursorAtStart(header ?? SALTS), { mxFrame, bigEndianChecksum: header?.bigEndianChecksum ?? false })
  try {
    for (
      let found = scanner.next(input.length % 2 === 0);
      found !== undefined;
      found = scanner.next(input.length % 2 === 0)
    ) {
      let last = 0
      const { commit } = found
      scanner.visitPages(found, (pgno, source, offset) => {
        promise(
          pgno > last && pgno <= commit && pgno !== lockPage(pageSize),
          'pages ascend, in the database, no lock page',
        )
        promise(offset + pageSize <= source.length, 'a page is whole')
        last = pgno
      })
    }
  } finally {
    scanner.end()
  }
}

const INDEX_HEADER = {
  version: 3007000,
  change: 9,
  isInit: true,
  bigEndianChecksum: false,
  pageSize: PAGE_SIZE,
  pageCount: 40,
}

/** The head and the blocks of a wal-index with so many frames. */
function walIndex(mxFrame: number): Buffer {
  const { files, content } = liveFiles(Buffer.alloc(0))
  const mirror = new WalIndexMirror(files)
  const pgnos = Uint32Array.from({ length: mxFrame }, (_, i) => 1 + (i % 40))
  if (mxFrame > 0) mirror.append(1, pgnos, mxFrame)
  const bytes = Buffer.concat([content()], Math.max(content().length, 32768))
  const header = encodeWalIndexHeader({ ...INDEX_HEADER, ...SALTS, mxFrame, frameChecksum1: 5, frameChecksum2: 6 })
  header.copy(bytes, 0)
  header.copy(bytes, WAL_INDEX_HEADER_BYTES)
  return bytes
}

/** The checksum of the first header, and the second as a copy of it. */
function repairWalIndex(input: Buffer): Buffer {
  if (input.length < 2 * WAL_INDEX_HEADER_BYTES) return input
  const index = Buffer.from(input)
  const sums = writeWalChecksum(index, 0, 40, -1, false, [0, 0])
  index.writeInt32LE(sums[0], 40)
  index.writeInt32LE(sums[1], 44)
  index.copy(index, WAL_INDEX_HEADER_BYTES, 0, WAL_INDEX_HEADER_BYTES)
  return index
}

function databaseHeader(): Buffer {
  const header = Buffer.alloc(100)
  header.write('SQLite format 3\0', 'latin1')
  header.set([0x10, 0, 2, 2], 16)
  return header
}

export const sqliteFileTargets: readonly FuzzTarget[] = [
  {
    name: 'database-header',
    codes: ['NOT_A_DATABASE'],
    bound: { perByte: 1, constant: 1024 * 1024 },
    weight: 2,
    corpus: () => [databaseHeader()],
    run(input) {
      const header = parseDatabaseHeader(input, 'database "fuzz"')
      promise(header.pageSize >= 512 && header.pageSize <= 65536, 'a page size SQLite accepts')
      isWalMode(header)
    },
  },
  {
    name: 'wal-header',
    codes: [],
    bound: { perByte: 1, constant: 1024 * 1024 },
    weight: 2,
    corpus: () => [walHeader(false), walHeader(true)],
    repair: (input) => repairWal(input),
    run(input) {
      parseWalHeader(input)
    },
  },
  {
    name: 'wal-scanner',
    codes: ['CORRUPT_DATA'],
    bound: { perByte: 8, constant: 3 * 1024 * 1024 },
    weight: 5,
    corpus: walCorpus,
    repair: (input) => repairWal(input),
    run: scanWal,
  },
  {
    name: 'wal-index',
    codes: ['CORRUPT_DATA'],
    bound: { perByte: 4, constant: 2 * 1024 * 1024 },
    weight: 3,
    corpus: () => [0, 3, 200, 4061, 4063, 5000].map(walIndex),
    repair: (input) => repairWalIndex(input),
    run(input) {
      const { files } = liveFiles(input)
      const reader = new WalIndexReader(files)
      const header = reader.header()
      reader.checkpointInfo()
      // What a replica does next: it enters its frames and publishes the header.
      const mirror = new WalIndexMirror(files)
      mirror.load(header.mxFrame)
      mirror.append(header.mxFrame + 1, Uint32Array.of(1, 2, 3, 4, 5, 6, 7), 7)
      encodeWalIndexHeader({ ...header, mxFrame: header.mxFrame + 7 })
    },
  },
]
