/**
 * Turns the bytes of an LTX snapshot into a plain database file beside the database, on the main thread; or those of a
 * difference to the database that is here (`openDifferenceSpool`) into a file that holds only the pages that differ, each at its place.
 *
 * The file is in WAL mode, whatever its primary is in (sqlite-format/first-page.ts).
 * Promises: `finish` answers only with a file that is whole, verified (file checksum, database checksum) and durable under
 * its name; whatever else happens leaves no file. One call works on about a MiB before it lets others have their turn.
 * Writing and syncing happen in the thread pool beside it: what was written is synced every few MiB, so that the end need
 * not wait for all of it, and `data` asks for a pause while too many writes are under way.
 * Memory: a few write buffers and the page checksums.
 * After a crash: a file remains in the spool directory, which is emptied at the next start.
 */
import { randomUUID } from 'node:crypto'
import path from 'node:path'
import { assert } from '../base/assert.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { Disk } from '../files/disk.ts'
import type { LtxHeader, LtxTrailer } from '../ltx/ltx-header.ts'
import { LtxStreamReader } from '../ltx/ltx-stream-reader.ts'
import { PageChecksums } from '../ltx/page-checksums.ts'
import type { Position } from '../position/position.ts'
import { journalModeOf, setJournalMode } from '../sqlite-format/first-page.ts'
import { lockPage } from '../sqlite-format/lock-page.ts'

export interface ReceivedSnapshot {
  /** Path of a plain database file, with holes where a difference has no page; it now belongs to the caller. */
  readonly databaseFile: string
  /** The file has only the pages that differ from the base. */
  readonly isDifference: boolean
  readonly checksums: PageChecksums
  readonly position: Position
  readonly header: LtxHeader
}

/** Bytes in and out that one turn works on. */
const TURN_BYTES = 1024 * 1024
/** Compressed input is taken in small pieces: LZ4 makes up to 255 times as much of them. */
const PIECE_BYTES = 32 * 1024
const WRITE_BYTES = 1024 * 1024
/** Writes under way above which `data` asks its caller to wait. One turn may add a few more. */
const WRITES_MAX = 2
const SYNC_EVERY_BYTES = 32 * 1024 * 1024

export class SnapshotReceiver {
  readonly #disk: Disk
  readonly #base: PageChecksums | undefined
  readonly #file: string
  readonly #reader: LtxStreamReader
  /** Buffers whose write is done. */
  readonly #spare: Buffer<ArrayBuffer>[] = []
  #buffer = Buffer.allocUnsafeSlow(WRITE_BYTES)
  #fd: number | undefined
  #header: LtxHeader | undefined
  #checksums: PageChecksums | undefined
  #position: Position | undefined
  /** Where in the file the buffer will be written, and how full it is. */
  #bufferAt = 0
  #buffered = 0
  #writtenBytes = 0
  #unsyncedBytes = 0
  #isSyncing = false
  #writesUnderWay = 0
  /** What the thread pool does with the file, writes and syncs. */
  readonly #aside = new Set<Promise<void>>()
  #failure: unknown
  #isEnded = false

