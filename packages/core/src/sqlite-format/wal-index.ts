/**
 * The wal-index: layout of the `-shm` file (SQLite "WAL-mode File Format", section 2). Native-endian; little-endian here.
 *
 * Block 0 begins with 136 bytes:
 *    0  48  header, first copy       48  48  header, second copy (SQLite writes this one first and reads it last)
 *   96   4  nBackfill: frames known to be in the database file
 *  100  20  read marks 0–4           120   8  lock bytes: WRITE, CKPT, RECOVER, READ0–READ4
 *  128   4  nBackfillAttempted       132   4  unused
 * A header copy:
 *    0   4  version 3007000           4   4  unused           8   4  change counter, one more for each transaction
 *   12   1  1 when initialised       13   1  checksums of the WAL are over big-endian words
 *   14   2  page size (65536 as 1)   16   4  mxFrame: last valid frame      20   4  size of the database in pages
 *   24   8  checksum of the last frame, native order
 *   32   8  salts, raw bytes of the WAL header (so big-endian numbers)     40   8  checksum of bytes 0–39, native order
 *
 * The file is a row of blocks of 32768 bytes: 4096 page numbers (u32) and a hash table of 8192 slots (u16). Entry i (from
 * 1) of a block is the page number of its i-th frame; in block 0 the 136 bytes take the place of the first 34 entries, so
 * it holds 4062. A slot holds an entry's number, 0 when free; the search for page p starts at slot p * 383 mod 8192 and
 * goes on to the next slot (around the end) until a free one. The entry with the largest number is the newest frame.
 *
 * The layout is not a promise of SQLite between versions: `version` is checked by the parser.
 */
import { assert } from '../base/assert.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import { isValidPageSize } from './database-header.ts'
import { WAL_FORMAT_VERSION } from './wal-header.ts'

/** Bytes of one header copy. */
export const WAL_INDEX_HEADER_BYTES = 48
/** Bytes of both header copies, what `parseWalIndexHeader` needs. */
export const WAL_INDEX_HEADERS_BYTES = 96
export const WAL_INDEX_BLOCK_BYTES = 32768
/** Bytes before the first entry of block 0. */
export const WAL_INDEX_PREFIX_BYTES = 136
/** Entries of every block but the first. */
export const HASHTABLE_NPAGE = 4096
/** Entries of block 0. */
export const HASHTABLE_NPAGE_ONE = 4062
/** Slots of the hash table of a block. */
export const HASHTABLE_NSLOT = 8192
/** Offset of the hash table in a block. */
export const HASHTABLE_OFFSET = 16384

export const N_BACKFILL_OFFSET = 96
export const READ_MARKS_OFFSET = 100
export const READ_MARK_COUNT = 5
/** Value of a read mark that is not in use. */
export const READ_MARK_UNUSED = 0xffffffff
export const LOCK_BYTES_OFFSET = 120
export const N_BACKFILL_ATTEMPTED_OFFSET = 128

/** The same state of the WAL: nobody has committed, restarted or recovered it in between. */
export function sameWalIndex(a: WalIndexHeader, b: WalIndexHeader): boolean {
  const isSamePlace = a.change === b.change && a.mxFrame === b.mxFrame && a.pageCount === b.pageCount
  const isSameGeneration = a.salt1 === b.salt1 && a.salt2 === b.salt2
  return (
    isSamePlace && isSameGeneration && a.frameChecksum1 === b.frameChecksum1 && a.frameChecksum2 === b.frameChecksum2
  )
}

export interface WalIndexHeader {
  /** 3007000. */
  readonly version: number
  /** Changes with each transaction and recovery; wraps. */
  readonly change: number
  readonly isInit: boolean
  readonly bigEndianChecksum: boolean
  /** In bytes; 0 while the WAL has never held a frame since its recovery. */
  readonly pageSize: number
  /** The last frame of the last transaction; 0 for an empty WAL. */
  readonly mxFrame: number
  /** Size of the database in pages after that transaction; 0 when `mxFrame` never was above 0. */
  readonly pageCount: number
  /** Running checksum of frame `mxFrame`. */
  readonly frameChecksum1: number
  readonly frameChecksum2: number
  /** As in the WAL header; see wal-header.ts. Both 0 when the WAL has no header yet. */
  readonly salt1: number
  readonly salt2: number
}

/** Checkpoint state, bytes 96–131. Read without a lock it may change at any moment. */
export interface WalCheckpointInfo {
  /** Frames known to be in the database file. */
  readonly backfilledFrames: number
  /** Five marks: the last frame readers of that slot use; `READ_MARK_UNUSED` when free. */
  readonly readMarks: readonly number[]
  /** Frames a checkpoint has begun to copy. */
  readonly attemptedFrames: number
}

