/**
 * Puts replicated transactions in place: a replica's pages become visible by frames appended to its own WAL and published
 * in the wal-index (wal-tail.ts), as SQLite itself would. Readers, in this process or any other, get SQLite's ordinary
 * snapshots and never stop it; a foreign writer gets SQLITE_BUSY, because the write lock is held from `open` to `close`.
 *
 * Relies on: every record is durable in the log before it is handed in; `checksums` and `position` describe the database
 * as it is when the lock is taken (take the lock first and hash under it, when the last stop was not a clean one).
 * Page 1 of a primary in rollback-journal mode is written as one in WAL mode, and counts as what it came as.
 * Promises: everything is verified before a byte is visible: that records continue the position, and that the page
 * checksums they carry make the checksum of the database they claim. A refused or failed `apply` leaves position,
 * checksums and what readers see as they were. All records of one `apply` become visible at once.
 * After a crash the database stands at some record boundary at or after the last position noted (wal-tail.ts,
 * wal-restart.ts): hash it, find that position in the log, open here with it and apply the rest in one call.
 */
import { assert } from '../base/assert.ts'
import type { Clock } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { LiveFiles } from '../files/live-files.ts'
import type { LtxRecord } from '../ltx/ltx-record.ts'
import type { PageChecksums } from '../ltx/page-checksums.ts'
import { formatChecksum } from '../position/checksum.ts'
import type { Position } from '../position/position.ts'
import { formatTxid } from '../position/txid.ts'
import type { Connection } from '../sqlite/connection.ts'
import { journalModeOf, setJournalMode } from '../sqlite-format/first-page.ts'
import { lockPage } from '../sqlite-format/lock-page.ts'
import type { WalIndexHeader } from '../sqlite-format/wal-index.ts'
import type { ResolvedApplyOptions } from './apply-options.ts'
import type { CheckpointOutcome } from './checkpoint-outcome.ts'
import { checkFirstPage, checkRecord } from './record-rules.ts'
import { ReplicaCheckpointer } from './replica-checkpointer.ts'
import { ReplicaWriteLock } from './replica-write-lock.ts'
import { WalTail } from './wal-tail.ts'

export interface WalApplierParts {
  readonly files: LiveFiles
  /** Runs the checkpoints; never in a transaction, `synchronous` NORMAL or FULL. Nothing else is run on it. */
  readonly checkpointer: Connection
  /** Page checksums of the database as it is now; changed by `apply`. */
  readonly checksums: PageChecksums
  /** Where the database is now. */
  readonly position: Position
  readonly pageSize: number
  readonly options: ResolvedApplyOptions
  readonly clock: Clock
  /**
   * Acquired before the database was hashed, so that nobody wrote in between. Without it `open` takes the lock, without
   * waiting for others.
   */
  readonly lock?: ReplicaWriteLock | undefined
}

/** Pages of a snapshot, to replace what differs. */
export interface ReplacementPages {
  /** Pages that differ from what is here, ascending. */
  readonly pgnos: Uint32Array
  /** Puts one page into `target` at `offset`. Called once for each page, in order. */
  read(pgno: number, target: Buffer, offset: number): void
  /** Size of the database in pages afterwards. */
  readonly commit: number
  /** Page checksums afterwards; from then on the applier's own. */
  readonly checksums: PageChecksums
  /** Position afterwards. */
  readonly position: Position
}

/** How many bytes of pages `applyPagesInSteps` writes between two turns. */
const STEP_BYTES = 4 * 1024 * 1024

export class WalApplier {
  readonly #lock: ReplicaWriteLock
  readonly #tail: WalTail
  readonly #checkpointer: ReplicaCheckpointer
  readonly #pageSize: number
  #checksums: PageChecksums
  #position: Position
  /** An `applyPagesInSteps` is under way. */
  #isReplacing = false

  private constructor(parts: WalApplierParts, lock: ReplicaWriteLock, tail: WalTail) {
    const { files, checkpointer: connection, pageSize, options, clock } = parts
    this.#lock = lock
    this.#tail = tail
    this.#checkpointer = new ReplicaCheckpointer({ files, connection, tail, pageSize, options, clock })
    this.#pageSize = pageSize
    this.#checksums = parts.checksums
    this.#position = parts.position
  }

