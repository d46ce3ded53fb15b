/**
 * What a database and its log say about each other when a node opens them.
 *
 * Two ways in:
 * - After a clean close the saved state names the file exactly (inode, size, times) and the WAL is empty: position and page
 *   checksums are trusted.
 * - Otherwise every page is hashed, and the rolling checksum tells where the file stands,
 *   because a published version always ends at a record boundary. (So it does with page 1 as a primary in rollback-journal mode has it.) The log may be ahead of it; what is then missing is applied
 *   by the caller. A checksum that no record has means commits that died before they were logged, or another history. When the
 *   WAL still holds the newest record, or follows the one that held it, or leads through the state that the log ends with
 *   (state-in-wal.ts), it holds what came after; hashing the database as of that record proves that nothing else is different.
 *
 * Relies on: the caller holds the write lock until it has decided; the log's torn tail was cut before.
 */
import { livePageMap } from '../../capture/live-page-map.ts'
import { type BrokenReason, headerNow, openCursor } from '../../capture/wal-continuity.ts'
import { cursorAtStart, type WalCursor } from '../../capture/wal-cursor.ts'
import { sameIdentity } from '../../files/disk.ts'
import type { LiveFiles } from '../../files/live-files.ts'
import type { SavedState } from '../../log/saved-state.ts'
import type { TransactionLog } from '../../log/transaction-log.ts'
import { isClusterError } from '../../errors/cluster-error.ts'
import type { LtxRecord } from '../../ltx/ltx-record.ts'
import type { PageChecksums } from '../../ltx/page-checksums.ts'
import { type Position, samePosition } from '../../position/position.ts'
import { asOfRollback } from '../../snapshot/first-page.ts'
import { hashPages } from '../../snapshot/page-hasher.ts'
import { packPageMap, type PinnedPages } from '../../snapshot/page-source.ts'
import { findStateInWal } from './state-in-wal.ts'

export type Standing =
  /** The database is in this state of the log. */
  | { readonly kind: 'known'; readonly position: Position }
  /** The log has never held anything. */
  | { readonly kind: 'unlogged' }
  /** The log has no record after which the database was like this. */
  | {
      readonly kind: 'unknown'
      /** Of the database as it is. */
      readonly now: PageChecksums
      /** Behind which frame of the WAL came what the log does not have; or why nothing can be said of that. */
      readonly continuation: Continuation | BrokenReason
    }

export interface Continuation {
  /** Right after the newest record. */
  readonly cursor: WalCursor
  /** The WAL, or the one that this one follows, held that record: the node that wrote it is this one, as a primary. */
  readonly isOwnRecord: boolean
  /**
   * The page checksums of the database as of the newest record, which they prove. `undefined` when it cannot be looked at any
   * more, because what came later was already copied into the file, or because the file is damaged.
   */
  readonly before: PageChecksums | undefined
}

export interface StandingQuestion {
  readonly files: LiveFiles
  readonly log: TransactionLog
  readonly pageSize: number
  readonly saved: SavedState | undefined
}

export interface FoundStanding {
  readonly standing: Standing
  readonly checksums: PageChecksums
  /** What they are when the pages are those of a primary in rollback-journal mode. */
  readonly ofRollback?: PageChecksums | undefined
}

export async function findStanding(question: StandingQuestion): Promise<FoundStanding> {
  const { files, log, pageSize } = question
  const header = headerNow(files)
  const trusted = trustedState(question, header.mxFrame)
  if (trusted !== undefined) {
    return { standing: { kind: 'known', position: trusted.position }, checksums: trusted.checksums }
  }
  const inFile = Math.floor(files.disk.sizeBytes('store.size', files.databaseFd) / pageSize)
  // An empty WAL's index does not know the size of the database.
  const pages = pinnedNow(files, pageSize, header.mxFrame > 0 ? header.pageCount : inFile)
  const checksums = await hashPages(pages)
  if (log.tail.position.txid === 0n) return { standing: { kind: 'unlogged' }, checksums }
  const position = log.findChecksum(checksums.checksum)
  if (position !== undefined && samePosition(position, log.tail.position)) {
    return { standing: { kind: 'known', position }, checksums }
  }
  const ofRollback = asOfRollback(files.disk, pages, checksums)
  const byRollback = ofRollback && log.findChecksum(ofRollback.checksum)
  const isAtTail = byRollback !== undefined && samePosition(byRollback, log.tail.position)
  if (ofRollback !== undefined && byRollback !== undefined && (isAtTail || position === undefined)) {
    return { standing: { kind: 'known', position: byRollback }, checksums: ofRollback }
  }
  const continuation = await findContinuation(question, inFile, position === undefined)
  // As it once was: because the file is behind the log, or because commits after the newest record brought that state back.
  const isLater = typeof continuation !== 'string' && continuation.isOwnRecord && continuation.before !== undefined
  if (position !== undefined && !isLater) return { standing: { kind: 'known', position }, checksums }
  return { standing: { kind: 'unknown', now: checksums, continuation }, checksums, ofRollback }
}