/** @throws ClusterError `UNSUPPORTED_PLATFORM` on a big-endian machine. */
export function assertLittleEndianHost(): void {
  if (new Uint8Array(Uint32Array.of(1).buffer)[0] === 1) return
  throw new ClusterError('UNSUPPORTED_PLATFORM', 'this machine is big-endian', {
    hint: 'SQLite keeps the wal-index in native byte order; only little-endian machines (x86-64, ARM64) are supported.',
  })
}

/**
 * Reads the header from the first 96 bytes of a `-shm` file. `undefined` when the copies differ, the checksum fails or it
 * is not initialised (a writer is at work or died, or recovery is due: read again), or when the version is another or the
 * page size none.
 */
export function parseWalIndexHeader(bytes96: Buffer): WalIndexHeader | undefined {
  if (bytes96.length < WAL_INDEX_HEADERS_BYTES) return undefined
  if (bytes96.compare(bytes96, 48, 96, 0, 48) !== 0) return undefined
  if (bytes96[12] === 0 || bytes96.readUInt32LE(0) !== WAL_FORMAT_VERSION) return undefined
  const [checksum1, checksum2] = headerChecksum(bytes96)
  if (bytes96.readUInt32LE(40) !== checksum1 || bytes96.readUInt32LE(44) !== checksum2) return undefined
  const storedSize = bytes96.readUInt16LE(14)
  const pageSize = (storedSize & 0xfe00) + ((storedSize & 1) << 16)
  if (pageSize !== 0 && !isValidPageSize(pageSize)) return undefined
  return {
    version: WAL_FORMAT_VERSION,
    change: bytes96.readUInt32LE(8),
    isInit: true,
    bigEndianChecksum: bytes96[13] !== 0,
    pageSize,
    mxFrame: bytes96.readUInt32LE(16),
    pageCount: bytes96.readUInt32LE(20),
    frameChecksum1: bytes96.readUInt32LE(24),
    frameChecksum2: bytes96.readUInt32LE(28),
    salt1: bytes96.readUInt32BE(32),
    salt2: bytes96.readUInt32BE(36),
  }
}

/** One copy of the header, 48 bytes with its checksum. To publish, write it at 48 first, then at 0. */
export function encodeWalIndexHeader(header: WalIndexHeader): Buffer {
  assert(
    header.pageSize === 0 || isValidPageSize(header.pageSize),
    `page size ${header.pageSize} in a wal-index header`,
  )
  const bytes = Buffer.alloc(WAL_INDEX_HEADER_BYTES)
  bytes.writeUInt32LE(header.version, 0)
  bytes.writeUInt32LE(header.change >>> 0, 8)
  bytes[12] = header.isInit ? 1 : 0
  bytes[13] = header.bigEndianChecksum ? 1 : 0
  bytes.writeUInt16LE((header.pageSize & 0xff00) | (header.pageSize >>> 16), 14)
  bytes.writeUInt32LE(header.mxFrame, 16)
  bytes.writeUInt32LE(header.pageCount, 20)
  bytes.writeUInt32LE(header.frameChecksum1 >>> 0, 24)
  bytes.writeUInt32LE(header.frameChecksum2 >>> 0, 28)
  bytes.writeUInt32BE(header.salt1 >>> 0, 32)
  bytes.writeUInt32BE(header.salt2 >>> 0, 36)
  const [checksum1, checksum2] = headerChecksum(bytes)
  bytes.writeUInt32LE(checksum1, 40)
  bytes.writeUInt32LE(checksum2, 44)
  return bytes
}

/** Reads the checkpoint state from the first 132 bytes or more of a `-shm` file; `undefined` when there are fewer. */
export function parseWalCheckpointInfo(bytes: Buffer): WalCheckpointInfo | undefined {
  if (bytes.length < N_BACKFILL_ATTEMPTED_OFFSET + 4) return undefined
  const readMarks: number[] = []
  for (let i = 0; i < READ_MARK_COUNT; i++) readMarks.push(bytes.readUInt32LE(READ_MARKS_OFFSET + 4 * i))
  return {
    backfilledFrames: bytes.readUInt32LE(N_BACKFILL_OFFSET),
    readMarks,
    attemptedFrames: bytes.readUInt32LE(N_BACKFILL_ATTEMPTED_OFFSET),
  }
}

/** The block (from 0) that holds the entry of a frame (from 1). */
export function blockOfFrame(frame: number): number {
  return frame <= HASHTABLE_NPAGE_ONE ? 0 : 1 + Math.floor((frame - HASHTABLE_NPAGE_ONE - 1) / HASHTABLE_NPAGE)
}

/** The frame whose entry is number 1 of a block; frame f is entry `f - firstFrameOfBlock(blockOfFrame(f)) + 1`. */
export function firstFrameOfBlock(block: number): number {
  return block === 0 ? 1 : HASHTABLE_NPAGE_ONE + (block - 1) * HASHTABLE_NPAGE + 1
}