  /**
   * @param spoolDirectory made when it does not exist
   * @param base page checksums of the database that a difference may lead on from; they must not change meanwhile
   */
  constructor(disk: Disk, spoolDirectory: string, base?: PageChecksums) {
    this.#disk = disk
    this.#base = base
    this.#file = path.join(spoolDirectory, `received-${randomUUID()}`)
    this.#reader = new LtxStreamReader({
      header: (header) => this.#begin(header),
      page: (pgno, bytes, high, low) => this.#addPage(pgno, bytes, high, low),
      end: (trailer) => this.#verified(trailer),
    })
    disk.makeDirectory('snapshot.receive', spoolDirectory)
    this.#fd = disk.open('snapshot.receive', this.#file, 'wx+')
  }

  /**
   * The next bytes, as many as came. The next call may follow when the answer, if it is a promise, has resolved.
   * Throws or rejects with `CORRUPT_DATA` or `STORAGE_FAILED`; then, as after `abort`, nothing is left.
   */
  data(chunk: Buffer): void | Promise<void> {
    const end = this.#takeSome(chunk, 0)
    return end === chunk.length && this.#writesUnderWay <= WRITES_MAX ? undefined : this.#takeRest(chunk, end)
  }

  /** To be called when all bytes were given. Rejects as `data` does. */
  async finish(): Promise<ReceivedSnapshot> {
    this.#requireRunning()
    try {
      this.#reader.finish()
      this.#flush()
      await this.#idle()
      const { pageSize, commit } = this.#header!
      // The last page may be the lock page, which was not written.
      this.#disk.truncate('snapshot.receive', this.#fd!, pageSize * commit)
      this.#startSync()
      await this.#idle()
      if (this.#failure !== undefined) throw this.#failure
      this.#requireRunning()
      this.#isEnded = true
      this.#close()
    } catch (error) {
      this.abort()
      throw error
    }
    const { checksums, position, header } = {
      checksums: this.#checksums,
      position: this.#position,
      header: this.#header,
    }
    assert(
      checksums !== undefined && position !== undefined && header !== undefined,
      'a whole LTX has header and trailer',
    )
    return { databaseFile: this.#file, isDifference: header.minTxid !== 1n, checksums, position, header }
  }

  /** Gives up and removes the file. Does nothing after `finish` or another `abort`. */
  abort(): void {
    if (this.#isEnded) return
    this.#isEnded = true
    this.#close()
    try {
      this.#disk.remove('snapshot.receive', this.#file)
    } catch {
      // What ended the snapshot is the error to tell; the spool directory is emptied at the next start.
    }
  }

  async #takeRest(chunk: Buffer, from: number): Promise<void> {
    for (let at = from; ; at = this.#takeSome(chunk, at)) {
      while (this.#writesUnderWay > WRITES_MAX) await Promise.race(this.#aside)
      if (at === chunk.length) return
      await new Promise((resolve) => setImmediate(resolve))
    }
  }

  /** Works for one turn and answers how far it came. */
  #takeSome(chunk: Buffer, from: number): number {
    this.#requireRunning()
    try {
      if (this.#failure !== undefined) throw this.#failure
      let at = from
      const writtenBefore = this.#writtenBytes
      while (at < chunk.length && Math.max(at - from, this.#writtenBytes - writtenBefore) < TURN_BYTES) {
        const end = Math.min(chunk.length, at + PIECE_BYTES)
        this.#reader.push(chunk.subarray(at, end))
        at = end
      }
      return at
    } catch (error) {
      this.abort()
      throw error
    }
  }

  #begin(header: LtxHeader): void {
    this.#header = header
    if (header.minTxid === 1n) {
      this.#checksums = new PageChecksums(header.pageSize)
      return
    }
    const base = this.#base
    if (base === undefined) throw corrupt(`an LTX from TXID ${header.minTxid} on is not a snapshot`)
    if (header.pageSize !== base.pageSize || header.preApplyChecksum !== base.checksum)
      throw corrupt('a difference leads on from another database than the one that is here')
    this.#checksums = base.clone()
  }

  #addPage(pgno: number, bytes: Buffer, high: number, low: number): void {
    // Every page beyond the end is sent, so the next one is never far; a wrong number must not ask for endless memory.
    if (pgno > this.#checksums!.pageCount + 2) throw corrupt(`page ${pgno} follows page ${this.#checksums!.pageCount}`)
    const at = (pgno - 1) * bytes.length
    if (at !== this.#bufferAt + this.#buffered || this.#buffered + bytes.length > WRITE_BYTES) {
      this.#flush()
      this.#bufferAt = at
    }
    this.#buffer.set(bytes, this.#buffered)
    // Its checksum stays that of the page as it came.
    if (pgno === 1 && journalModeOf(bytes, 0) === 'rollback') setJournalMode(this.#buffer, this.#buffered, 'wal')
    this.#buffered += bytes.length
    this.#checksums!.set(pgno, high, low)
  }

  #verified(trailer: LtxTrailer): void {
    const { commit, maxTxid, pageSize } = this.#header!
    const checksums = this.#checksums!
    if (commit < checksums.pageCount) checksums.truncate(commit)
    else if (commit === lockPage(pageSize)) checksums.set(commit, 0, 0)
    if (checksums.pageCount !== commit) throw corrupt(`of ${commit} pages it has ${checksums.pageCount}`)
    if (checksums.checksum !== trailer.postApplyChecksum) throw corrupt('its pages do not make its checksum')
    this.#position = { txid: maxTxid, checksum: trailer.postApplyChecksum }
  }

  #flush(): void {
    const length = this.#buffered
    const buffer = this.#buffer
    this.#buffer = this.#spare.pop() ?? Buffer.allocUnsafeSlow(WRITE_BYTES)
    this.#writesUnderWay++
    const written = this.#disk.writeAside('snapshot.receive-write', this.#fd!, buffer, 0, length, this.#bufferAt)
    this.#follow(written, () => {
      this.#writesUnderWay--
      this.#spare.push(buffer)
    })
    this.#bufferAt += length
    this.#buffered = 0
    this.#writtenBytes += length
    this.#unsyncedBytes += length
    if (this.#unsyncedBytes >= SYNC_EVERY_BYTES) this.#startSync()
  }

  #startSync(): void {
    if (this.#isSyncing) return
    this.#isSyncing = true
    this.#unsyncedBytes = 0
    this.#follow(this.#disk.dataSync('snapshot.receive-sync', this.#fd!), () => {
      this.#isSyncing = false
    })
  }

  /** Remembers a failure for the next call, and lets `#close` wait. */
  #follow(work: Promise<void>, ended: () => void): void {
    const aside: Promise<void> = work
      .catch((error: unknown) => {
        this.#failure ??= error
      })
      .finally(() => {
        this.#aside.delete(aside)
        ended()
        if (this.#isEnded) this.#close()
      })
    this.#aside.add(aside)
  }

  async #idle(): Promise<void> {
    while (this.#aside.size > 0) await Promise.all(this.#aside)
  }

  /** Closes the file, when the thread pool has done with it: the number could be another file's by then. */
  #close(): void {
    if (this.#aside.size > 0 || this.#fd === undefined) return
    const fd = this.#fd
    this.#fd = undefined
    this.#disk.close('snapshot.receive', fd)
  }

  #requireRunning(): void {
    if (this.#isEnded) throw new ClusterError('CLOSED', 'the snapshot receiver has ended')
  }
}

function corrupt(reason: string): ClusterError {
  return new ClusterError('CORRUPT_DATA', `snapshot: ${reason}`)
}
