/**
 * The growing end of a replica's WAL: appends frames with SQLite's checksums and makes them visible.
 *
 * Relies on: the write lock (replica-write-lock.ts) from `load` on; nobody else appends, restarts or recovers.
 * Promises: a reader of any process sees the version before a `publish` or the one after it, nothing between.
 * Order: header of a new generation, synced (an old header over new frames would show an old version over a newer
 * database file) · frames · index entries · header copy 2 · header copy 1, which is the moment of visibility, because
 * readers take the first copy and then want the second to be equal.
 * Frames themselves are not synced here: their source is the log, which is durable already, and a checkpoint syncs the
 * WAL before it copies anything.
 *
 * After an error while frames were written nothing has happened; after one in index or header the state on disk is
 * either version and this object refuses to go on: release the lock, let SQLite recover, hash, open again.
 *
 * After a crash, by the last operation that ran:
 *   `apply.write-wal-header`, `apply.sync-wal-header`: an empty new generation, or the old one, wholly backfilled: same content
 *   `apply.write-frames`: the records whose last frame is on disk are complete and become visible with the next recovery
 *   `apply.write-index`: the same; without recovery (other processes live) the version before, remains above are cleared by `load`
 *   `apply.publish-copy2`: the copies differ: the next to come recovers and sees all records
 *   `apply.publish-copy1`: the new version
 * So a database may be ahead of the position somebody noted, at a record boundary, and never behind it.
 */
import { randomBytes } from 'node:crypto'
import { assert } from '../base/assert.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { LiveFiles } from '../files/live-files.ts'
import { FRAME_HEADER_BYTES, FrameWriter, frameOffset } from '../sqlite-format/wal-frame.ts'
import { encodeWalHeader, parseWalHeader, WAL_FORMAT_VERSION, WAL_HEADER_BYTES } from '../sqlite-format/wal-header.ts'
import { encodeWalIndexHeader, WAL_INDEX_HEADER_BYTES, type WalIndexHeader } from '../sqlite-format/wal-index.ts'
import { WalIndexMirror } from './wal-index-mirror.ts'

const CHUNK_BYTES = 1024 * 1024
/** A snapshot's list of pages is not kept. */
const KEPT_PGNOS_MAX = 65536

export class WalTail {
  readonly #files: LiveFiles
  readonly #pageSize: number
  readonly #frameBytes: number
  readonly #mirror: WalIndexMirror
  readonly #chunk: Buffer
  readonly #chunkWords: Uint32Array
  /** What the header in the wal-index says. */
  #published: WalIndexHeader
  /** Of the header in the `-wal` file. */
  #sequence: number
  /** The `-wal` begins with a header of this generation. */
  #hasWalHeader: boolean
  #frames: FrameWriter
  /** Pages of the frames added and not published. */
  #addedPgnos = new Uint32Array(256)
  #addedCount = 0
  /** Frames of those that are still in the chunk only. */
  #bufferedCount = 0
  #failure: unknown