  /**
   * Takes the write lock and loads the wal-index.
   * @throws ClusterError as `ReplicaWriteLock.take`; `CORRUPT_DATA` when the WAL does not belong to its index
   */
  static open(parts: WalApplierParts): WalApplier {
    assert(parts.checksums.pageSize === parts.pageSize, 'page checksums of another page size')
    const lock = parts.lock ?? ReplicaWriteLock.take(parts.files, parts.checkpointer)
    try {
      const header = lock.readHeader()
      assert(header !== undefined, 'the wal-index header became invalid under the write lock')
      return new WalApplier(parts, lock, WalTail.load(parts.files, parts.pageSize, header))
    } catch (error) {
      lock.release()
      throw error
    }
  }

  /** Where the database is: what a reader that begins now sees. */
  get position(): Position {
    return this.#position
  }

  /** Page checksums at `position`. */
  get checksums(): PageChecksums {
    return this.#checksums
  }

  /** False after a failure half-way: give the write lock back, so that SQLite can put the index right, and open again. */
  get isUsable(): boolean {
    return this.#tail.isUsable
  }

  /** The wal-index header as it stands; any commit after `close` shows in it. */
  get header(): WalIndexHeader {
    const header = this.#lock.readHeader()
    assert(header !== undefined, 'the wal-index header became invalid under the write lock')
    return header
  }

  /** Frames in the WAL; 0 when it is empty. */
  get walFrames(): number {
    return this.#tail.mxFrame
  }

  /** Size of the WAL in bytes; 0 when it is empty. */
  get walBytes(): number {
    return this.#tail.bytes
  }

  /**
   * The WAL is above its hard limit, or large while a file is being synced: call `checkpoint` in later turns of the event
   * loop until this is false before applying more.
   */
  get needsPause(): boolean {
    return this.#checkpointer.needsPause
  }

