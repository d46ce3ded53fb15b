/**
 * Turns what was committed in SQLite's write-ahead log into LTX records, on the primary.
 *
 * Relies on: `guards` are open since before `cursor` was taken, so that no frame after it can be overwritten; `checksums`
 * and `position` describe the database exactly at `cursor`; nobody else changes them.
 * Promises: each record continues the position before it, and applied to the database at that position gives the database
 * after the commit, byte for byte. One call is bounded by the end of the WAL seen when it began. A call either returns
 * everything it took, or throws and has taken nothing: position, cursor and checksums are as before.
 * Order: the records a call returns are the caller's to log before any WAL frame is given up (see checkpoint-policy.ts).
 *
 * A restart of the WAL shows as new salts. The guard lets at most one go by, and only after everything was captured; that
 * the number of commits in the new generation equals the step of the wal-index's change counter is checked all the same.
 * After the first commit of a new generation the guard moves on, because one on slot 0 would stop every checkpoint.
 *
 * A database without a position (TXID 0) gets everything there is as one record, TXID 1: a snapshot, with all its pages.
 *
 * After a crash: commits that were not captured are still in the WAL; see wal-continuity.ts and `captureMerged`.
 */
import { assert } from '../base/assert.ts'
import type { Clock } from '../base/clock.ts'
import type { LiveFiles } from '../files/live-files.ts'
import { snapshotPageCount } from '../ltx/ltx-page-order.ts'
import type { LtxRecord } from '../ltx/ltx-record.ts'
import type { PageChecksums } from '../ltx/page-checksums.ts'
import type { Position } from '../position/position.ts'
import { ZERO_TXID } from '../position/txid.ts'
import type { WalGuards } from '../sqlite/wal-guards.ts'
import { WalIndexReader } from '../sqlite/wal-index-reader.ts'
import { lockPage } from '../sqlite-format/lock-page.ts'
import { FRAME_HEADER_BYTES, frameOffset } from '../sqlite-format/wal-frame.ts'
import type { WalIndexHeader } from '../sqlite-format/wal-index.ts'
import { livePageMap } from './live-page-map.ts'
import { makeTransactionRecord } from './transaction-record.ts'
import { cursorAtStart, isSameGeneration, type WalCursor } from './wal-cursor.ts'
import {
  type PageVisitor,
  SCANNER_DEFAULTS,
  WalScanner,
  type WalScannerOptions,
  type WalTransaction,
} from './wal-scanner.ts'

export interface WalCaptureParts {
  readonly files: LiveFiles
  /** Open already. */
  readonly guards: WalGuards
  /** Of the database at `cursor`; kept up from here on. */
  readonly checksums: PageChecksums
  /** Of the database at `cursor`. */
  readonly position: Position
  /** In bytes. */
  readonly pageSize: number
  /** Random, not zero; written into every record. */
  readonly nodeId: bigint
  readonly clock: Clock
  /** Everything up to here is captured. */
  readonly cursor: WalCursor
  readonly scanner?: WalScannerOptions | undefined
}

export interface CaptureOptions {
  /**
   * Syncs the `-wal` before it is read, when there is something to read. For commits of other processes, whose
   * `synchronous` is unknown: what is announced must be durable. Default: false.
   */
  readonly syncWalFirst?: boolean | undefined
}

/** What one call has found; becomes the state when the call succeeds. */
interface Work {
  readonly records: LtxRecord[]
  position: Position
  cursor: WalCursor
  /** Change counter of the wal-index at `cursor`; `undefined` when not known. */
  change: number | undefined
  /** A new generation has begun since the guard last moved. */
  isRotationDue: boolean
}

const NOTHING: readonly LtxRecord[] = Object.freeze([])

export class WalCapture {
  readonly #parts: WalCaptureParts
  readonly #walIndex: WalIndexReader
  readonly #scanner: WalScanner
  #position: Position
  #cursor: WalCursor
  #change: number | undefined
  #isRotationDue = false

