/**
 * Reads the pages of one pinned state of a live database: each from the `-wal` frame that the map names, else from the
 * main file.
 *
 * Relies on: descriptors that `LiveFiles` opened, given as numbers, because opening and closing these files by path would
 * drop SQLite's locks (so this works in a worker thread, too); a read transaction or the write lock that holds the state
 * for as long as it is read. A checkpoint may run meanwhile: it writes only pages that the map finds in the WAL.
 * Order: pages are asked for in ascending order, so the map is merged, not searched.
 */
import { ClusterError } from '../errors/cluster-error.ts'
import type { Disk } from '../files/disk.ts'
import { setJournalMode } from '../sqlite-format/first-page.ts'
import { lockPage } from '../sqlite-format/lock-page.ts'
import { FRAME_HEADER_BYTES, frameOffset } from '../sqlite-format/wal-frame.ts'

/** Pages that are current in the WAL, ascending, and the frame (from 1) of each. Compact, and can be moved to a worker. */
export interface PageMap {
  readonly pgnos: Uint32Array<ArrayBuffer>
  readonly frames: Uint32Array<ArrayBuffer>
}

/** A state of a database that somebody holds still. */
export interface PinnedPages {
  readonly databaseFd: number
  readonly walFd: number
  /** In bytes. */
  readonly pageSize: number
  /** Size of the database in pages. */
  readonly pageCount: number
  readonly wal: PageMap
  /** Page 1 is given as its primary, which uses a rollback journal, has it. Default: as it stands in the file. */
  readonly isRollback?: boolean | undefined
}

/** How much is read at a time; pages are never larger than 64 KiB. */
const BLOCK_BYTES = 1024 * 1024

/** @param map page → frame, in any order */
export function packPageMap(map: ReadonlyMap<number, number>): PageMap {
  const pgnos = Uint32Array.from(map.keys()).sort()
  return { pgnos, frames: pgnos.map((pgno) => map.get(pgno)!) }
}

/** The part of the map that speaks of pages `first` to `last`, in memory of its own. */
export function slicePageMap(map: PageMap, first: number, last: number): PageMap {
  const from = lowerBound(map.pgnos, first)
  const to = lowerBound(map.pgnos, last + 1)
  return { pgnos: map.pgnos.slice(from, to), frames: map.frames.slice(from, to) }
}

/** A run of consecutive pages, in memory that the next block overwrites. */
export interface PageBlock {
  readonly firstPgno: number
  readonly count: number
  readonly bytes: Buffer
}

/** Pages `first` to `last` in blocks of about a MiB. The lock page reads as zeros. Throws `CORRUPT_DATA`, `STORAGE_FAILED`. */
export function* readBlocks(disk: Disk, pages: PinnedPages, first: number, last: number): Generator<PageBlock> {
  const pagesPerBlock = BLOCK_BYTES / pages.pageSize
  const buffer = Buffer.allocUnsafeSlow(Math.min(pagesPerBlock, Math.max(0, last - first + 1)) * pages.pageSize)
  let entry = lowerBound(pages.wal.pgnos, first)
  for (let firstPgno = first; firstPgno <= last; firstPgno += pagesPerBlock) {
    const count = Math.min(pagesPerBlock, last - firstPgno + 1)
    const entryEnd = lowerBound(pages.wal.pgnos, firstPgno + count, entry)
    const bytes = buffer.subarray(0, count * pages.pageSize)
    readBlock(disk, pages, { firstPgno, count, bytes }, entry, entryEnd)
    entry = entryEnd
    yield { firstPgno, count, bytes }
  }
}

/** @param entry the first entry of the map that speaks of this block, `entryEnd` the first that does not */
function readBlock(disk: Disk, pages: PinnedPages, block: PageBlock, entry: number, entryEnd: number): void {
  const { databaseFd, walFd, pageSize, wal } = pages
  const { firstPgno, count, bytes } = block
  const isInWal = entryEnd - entry === count
  const offset = (firstPgno - 1) * pageSize
  const got = isInWal ? 0 : disk.read('snapshot.read-database', databaseFd, bytes, 0, bytes.length, offset)
  // The first page that did not come from the main file; the WAL must have it and all that follow.
  let missing = firstPgno + Math.floor(got / pageSize)
  const lock = lockPage(pageSize)
  for (let i = entry; i < entryEnd; i++) {
    const pgno = wal.pgnos[i]!
    const at = (pgno - firstPgno) * pageSize
    const from = frameOffset(wal.frames[i]!, pageSize) + FRAME_HEADER_BYTES
    const read = disk.read('snapshot.read-wal', walFd, bytes, at, pageSize, from)
    if (read < pageSize) throw corrupt(`the WAL ends before frame ${wal.frames[i]} of page ${pgno}`)
    if (missing === lock) missing++
    if (pgno === missing) missing++
  }
  if (missing === lock) missing++
  if (missing < firstPgno + count) throw corrupt(`page ${missing} is neither in the database file nor in the WAL`)
  if (firstPgno === 1 && pages.isRollback === true) setJournalMode(bytes, 0, 'rollback')
  if (lock >= firstPgno && lock < firstPgno + count)
    bytes.fill(0, (lock - firstPgno) * pageSize, (lock - firstPgno + 1) * pageSize)
}

/** Index of the first element ≥ `value`. */
function lowerBound(sorted: Uint32Array, value: number, from = 0): number {
  let low = from
  let high = sorted.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (sorted[middle]! < value) low = middle + 1
    else high = middle
  }
  return low
}

function corrupt(reason: string): ClusterError {
  return new ClusterError('CORRUPT_DATA', `snapshot: ${reason}`)
}
