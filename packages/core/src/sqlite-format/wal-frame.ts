/**
 * Frames of a `-wal` file (SQLite "WAL-mode File Format", section 1.2). All integers are big-endian.
 *
 *   0  4  page number
 *   4  4  size of the database in pages after the commit; 0 for every frame but the last of a transaction
 *   8  4  salt 1, 12  4  salt 2: as in the WAL header; a frame with other salts is a remain of an earlier generation
 *  16  8  running checksum: continues that of the frame before (of the header for frame 1) over bytes 0–7 and the page
 *  24  …  the page
 *
 * Relies on: the caller's buffer and word array show the same memory, offsets are multiples of 4, the host is
 * little-endian. Nothing is allocated per frame.
 * Order: frames are written and read one after another, because each checksum continues the last; `resume` says where.
 */
import { assert } from '../base/assert.ts'
import { byteSwap32, walChecksum } from './wal-checksum.ts'
import { WAL_HEADER_BYTES } from './wal-header.ts'

export const FRAME_HEADER_BYTES = 24

/** Byte offset of a frame in the `-wal` file. Frames are counted from 1; `frameOffset(n + 1)` is the size of n frames. */
export function frameOffset(frame: number, pageSize: number): number {
  return WAL_HEADER_BYTES + (frame - 1) * (FRAME_HEADER_BYTES + pageSize)
}

/** Writes frames of one WAL generation into buffers of the caller. */
export class FrameWriter {
  readonly #pageSize: number
  readonly #salt1Word: number
  readonly #salt2Word: number
  readonly #bigEndian: boolean
  readonly #state = new Int32Array(2)

  /** Before the first `write`, `resume` with the checksum of the WAL header or of the last frame there. */
  constructor(pageSize: number, salt1: number, salt2: number, bigEndianChecksum = false) {
    this.#pageSize = pageSize
    this.#salt1Word = byteSwap32(salt1)
    this.#salt2Word = byteSwap32(salt2)
    this.#bigEndian = bigEndianChecksum
  }

  /** First half of the running checksum after the last frame written. */
  get checksum1(): number {
    return this.#state[0]! >>> 0
  }

  get checksum2(): number {
    return this.#state[1]! >>> 0
  }

  resume(checksum1: number, checksum2: number): void {
    this.#state[0] = checksum1
    this.#state[1] = checksum2
  }

  /**
   * Writes one frame (24 bytes and the page) at byte `offset` of `target`.
   * @param targetWords the memory of `target` as native words
   * @param commit size of the database in pages when this frame ends a transaction, else 0
   * @param source holds the page at `sourceOffset`
   */
  write(
    target: Buffer,
    targetWords: Uint32Array,
    offset: number,
    pgno: number,
    commit: number,
    source: Buffer,
    sourceOffset: number,
  ): void {
    const word = offset >>> 2
    assertAligned(target, targetWords, offset, this.#pageSize)
    assert(sourceOffset >= 0 && sourceOffset + this.#pageSize <= source.length, 'frame source too short')
    const state = this.#state
    targetWords[word] = byteSwap32(pgno)
    targetWords[word + 1] = byteSwap32(commit)
    targetWords[word + 2] = this.#salt1Word
    targetWords[word + 3] = this.#salt2Word
    source.copy(target, offset + FRAME_HEADER_BYTES, sourceOffset, sourceOffset + this.#pageSize)
    walChecksum(targetWords, word, 2, state, this.#bigEndian)
    walChecksum(targetWords, word + 6, this.#pageSize >>> 2, state, this.#bigEndian)
    targetWords[word + 4] = byteSwap32(state[0]!)
    targetWords[word + 5] = byteSwap32(state[1]!)
  }
}

/** Checks frames of one WAL, one after another. */
export class FrameReader {
  readonly #pageSize: number
  readonly #bigEndian: boolean
  readonly #state = new Int32Array(2)
  readonly #next = new Int32Array(2)
  #pgno = 0
  #commit = 0

  /** Before the first `read`, `resume` with the checksum of the WAL header or of the last frame accepted. */
  constructor(pageSize: number, bigEndianChecksum: boolean) {
    this.#pageSize = pageSize
    this.#bigEndian = bigEndianChecksum
  }

  /** Page number of the frame accepted last. */
  get pgno(): number {
    return this.#pgno
  }

  /** Size of the database after the transaction that the frame accepted last ends; 0 when it ends none. */
  get commit(): number {
    return this.#commit
  }

  /** First half of the running checksum after the frame accepted last. */
  get checksum1(): number {
    return this.#state[0]! >>> 0
  }

  get checksum2(): number {
    return this.#state[1]! >>> 0
  }

  resume(checksum1: number, checksum2: number): void {
    this.#state[0] = checksum1
    this.#state[1] = checksum2
  }

  /**
   * True when the frame at byte `offset` has these salts, a page number and the checksum that continues the last frame's.
   * A refused frame changes nothing, so that the caller can tell where the valid frames end.
   * @param words the memory of `bytes` as native words
   */
  read(bytes: Buffer, words: Uint32Array, offset: number, salt1: number, salt2: number): boolean {
    const word = offset >>> 2
    assertAligned(bytes, words, offset, this.#pageSize)
    if (words[word + 2] !== byteSwap32(salt1) || words[word + 3] !== byteSwap32(salt2)) return false
    if (words[word] === 0) return false
    const next = this.#next
    next[0] = this.#state[0]!
    next[1] = this.#state[1]!
    walChecksum(words, word, 2, next, this.#bigEndian)
    walChecksum(words, word + 6, this.#pageSize >>> 2, next, this.#bigEndian)
    if (words[word + 4] !== byteSwap32(next[0]) || words[word + 5] !== byteSwap32(next[1])) return false
    this.#state[0] = next[0]
    this.#state[1] = next[1]
    this.#pgno = byteSwap32(words[word]!)
    this.#commit = byteSwap32(words[word + 1]!)
    return true
  }
}

function assertAligned(bytes: Buffer, words: Uint32Array, offset: number, pageSize: number): void {
  assert(
    (offset & 3) === 0 && words.buffer === bytes.buffer && words.byteOffset === bytes.byteOffset,
    'frame buffer and words must show the same memory at a multiple of 4',
  )
  assert(offset >= 0 && offset + FRAME_HEADER_BYTES + pageSize <= words.length * 4, 'frame buffer too short')
}