  private constructor(files: LiveFiles, pageSize: number, header: WalIndexHeader, sequence: number) {
    this.#files = files
    this.#pageSize = pageSize
    this.#frameBytes = FRAME_HEADER_BYTES + pageSize
    this.#mirror = new WalIndexMirror(files)
    const memory = new ArrayBuffer(Math.max(1, Math.floor(CHUNK_BYTES / this.#frameBytes)) * this.#frameBytes)
    this.#chunk = Buffer.from(memory)
    this.#chunkWords = new Uint32Array(memory)
    this.#published = header
    this.#sequence = sequence
    this.#hasWalHeader = header.mxFrame > 0
    this.#frames = new FrameWriter(pageSize, header.salt1, header.salt2)
    this.discard()
  }

  /**
   * Takes over the WAL as it stands and clears what a dead writer left in its index.
   * @param header of the wal-index, read under the write lock
   * @throws ClusterError `CORRUPT_DATA` when the WAL file does not belong to the wal-index
   */
  static load(files: LiveFiles, pageSize: number, header: WalIndexHeader): WalTail {
    const bytes = Buffer.alloc(WAL_HEADER_BYTES)
    const count = files.disk.read('apply.read-wal', files.walFd, bytes, 0, bytes.length, 0)
    const walHeader = parseWalHeader(bytes.subarray(0, count))
    if (header.mxFrame > 0) {
      const matches =
        walHeader?.salt1 === header.salt1 && walHeader.salt2 === header.salt2 && walHeader.pageSize === header.pageSize
      if (!matches) throw foreignWal(files, 'its header is of another generation')
      if (header.pageSize !== pageSize)
        throw foreignWal(files, `its pages have ${header.pageSize} bytes, not ${pageSize}`)
      const last = Buffer.alloc(FRAME_HEADER_BYTES)
      files.disk.read('apply.read-wal', files.walFd, last, 0, last.length, frameOffset(header.mxFrame, pageSize))
      if (last.readUInt32BE(16) !== header.frameChecksum1 || last.readUInt32BE(20) !== header.frameChecksum2)
        throw foreignWal(files, 'its last frame is another one')
    }
    const tail = new WalTail(files, pageSize, header, walHeader?.checkpointSequence ?? 0)
    tail.#mirror.load(header.mxFrame)
    return tail
  }

  /** Frames of the WAL that are visible; 0 when it is empty. */
  get mxFrame(): number {
    return this.#published.mxFrame
  }

  /** Bytes of the WAL up to its last visible frame; 0 when it is empty. */
  get bytes(): number {
    return this.mxFrame === 0 ? 0 : frameOffset(this.mxFrame + 1, this.#pageSize)
  }

  /** Frames added and not published. */
  get addedFrames(): number {
    return this.#addedCount
  }

  /** False once an error left the state on disk uncertain. */
  get isUsable(): boolean {
    return this.#failure === undefined
  }

  /** Throws `DATABASE_STOPPED` once an error left the state on disk uncertain. */
  assertUsable(): void {
    if (this.#failure === undefined) return
    throw new ClusterError('DATABASE_STOPPED', `${this.#files.databasePath}: an earlier apply failed half-way`, {
      cause: this.#failure,
      hint: 'The database is opened again through recovery; the cause says what the operating system refused.',
    })
  }

  /** Forgets what was added and not published. */
  discard(): void {
    this.#addedCount = 0
    this.#bufferedCount = 0
    this.#frames.resume(this.#published.frameChecksum1, this.#published.frameChecksum2)
  }

  /**
   * Adds one frame; its bytes reach the file with the chunk it is in.
   * @param commit size of the database in pages when this is the last frame of a transaction, else 0
   * @param source holds the page at `sourceOffset`
   */
  add(pgno: number, commit: number, source: Buffer, sourceOffset: number): void {
    this.#write(this.#nextFrameOffset(), pgno, commit, source, sourceOffset)
  }

  /** The same, with the page put by `read` where it is needed, at once. */
  addRead(pgno: number, commit: number, read: (pgno: number, target: Buffer, offset: number) => void): void {
    const offset = this.#nextFrameOffset()
    const pageOffset = offset + FRAME_HEADER_BYTES
    read(pgno, this.#chunk, pageOffset)
    this.#write(offset, pgno, commit, this.#chunk, pageOffset)
  }

  /** Makes everything that was added visible, as one new version of the database with `pageCount` pages. */
  publish(pageCount: number): void {
    this.#writeChunk()
    const count = this.#addedCount
    const before = this.#published
    const next: WalIndexHeader = {
      ...before,
      change: (before.change + 1) >>> 0,
      pageSize: this.#pageSize,
      mxFrame: before.mxFrame + count,
      pageCount,
      frameChecksum1: this.#frames.checksum1,
      frameChecksum2: this.#frames.checksum2,
    }
    this.#orFail(() => {
      this.#mirror.append(before.mxFrame + 1, this.#addedPgnos, count)
      this.#writeHeader(next, 'apply.publish-copy2', 'apply.publish-copy1')
    })
    this.#published = next
    this.#addedCount = 0
    if (this.#addedPgnos.length > KEPT_PGNOS_MAX) this.#addedPgnos = new Uint32Array(KEPT_PGNOS_MAX)
  }

  /** Publishes an empty WAL with new salts. Only under the locks and conditions of wal-restart.ts. */
  publishEmpty(): void {
    assert(this.#addedCount === 0, 'restart of the WAL between add and publish')
    const next: WalIndexHeader = {
      ...this.#published,
      mxFrame: 0,
      salt1: (this.#published.salt1 + 1) >>> 0,
      salt2: randomBytes(4).readUInt32LE(0),
    }
    this.#orFail(() => this.#writeHeader(next, 'apply.restart-copy2', 'apply.restart-copy1'))
    this.#published = next
    this.#hasWalHeader = false
    this.#mirror.restart()
  }

  #nextFrameOffset(): number {
    if (!this.#hasWalHeader) this.#startGeneration()
    if ((this.#bufferedCount + 1) * this.#frameBytes > this.#chunk.length) this.#writeChunk()
    return this.#bufferedCount * this.#frameBytes
  }

  #write(offset: number, pgno: number, commit: number, source: Buffer, sourceOffset: number): void {
    this.#frames.write(this.#chunk, this.#chunkWords, offset, pgno, commit, source, sourceOffset)
    if (this.#addedCount === this.#addedPgnos.length) {
      const grown = new Uint32Array(this.#addedPgnos.length * 2)
      grown.set(this.#addedPgnos)
      this.#addedPgnos = grown
    }
    this.#addedPgnos[this.#addedCount++] = pgno
    this.#bufferedCount++
  }

  #writeChunk(): void {
    if (this.#bufferedCount === 0) return
    const first = this.mxFrame + this.#addedCount - this.#bufferedCount + 1
    const position = frameOffset(first, this.#pageSize)
    const length = this.#bufferedCount * this.#frameBytes
    this.#files.disk.write('apply.write-frames', this.#files.walFd, this.#chunk, 0, length, position)
    this.#bufferedCount = 0
  }

  #startGeneration(): void {
    let { salt1, salt2 } = this.#published
    if (salt1 === 0 && salt2 === 0) {
      const random = randomBytes(8)
      salt1 = random.readUInt32LE(0)
      salt2 = random.readUInt32LE(4)
    }
    const checkpointSequence = (this.#sequence + 1) >>> 0
    const header = encodeWalHeader({ pageSize: this.#pageSize, checkpointSequence, salt1, salt2 })
    const { disk, walFd } = this.#files
    disk.write('apply.write-wal-header', walFd, header.bytes, 0, header.bytes.length, 0)
    disk.dataSyncNow('apply.sync-wal-header', walFd)
    this.#sequence = checkpointSequence
    this.#frames = new FrameWriter(this.#pageSize, salt1, salt2)
    // Nobody reads these before `mxFrame` is above 0, and then they must be the ones of the WAL header.
    this.#published = {
      ...this.#published,
      salt1,
      salt2,
      bigEndianChecksum: false,
      frameChecksum1: header.checksum1,
      frameChecksum2: header.checksum2,
    }
    this.#hasWalHeader = true
    this.discard()
  }

  #writeHeader(header: WalIndexHeader, secondCopy: string, firstCopy: string): void {
    const { disk, shmFd } = this.#files
    const bytes = encodeWalIndexHeader({ ...header, version: WAL_FORMAT_VERSION, isInit: true })
    disk.write(secondCopy, shmFd, bytes, 0, WAL_INDEX_HEADER_BYTES, WAL_INDEX_HEADER_BYTES)
    disk.write(firstCopy, shmFd, bytes, 0, WAL_INDEX_HEADER_BYTES, 0)
  }

  #orFail(work: () => void): void {
    try {
      work()
    } catch (error) {
      this.#failure = error
      throw error
    }
  }
}

function foreignWal(files: LiveFiles, reason: string): ClusterError {
  return new ClusterError('CORRUPT_DATA', `${files.walPath} does not belong to its wal-index: ${reason}`, {
    hint: 'Something replaced or changed the file. Stop every process that uses it; the node then fetches it again.',
  })
}
