/**
 * Whether page 1 of a database counts as a rollback-journal primary has it (sqlite-format/first-page.ts).
 *
 * Nobody keeps that: of the two pages that it can be, one has the checksum that is known of page 1.
 */
import type { Disk } from '../files/disk.ts'
import { PageCrc } from '../ltx/page-checksum.ts'
import type { PageChecksums } from '../ltx/page-checksums.ts'
import { journalModeOf, setJournalMode } from '../sqlite-format/first-page.ts'
import { type PinnedPages, readBlocks } from './page-source.ts'

/** The pages as those checksums count them. */
export function countedAs(disk: Disk, pages: PinnedPages, checksums: PageChecksums): PinnedPages {
  if (pages.pageCount === 0 || checksums.pageCount === 0) return pages
  const page = readFirstPage(disk, pages)
  const isCounted = (): boolean => {
    const [high, low] = checksumOf(page)
    return checksums.high(1) === high && checksums.low(1) === low
  }
  if (journalModeOf(page, 0) !== 'wal' || isCounted()) return pages
  setJournalMode(page, 0, 'rollback')
  return isCounted() ? { ...pages, isRollback: true } : pages
}

/** The page checksums with page 1 as a rollback-journal primary would have it; `undefined` when it cannot be one's. */
export function asOfRollback(disk: Disk, pages: PinnedPages, checksums: PageChecksums): PageChecksums | undefined {
  if (pages.pageCount === 0) return undefined
  const page = readFirstPage(disk, pages)
  if (journalModeOf(page, 0) !== 'wal') return undefined
  setJournalMode(page, 0, 'rollback')
  const [high, low] = checksumOf(page)
  const other = checksums.clone()
  other.set(1, high, low)
  return other
}

export function readFirstPage(disk: Disk, pages: PinnedPages): Buffer {
  const [block] = readBlocks(disk, pages, 1, 1)
  return Buffer.from(block!.bytes)
}

function checksumOf(page: Buffer): readonly [high: number, low: number] {
  const crc = new PageCrc(page.length)
  crc.compute(1, new DataView(page.buffer, page.byteOffset, page.byteLength), 0)
  return [crc.high, crc.low]
}