  /**
   * Applies records in order and makes them visible as one new version.
   * @throws ClusterError `POSITION_DIVERGED` when a record does not continue the one before, `CORRUPT_DATA` when its
   * checksums do not add up, `UNSUPPORTED_RECORD`, `STORAGE_FAILED`; `DATABASE_STOPPED` after a failure half-way
   */
  apply(records: readonly LtxRecord[]): void {
    this.#assertReady()
    const last = records.at(-1)
    if (last === undefined) return
    this.#checksums.beginUndo()
    try {
      this.#verify(records)
      for (const record of records) this.#addFrames(record)
      if (this.#tail.addedFrames > 0) this.#tail.publish(last.commit)
    } catch (error) {
      this.#tail.discard()
      this.#checksums.undo()
      throw error
    }
    this.#checksums.commitUndo()
    this.#position = last.postApply
  }

  /**
   * Replaces the pages that differ by those of a snapshot, in one commit. Blocks as long as the copying takes.
   * @throws ClusterError `CORRUPT_DATA` when `pgnos` misses a page that differs, or the checksums are not those of
   * `position`; else as `apply`
   */
  applyPages(pages: ReplacementPages): void {
    const steps = this.applyPagesInSteps(pages)
    while (steps.next().done !== true);
  }

  /** The same in steps of a few milliseconds. Until it is done nothing else may be applied; `return()` gives it up. */
  *applyPagesInSteps(pages: ReplacementPages): Generator<void, void, void> {
    this.#assertReady()
    this.#verifyReplacement(pages)
    const { pgnos, commit } = pages
    const stepPages = Math.max(1, Math.floor(STEP_BYTES / this.#pageSize))
    this.#isReplacing = true
    try {
      for (let i = 0; i < pgnos.length; i++) {
        if (i > 0 && i % stepPages === 0) yield
        this.#tail.addRead(pgnos[i]!, i === pgnos.length - 1 ? commit : 0, (pgno, target, offset) => {
          pages.read(pgno, target, offset)
          if (pgno === 1 && checkFirstPage(target, offset, 'the snapshot') === 'rollback')
            setJournalMode(target, offset, 'wal')
        })
      }
      if (pgnos.length > 0) this.#tail.publish(commit)
      this.#checksums = pages.checksums
      this.#position = pages.position
    } finally {
      this.#tail.discard()
      this.#isReplacing = false
    }
  }

  /** Resolves when no sync of the files is under way (see `checkpoint`). */
  settled(): Promise<void> {
    return this.#checkpointer.settled()
  }

  /**
   * Keeps the WAL small; call it after each `apply`. It does nothing below the soft limit.
   * @param options.force act at once, whatever the size of the WAL and without syncing aside, for instance before closing
   * @throws SqliteError, ClusterError `STORAGE_FAILED` from the disk
   */
  checkpoint(options: { readonly force?: boolean | undefined } = {}): CheckpointOutcome {
    this.#assertReady()
    return this.#checkpointer.run(options.force ?? false)
  }

  /** Gives the write lock back. Idempotent. Files and connections stay open. After `settled()` no descriptor is in use. */
  close(): void {
    this.#lock.release()
  }

  #assertReady(): void {
    this.#lock.assertHeld()
    this.#tail.assertUsable()
    assert(!this.#isReplacing, 'a snapshot is being applied')
  }

  /** Moves the page checksums on, record by record. */
  #verify(records: readonly LtxRecord[]): void {
    let position = this.#position
    for (const record of records) {
      checkRecord(record, position, this.#pageSize, this.#checksums.pageCount)
      const computed = this.#checksums.apply(record.pgnos(), record.pageChecksums, record.commit)
      if (computed !== record.postApply.checksum)
        throw new ClusterError('CORRUPT_DATA', `transaction ${formatTxid(record.txid)} does not lead to its checksum`, {
          details: {
            txid: formatTxid(record.txid),
            expected: formatChecksum(record.postApply.checksum),
            computed: formatChecksum(computed),
          },
          hint: 'This database or the transaction is damaged. The node fetches a snapshot.',
        })
      position = record.postApply
    }
  }

  #addFrames(record: LtxRecord): void {
    const { pageCount, commit, bytes } = record
    const forbidden = lockPage(this.#pageSize)
    for (let i = 0; i < pageCount; i++) {
      const pgno = record.pgno(i)
      assert(pgno !== forbidden, 'a record with the lock page')
      const size = i === pageCount - 1 ? commit : 0
      const from = record.pageOffset(i)
      if (pgno !== 1 || journalModeOf(bytes, from) === 'wal') this.#tail.add(pgno, size, bytes, from)
      else
        this.#tail.addRead(pgno, size, (_pgno, target, offset) => {
          bytes.copy(target, offset, from, from + this.#pageSize)
          setJournalMode(target, offset, 'wal')
        })
    }
  }

  /** Page by page: what is not replaced must be equal already. */
  #verifyReplacement({ pgnos, commit, checksums, position }: ReplacementPages): void {
    assert(checksums !== this.#checksums && checksums.pageSize === this.#pageSize, 'page checksums of another database')
    assert(commit > 0 && checksums.pageCount === commit, `a snapshot of ${commit} pages`)
    assert(pgnos.length > 0 || commit === this.#checksums.pageCount, 'another size, but no page differs')
    if (checksums.checksum !== position.checksum)
      throw new ClusterError('CORRUPT_DATA', 'the pages of a snapshot do not make its checksum', {
        details: { expected: formatChecksum(position.checksum), computed: formatChecksum(checksums.checksum) },
      })
    const forbidden = lockPage(this.#pageSize)
    let next = 0
    for (let pgno = 1; pgno <= commit; pgno++) {
      if (pgnos[next] === pgno) {
        assert(pgno !== forbidden, 'a snapshot with the lock page')
        next++
        continue
      }
      const isEqual =
        this.#checksums.high(pgno) === checksums.high(pgno) && this.#checksums.low(pgno) === checksums.low(pgno)
      if (isEqual) continue
      throw new ClusterError('CORRUPT_DATA', `page ${pgno} differs from the snapshot, but is not among its pages`, {
        details: { pgno },
      })
    }
    assert(next === pgnos.length, 'pages of a snapshot are ascending and within it')
  }
}