/**
 * Looks for the newest record's place: in the WAL, where the record itself names it, or as the state of the database.
 * @param isLost the log has no state like this one, so it is worth looking through the whole WAL
 */
async function findContinuation(
  { files, log, pageSize }: StandingQuestion,
  inFile: number,
  isLost: boolean,
): Promise<Continuation | BrokenReason> {
  const { databaseFd, walFd } = files
  const wanted = log.tail.position.checksum
  const stateAt = (pageCount: number, frame: number): Promise<PageChecksums | undefined> => {
    const wal = packPageMap(livePageMap(files, frame, 0))
    return undefinedIfCorrupt(hashPages({ databaseFd, walFd, pageSize, pageCount, wal }))
  }
  const lastRecord = newestRecord(log)
  const continuity = openCursor(files, lastRecord, pageSize)
  if (lastRecord !== undefined && continuity.kind === 'continues') {
    const state = await stateAt(lastRecord.commit, continuity.cursor.frame)
    const before = state?.checksum === wanted ? state : undefined
    return { cursor: continuity.cursor, isOwnRecord: true, before }
  }
  const reason = continuity.kind === 'broken' ? continuity.reason : 'no-record'
  const header = headerNow(files)
  if (header.mxFrame === 0) return reason
  // SQLite counts the first salt up when it restarts a WAL: the record was captured from the generation before this one.
  const isOwnRecord = lastRecord !== undefined && header.salt1 === (lastRecord.header.walSalt1 + 1) >>> 0
  if (!isOwnRecord && !isLost) return reason
  const state = await stateAt(inFile, 0)
  if (state === undefined) return reason
  if (isOwnRecord) {
    // All frames of this generation came after the record.
    return state.checksum === wanted ? { cursor: cursorAtStart(header), isOwnRecord, before: state } : reason
  }
  const found = await undefinedIfCorrupt(findStateInWal(files, state, header, wanted))
  return found === undefined ? reason : { cursor: found.cursor, isOwnRecord, before: found.checksums }
}

function newestRecord(log: TransactionLog): LtxRecord | undefined {
  try {
    return log.recordCount === 0 ? undefined : log.readRecord(log.tail.position.txid)?.record
  } catch (error) {
    if (isClusterError(error, 'CORRUPT_DATA')) return undefined // damaged since it was verified at the start
    throw error
  }
}

/** A file too short for the state is not in it. */
async function undefinedIfCorrupt<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work
  } catch (error) {
    if (isClusterError(error, 'CORRUPT_DATA')) return undefined
    throw error
  }
}

/** The pages of a database that nobody writes to, as a reader that begins now would see them. */
export function pinnedNow(files: LiveFiles, pageSize: number, pageCount: number): PinnedPages {
  // No frame counts as copied back: whoever checkpoints meanwhile changes only pages that are read from the WAL.
  const wal = packPageMap(livePageMap(files, headerNow(files).mxFrame, 0))
  return { databaseFd: files.databaseFd, walFd: files.walFd, pageSize, pageCount, wal }
}

/** The saved state, when it describes exactly this file and the log's end. */
function trustedState(question: StandingQuestion, mxFrame: number): SavedState | undefined {
  const { files, saved, log, pageSize } = question
  if (saved === undefined || mxFrame !== 0 || saved.pageSize !== pageSize) return undefined
  if (!sameIdentity(saved.identity, files.disk.identity('store.look', files.databasePath))) return undefined
  return samePosition(saved.position, log.tail.position) ? saved : undefined
}