  constructor(parts: WalCaptureParts) {
    this.#parts = parts
    this.#walIndex = new WalIndexReader(parts.files)
    this.#scanner = new WalScanner(parts.files, parts.pageSize, parts.scanner ?? SCANNER_DEFAULTS)
    this.#position = parts.position
    this.#cursor = parts.cursor
  }

  /** After the last captured record. */
  get position(): Position {
    return this.#position
  }

  get cursor(): WalCursor {
    return this.#cursor
  }

  /** Of the database at `position`. */
  get checksums(): PageChecksums {
    return this.#parts.checksums
  }

  /**
   * Everything committed and not captured yet, one record for each transaction; empty when there is nothing. Needs no lock.
   * @throws ClusterError `CORRUPT_DATA`; `InvariantError` when the WAL contradicts what was captured before
   */
  capture(options: CaptureOptions = {}): readonly LtxRecord[] {
    const header = this.#movedHeader()
    return header === undefined ? NOTHING : this.#run(header, options.syncWalFirst ?? false, false)
  }

  /**
   * The same, as one record: for commits found at a start, whose single states nobody was told of.
   * `undefined` when there is nothing.
   */
  captureMerged(options: CaptureOptions = {}): LtxRecord | undefined {
    const header = this.#movedHeader()
    return header === undefined ? undefined : this.#run(header, options.syncWalFirst ?? false, true)[0]
  }

  /** Does the WAL hold more commits than were captured? One read of 96 bytes. */
  hasUncaptured(): boolean {
    const { mxFrame, salt1, salt2 } = this.#walIndex.header()
    return isSameGeneration(this.#cursor, { salt1, salt2 }) ? mxFrame !== this.#cursor.frame : mxFrame > 0
  }

  /** The header, unless it stands where the last call left it: most calls end here. */
  #movedHeader(): WalIndexHeader | undefined {
    const header = this.#walIndex.header()
    if (header.mxFrame !== this.#cursor.frame || !isSameGeneration(header, this.#cursor)) return header
    this.#assertContinues(header, this.#cursor)
    this.#change = header.change
    return undefined
  }

  #run(header: WalIndexHeader, syncWalFirst: boolean, merge: boolean): readonly LtxRecord[] {
    const { guards, checksums } = this.#parts
    const work: Work = {
      records: [],
      position: this.#position,
      cursor: this.#cursor,
      change: this.#change,
      isRotationDue: this.#isRotationDue,
    }
    checksums.beginUndo()
    try {
      this.#collect(work, header, syncWalFirst, merge)
      // Not inside a rotation of the checkpointer, which moves the guard itself. When SQLite cannot begin a guard now, the
      // next capture tries again: one on slot 0 only holds up checkpoints.
      if (work.isRotationDue && work.records.length > 0 && !merge && !guards.isRotating) {
        work.isRotationDue = !guards.rotate(() => this.#collect(work, this.#walIndex.header(), syncWalFirst, merge))
      }
    } catch (error) {
      checksums.undo()
      throw error
    } finally {
      this.#scanner.end()
    }
    checksums.commitUndo()
    this.#position = work.position
    this.#cursor = work.cursor
    this.#change = work.change
    this.#isRotationDue = work.isRotationDue
    return work.records
  }

  /** @param header the end of this call's work: the WAL may grow meanwhile, and a fast writer must not keep us */
  #collect(work: Work, header: WalIndexHeader, syncWalFirst: boolean, merge: boolean): void {
    const { files, pageSize } = this.#parts
    const isNewGeneration = !isSameGeneration(header, work.cursor)
    if (isNewGeneration) {
      work.cursor = cursorAtStart(header)
      work.isRotationDue = true
    }
    this.#assertContinues(header, work.cursor)
    if (header.mxFrame > work.cursor.frame) {
      assert(header.pageSize === pageSize, `${files.databasePath}: page size ${header.pageSize}, not ${pageSize}`)
      if (syncWalFirst) files.disk.dataSyncNow('capture.sync-wal', files.walFd)
      this.#scan(work, header, merge)
    }
    if (isNewGeneration) this.#assertNothingWasLost(work, header)
    work.change = header.change
  }

