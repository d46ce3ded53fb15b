/**
 * What a database and its log say about each other when a node opens them.
 *
 * Two ways in:
 * - After a clean close the saved state names the file exactly (inode, size, times) and the WAL is empty: position and page
 *   checksums are trusted.
 * - Otherwise every page is hashed, and the rolling checksum tells where the file stands,
 *   because a published version always ends at a record boundary. The log may be ahead of it; what is then missing is applied
 *   by the caller. A checksum that no record has means commits that died before they were logged, or another history. The file
 *   without its WAL may then still be as the log left it: that proves that the WAL holds what came after, and nothing else.
 *
 * Relies on: the caller holds the write lock until it has decided; the log's torn tail was cut before.
 */
import { livePageMap } from '../../capture/live-page-map.ts'
import { headerNow } from '../../capture/wal-continuity.ts'
import { sameIdentity } from '../../files/disk.ts'
import type { LiveFiles } from '../../files/live-files.ts'
import type { SavedState } from '../../log/saved-state.ts'
import type { TransactionLog } from '../../log/transaction-log.ts'
import type { PageChecksums } from '../../ltx/page-checksums.ts'
import { type Position, samePosition } from '../../position/position.ts'
import { hashPages } from '../../snapshot/page-hasher.ts'
import { packPageMap, type PinnedPages } from '../../snapshot/page-source.ts'

export type Standing =
  /** The database is in this state of the log. */
  | { readonly kind: 'known'; readonly position: Position }
  /** The log has never held anything. */
  | { readonly kind: 'unlogged' }
  /** The log has no record after which the database was like this. */
  | {
      readonly kind: 'unknown'
      /** Without the frames of its WAL it is as after the newest record. */
      readonly isFileAtTail: boolean
    }

export interface StandingQuestion {
  readonly files: LiveFiles
  readonly log: TransactionLog
  readonly pageSize: number
  readonly saved: SavedState | undefined
}

export async function findStanding(
  question: StandingQuestion,
): Promise<{ standing: Standing; checksums: PageChecksums }> {
  const { files, log, pageSize } = question
  const header = headerNow(files)
  const trusted = trustedState(question, header.mxFrame)
  if (trusted !== undefined) {
    return { standing: { kind: 'known', position: trusted.position }, checksums: trusted.checksums }
  }
  const inFile = Math.floor(files.disk.sizeBytes('store.size', files.databaseFd) / pageSize)
  const { databaseFd, walFd } = files
  // An empty WAL's index does not know the size of the database.
  const checksums = await hashPages(pinnedNow(files, pageSize, header.mxFrame > 0 ? header.pageCount : inFile))
  if (log.tail.position.txid === 0n) return { standing: { kind: 'unlogged' }, checksums }
  const position = log.findChecksum(checksums.checksum)
  if (position !== undefined) return { standing: { kind: 'known', position }, checksums }
  if (header.mxFrame === 0) return { standing: { kind: 'unknown', isFileAtTail: false }, checksums }
  const withoutWal = await hashPages({ databaseFd, walFd, pageSize, pageCount: inFile, wal: packPageMap(new Map()) })
  return { standing: { kind: 'unknown', isFileAtTail: withoutWal.checksum === log.tail.position.checksum }, checksums }
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
