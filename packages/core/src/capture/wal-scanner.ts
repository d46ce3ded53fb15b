/**
 * Reads committed frames of one WAL generation, verifies them and cuts them into transactions.
 *
 * Every frame must carry the salts of the generation and continue the running checksum, the last one must be a commit
 * frame with the checksum that the wal-index names. Nothing beyond the end given to `begin` is read.
 *
 * Frames are read in windows of at most 16 MiB. A transaction inside one window is handed out straight from its memory.
 * A larger one is read twice: the first pass verifies it window by window and remembers the last frame of each page, the
 * second fetches the pages in ascending order, runs of neighbouring frames with one read.
 *
 * Relies on: frames up to the end stay in the WAL and unchanged (committed, and kept by `WalGuards`).
 * Order: `begin`, then `next` until `undefined`; `visitPages` only for the transaction handed out last; then `end`.
 */
import { assert } from '../base/assert.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { LiveFiles } from '../files/live-files.ts'
import { lockPage } from '../sqlite-format/lock-page.ts'
import { FRAME_HEADER_BYTES, FrameReader, frameOffset } from '../sqlite-format/wal-frame.ts'
import { parseWalHeader, WAL_HEADER_BYTES } from '../sqlite-format/wal-header.ts'
import type { WalIndexHeader } from '../sqlite-format/wal-index.ts'
import { isSameGeneration, type WalCursor } from './wal-cursor.ts'

/** One transaction of the WAL, or several merged. */
export interface WalTransaction {
  readonly firstFrame: number
  readonly lastFrame: number
  /** Size of the database in pages after it. */
  readonly commit: number
  /** Its pages, ascending, each once; none beyond `commit`, never the lock page. */
  readonly pgnos: Uint32Array
  /** The newest frame of each page. */
  readonly frames: Uint32Array
  /** Running checksum of `lastFrame`. */
  readonly checksum1: number
  readonly checksum2: number
}

/** The committed end of the WAL, as far as a scan needs to know it; a `WalIndexHeader` is one. */
export type WalEnd = Pick<WalIndexHeader, 'mxFrame' | 'bigEndianChecksum'> & {
  /** Checksum that frame `mxFrame` must have, where it is known. */
  readonly frameChecksum1?: number | undefined
  readonly frameChecksum2?: number | undefined
}

/** @param source holds the page at byte `offset`, during the call only */
export type PageVisitor = (pgno: number, source: Buffer, offset: number) => void

export interface WalScannerOptions {
  /** Largest window in bytes; a window always holds at least one frame. */
  readonly windowBytesMax: number
}

export const SCANNER_DEFAULTS: WalScannerOptions = { windowBytesMax: 16 * 1024 * 1024 }

/** Kept between captures; enough for the usual commit. Larger windows are given back at `end`. */
const KEPT_WINDOW_BYTES = 512 * 1024
/** Largest read of the second pass. */
const RUN_BYTES_MAX = 1024 * 1024

export class WalScanner {
  readonly #files: LiveFiles
  readonly #pageSize: number
  readonly #frameBytes: number
  readonly #windowFramesMax: number
  readonly #lockPage: number
  readonly #keptBuffer: Buffer
  readonly #keptWords: Uint32Array
  #buffer: Buffer
  #words: Uint32Array
  /** Frames in `#buffer`; empty when last < first. */
  #windowFirst = 1
  #windowLast = 0
  #reader: FrameReader
  #readerIsBigEndian = false
  #salt1 = 0
  #salt2 = 0
  #end: WalEnd = { mxFrame: 0, bigEndianChecksum: false }
  /** The last frame verified. */
  #frame = 0
  #commits = 0
  /** Page → last frame, of the transaction being read. */
  readonly #pages = new Map<number, number>()