  #scan(work: Work, header: WalIndexHeader, merge: boolean): void {
    const scanner = this.#scanner
    scanner.begin(work.cursor, header)
    const isFirst = work.position.txid === ZERO_TXID
    for (;;) {
      const transaction = scanner.next(merge || isFirst)
      if (transaction === undefined) return
      const record = isFirst ? this.#recordAll(work, transaction) : this.#record(work, transaction)
      work.records.push(record)
      work.position = record.postApply
      const { lastFrame, checksum1, checksum2 } = transaction
      work.cursor = { salt1: header.salt1, salt2: header.salt2, frame: lastFrame, checksum1, checksum2 }
    }
  }

  #record(work: Work, transaction: WalTransaction): LtxRecord {
    return makeTransactionRecord({
      ...this.#recordParts(work, transaction),
      pgnos: transaction.pgnos,
      visitPages: (visit) => this.#scanner.visitPages(transaction, visit),
    })
  }

  /** TXID 1: every page of the database, whether these frames hold it, older ones do, or the main file. */
  #recordAll(work: Work, transaction: WalTransaction): LtxRecord {
    const { files, pageSize, checksums } = this.#parts
    assert(checksums.pageCount === 0, `${files.databasePath}: page checksums before the first transaction`)
    const pgnos = new Uint32Array(snapshotPageCount(transaction.commit, pageSize))
    const lock = lockPage(pageSize)
    for (let i = 0; i < pgnos.length; i++) pgnos[i] = i + 1 < lock ? i + 1 : i + 2
    // Nothing beyond these frames is in the main file: a checkpoint stops at the guard's frame.
    const map = livePageMap(files, transaction.lastFrame, 0)
    const page = Buffer.allocUnsafe(pageSize)
    const visitPages = (visit: PageVisitor): void => {
      for (const pgno of pgnos) {
        const frame = map.get(pgno)
        const fd = frame === undefined ? files.databaseFd : files.walFd
        const position = frame === undefined ? (pgno - 1) * pageSize : frameOffset(frame, pageSize) + FRAME_HEADER_BYTES
        const got = files.disk.read('capture.read-pages', fd, page, 0, pageSize, position)
        assert(got === pageSize, `${files.databasePath}: page ${pgno} is neither in the WAL nor in the file`)
        visit(pgno, page, 0)
      }
    }
    return makeTransactionRecord({ ...this.#recordParts(work, transaction), pgnos, visitPages })
  }

  #recordParts(work: Work, transaction: WalTransaction) {
    const { checksums, pageSize, nodeId, clock } = this.#parts
    const timestampMs = Math.floor(clock.nowMs())
    return { transaction, generation: work.cursor, position: work.position, checksums, pageSize, nodeId, timestampMs }
  }

  #assertContinues(header: WalIndexHeader, cursor: WalCursor): void {
    const { databasePath } = this.#parts.files
    assert(header.mxFrame >= cursor.frame, `${databasePath}: the WAL ends before the frames captured from it`)
    if (header.mxFrame !== cursor.frame || cursor.frame === 0) return
    const isSame = header.frameChecksum1 === cursor.checksum1 && header.frameChecksum2 === cursor.checksum2
    assert(isSame, `${databasePath}: the WAL was rewritten behind the frames captured from it`)
  }

  #assertNothingWasLost(work: Work, header: WalIndexHeader): void {
    if (work.change === undefined) return
    const commits = work.cursor.frame === 0 ? 0 : this.#scanner.commits
    const step = (header.change - work.change) >>> 0
    // The counter starts again from 0 when SQLite recovers the wal-index; the step is then "negative" or too small.
    const isLost = step > commits && step < 0x80000000
    assert(!isLost, `${this.#parts.files.databasePath}: ${step} commits were made, only ${commits} are in the new WAL`)
  }
}