/**
 * A mirror in memory of one block. It never touches the file: the caller writes `bytes` from the offsets given here, and
 * a block whose first entry is new it writes whole (from `entryOffset(1)`), which also wipes what a former generation left.
 */
export class WalIndexBlock {
  /** Number of the block, from 0. */
  readonly index: number
  /** Where the block begins in the `-shm` file. */
  readonly fileOffset: number
  /** The whole block, 32768 bytes. Bytes before `entryOffset(1)` of block 0 are the header's and are not kept up here. */
  readonly bytes: Buffer
  /** Entries this block can hold. */
  readonly capacity: number
  readonly #entries: Uint32Array
  readonly #slots: Uint16Array

  /** @param content the block as read from the file, at most 32768 bytes; the rest is zero */
  constructor(index: number, content?: Uint8Array) {
    this.index = index
    this.fileOffset = index * WAL_INDEX_BLOCK_BYTES
    const memory = new ArrayBuffer(WAL_INDEX_BLOCK_BYTES)
    this.bytes = Buffer.from(memory)
    if (content !== undefined) this.bytes.set(content)
    this.capacity = index === 0 ? HASHTABLE_NPAGE_ONE : HASHTABLE_NPAGE
    this.#entries = new Uint32Array(memory, index === 0 ? WAL_INDEX_PREFIX_BYTES : 0, this.capacity)
    this.#slots = new Uint16Array(memory, HASHTABLE_OFFSET, HASHTABLE_NSLOT)
  }

  /** Page number of entry `indexInBlock` (from 1), 0 when empty. */
  entry(indexInBlock: number): number {
    return this.#entries[indexInBlock - 1] ?? 0
  }

  /** Offset in the block of entry `indexInBlock` (from 1). */
  entryOffset(indexInBlock: number): number {
    return this.#entries.byteOffset + (indexInBlock - 1) * 4
  }

  /** Offset in the block of a hash slot. */
  slotOffset(slot: number): number {
    return HASHTABLE_OFFSET + slot * 2
  }

  /** Enters a frame's page number and returns the hash slot it took. The entry must be empty. */
  insert(indexInBlock: number, pgno: number): number {
    assert(indexInBlock >= 1 && indexInBlock <= this.capacity, `wal-index entry ${indexInBlock} out of range`)
    assert(this.#entries[indexInBlock - 1] === 0, `wal-index entry ${indexInBlock} is taken`)
    const slots = this.#slots
    let slot = hashSlot(pgno)
    // Ends: there are at least twice as many slots as entries (who takes over a block from a file checks `usedSlots`).
    while (slots[slot] !== 0) slot = (slot + 1) & (HASHTABLE_NSLOT - 1)
    this.#entries[indexInBlock - 1] = pgno
    slots[slot] = indexInBlock
    return slot
  }

  /** Number of the newest entry of `pgno` among the first `limit` entries; 0 when there is none. */
  find(pgno: number, limit: number): number {
    let newest = 0
    let slot = hashSlot(pgno)
    for (let probes = 0; probes < HASHTABLE_NSLOT; probes++) {
      const candidate = this.#slots[slot]!
      if (candidate === 0) break
      if (candidate <= limit && candidate > newest && this.#entries[candidate - 1] === pgno) newest = candidate
      slot = (slot + 1) & (HASHTABLE_NSLOT - 1)
    }
    return newest
  }

  /** Removes the entries above `limit` and their slots (remains of a writer that did not commit). True when there were any. */
  clearAbove(limit: number): boolean {
    let changed = false
    for (let slot = 0; slot < HASHTABLE_NSLOT; slot++) {
      if (this.#slots[slot]! > limit) {
        this.#slots[slot] = 0
        changed = true
      }
    }
    for (let i = limit; i < this.capacity; i++) {
      if (this.#entries[i] !== 0) {
        this.#entries[i] = 0
        changed = true
      }
    }
    return changed
  }

  /** Hash slots that are not free: as many as entries, unless the block is damaged. */
  get usedSlots(): number {
    return this.#slots.reduce((count, entry) => (entry === 0 ? count : count + 1), 0)
  }

  /** Empties entries and hash table: the state before the first frame of the block. */
  clear(): void {
    this.#entries.fill(0)
    this.#slots.fill(0)
  }
}

function hashSlot(pgno: number): number {
  return Math.imul(pgno, 383) & (HASHTABLE_NSLOT - 1)
}

/** The WAL checksum of bytes 0–39, word by word: called for every commit, so it makes no array of words. */
function headerChecksum(bytes: Buffer): [number, number] {
  let s0 = 0
  let s1 = 0
  for (let i = 0; i < 40; i += 8) {
    s0 = (s0 + bytes.readInt32LE(i) + s1) | 0
    s1 = (s1 + bytes.readInt32LE(i + 4) + s0) | 0
  }
  return [s0 >>> 0, s1 >>> 0]
}