  constructor(files: LiveFiles, pageSize: number, options: WalScannerOptions = SCANNER_DEFAULTS) {
    this.#files = files
    this.#pageSize = pageSize
    this.#frameBytes = FRAME_HEADER_BYTES + pageSize
    this.#windowFramesMax = Math.max(1, Math.floor(options.windowBytesMax / this.#frameBytes))
    this.#lockPage = lockPage(pageSize)
    const kept = allocate(Math.max(this.#frameBytes, Math.min(KEPT_WINDOW_BYTES, options.windowBytesMax)))
    this.#keptBuffer = kept.buffer
    this.#keptWords = kept.words
    this.#buffer = kept.buffer
    this.#words = kept.words
    this.#reader = new FrameReader(pageSize, false)
  }

  /** Commit frames seen since `begin`. */
  get commits(): number {
    return this.#commits
  }

  /**
   * Starts right after `cursor`; `end` belongs to the same generation.
   * @throws ClusterError `CORRUPT_DATA` when the WAL's header is not that of the generation
   */
  begin(cursor: WalCursor, end: WalEnd): void {
    assert(cursor.frame <= end.mxFrame, `${this.#files.walPath} ends before frame ${cursor.frame}`)
    this.#salt1 = cursor.salt1
    this.#salt2 = cursor.salt2
    this.#end = end
    this.#frame = cursor.frame
    this.#commits = 0
    this.#windowFirst = 1
    this.#windowLast = 0
    if (this.#readerIsBigEndian !== end.bigEndianChecksum) {
      this.#reader = new FrameReader(this.#pageSize, end.bigEndianChecksum)
      this.#readerIsBigEndian = end.bigEndianChecksum
    }
    if (cursor.frame > 0) this.#reader.resume(cursor.checksum1, cursor.checksum2)
    else this.#resumeFromHeader(cursor)
  }

  /**
   * The next transaction; `undefined` at the end.
   * @param merge makes everything up to the end one transaction
   * @throws ClusterError `CORRUPT_DATA` when a frame does not verify
   */
  next(merge = false): WalTransaction | undefined {
    const { mxFrame } = this.#end
    if (this.#frame >= mxFrame) return undefined
    const reader = this.#reader
    const pages = this.#pages
    pages.clear()
    const firstFrame = this.#frame + 1
    for (;;) {
      const frame = this.#frame + 1
      if (frame > this.#windowLast) this.#load(firstFrame, frame)
      const offset = (frame - this.#windowFirst) * this.#frameBytes
      if (!reader.read(this.#buffer, this.#words, offset, this.#salt1, this.#salt2)) throw this.#corrupt(frame)
      this.#frame = frame
      pages.set(reader.pgno, frame)
      if (reader.commit !== 0) this.#commits++
      if (frame === mxFrame) this.#verifyEnd()
      if (reader.commit !== 0 && (!merge || frame === mxFrame)) return this.#transaction(firstFrame)
    }
  }

  /** Shows the pages of the transaction handed out last, in ascending order. */
  visitPages(transaction: WalTransaction, visit: PageVisitor): void {
    const { pgnos, frames } = transaction
    if (this.#windowFirst > transaction.firstFrame) {
      this.#fetchPages(transaction, visit)
      return
    }
    for (let i = 0; i < pgnos.length; i++) {
      const offset = (frames[i]! - this.#windowFirst) * this.#frameBytes + FRAME_HEADER_BYTES
      visit(pgnos[i]!, this.#buffer, offset)
    }
  }

  /** Gives large memory back. */
  end(): void {
    this.#pages.clear()
    this.#buffer = this.#keptBuffer
    this.#words = this.#keptWords
    this.#windowFirst = 1
    this.#windowLast = 0
  }

  #resumeFromHeader(cursor: WalCursor): void {
    const bytes = Buffer.alloc(WAL_HEADER_BYTES)
    const length = this.#files.disk.read('capture.read-wal-header', this.#files.walFd, bytes, 0, bytes.length, 0)
    const header = parseWalHeader(bytes.subarray(0, length))
    if (header === undefined || !isSameGeneration(header, cursor) || header.pageSize !== this.#pageSize) {
      throw this.#damaged('its header does not agree with the wal-index')
    }
    if (header.bigEndianChecksum !== this.#end.bigEndianChecksum) throw this.#damaged('its byte order is not known')
    this.#reader.resume(header.checksum1, header.checksum2)
  }

  /** Makes the window hold `frame` and what follows, and the transaction from its first frame on unless it is large. */
  #load(transactionFirst: number, frame: number): void {
    const isLarge = frame - transactionFirst > this.#windowFramesMax / 2
    const first = isLarge ? frame : transactionFirst
    const count = Math.min(this.#windowFramesMax, this.#end.mxFrame - first + 1)
    const length = count * this.#frameBytes
    if (length > this.#buffer.length) {
      const { buffer, words } = allocate(length)
      this.#buffer = buffer
      this.#words = words
    }
    this.#read('capture.read-frames', this.#buffer, first, count)
    this.#windowFirst = first
    this.#windowLast = first + count - 1
  }

  #read(operation: string, target: Buffer, firstFrame: number, count: number): void {
    const length = count * this.#frameBytes
    const position = frameOffset(firstFrame, this.#pageSize)
    const got = this.#files.disk.read(operation, this.#files.walFd, target, 0, length, position)
    if (got !== length) throw this.#damaged(`it ends before frame ${firstFrame + count - 1}`)
  }

  #verifyEnd(): void {
    const { mxFrame, frameChecksum1, frameChecksum2 } = this.#end
    const reader = this.#reader
    if (reader.commit === 0) throw this.#damaged(`frame ${mxFrame} ends no transaction`)
    if (frameChecksum1 === undefined || frameChecksum2 === undefined) return
    if (reader.checksum1 === frameChecksum1 && reader.checksum2 === frameChecksum2) return
    throw this.#damaged(`frame ${mxFrame} has another checksum than the wal-index says`)
  }

  #transaction(firstFrame: number): WalTransaction {
    const { commit, checksum1, checksum2 } = this.#reader
    const pages = this.#pages
    const found = new Uint32Array(pages.size)
    let count = 0
    for (const pgno of pages.keys()) {
      // SQLite drops such pages when it commits, but spilled ones are in the WAL already. The lock page holds no data (I8).
      if (pgno <= commit && pgno !== this.#lockPage) found[count++] = pgno
    }
    const pgnos = count === found.length ? found : found.slice(0, count)
    if (count > 1) pgnos.sort()
    const frames = new Uint32Array(count)
    for (let i = 0; i < count; i++) frames[i] = pages.get(pgnos[i]!)!
    return { firstFrame, lastFrame: this.#frame, commit, pgnos, frames, checksum1, checksum2 }
  }

  #fetchPages({ pgnos, frames }: WalTransaction, visit: PageVisitor): void {
    const runFramesMax = Math.max(1, Math.floor(RUN_BYTES_MAX / this.#frameBytes))
    const { buffer } = allocate(Math.min(runFramesMax, pgnos.length) * this.#frameBytes)
    for (let i = 0; i < pgnos.length; ) {
      let run = 1
      while (run < runFramesMax && i + run < pgnos.length && frames[i + run] === frames[i]! + run) run++
      this.#read('capture.read-pages', buffer, frames[i]!, run)
      for (let k = 0; k < run; k++) {
        const offset = k * this.#frameBytes
        const pgno = pgnos[i + k]!
        if (buffer.readUInt32BE(offset) !== pgno) throw this.#corrupt(frames[i + k]!)
        visit(pgno, buffer, offset + FRAME_HEADER_BYTES)
      }
      i += run
    }
  }

  #corrupt(frame: number): ClusterError {
    return this.#damaged(`frame ${frame} does not verify`)
  }

  #damaged(reason: string): ClusterError {
    return new ClusterError('CORRUPT_DATA', `${this.#files.walPath}: ${reason}`, {
      details: { file: this.#files.walPath },
      hint: 'A disk error, or a program that wrote to the file without SQLite. Restart the node: it compares every page.',
    })
  }
}

function allocate(byteLength: number): { readonly buffer: Buffer; readonly words: Uint32Array } {
  const memory = new ArrayBuffer(byteLength)
  return { buffer: Buffer.from(memory), words: new Uint32Array(memory) }
}
