/** Computes the checksums of a range of pages, in steps of about a MiB. */
import type { Disk } from '../files/disk.ts'
import { PageCrc } from '../ltx/page-checksum.ts'
import { lockPage } from '../sqlite-format/lock-page.ts'
import { type PinnedPages, readBlocks } from './page-source.ts'

export interface PageRange {
  readonly pages: PinnedPages
  /** First and last page number. */
  readonly first: number
  readonly last: number
}

/** The checksums in the saved form of `PageChecksums`: upper and lower half of each page, zero for the lock page. */
export type HashedRange = Uint32Array<ArrayBuffer>

export function* hashRange(disk: Disk, { pages, first, last }: PageRange): Generator<number, HashedRange> {
  const { pageSize } = pages
  const halves = new Uint32Array(2 * Math.max(0, last - first + 1))
  const crc = new PageCrc(pageSize)
  const lock = lockPage(pageSize)
  for (const { firstPgno, count, bytes } of readBlocks(disk, pages, first, last)) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    for (let i = 0; i < count; i++) {
      const pgno = firstPgno + i
      if (pgno === lock) continue
      crc.compute(pgno, view, i * pageSize)
      halves[2 * (pgno - first)] = crc.high
      halves[2 * (pgno - first) + 1] = crc.low
    }
    yield (firstPgno + count - first) * pageSize
  }
  return halves
}
