/**
 * One state of a database: its pages and their checksums. Never changed; states share the pages that are equal.
 *
 * The checksum of each page is computed from its bytes here, never taken from a record.
 */
import { PageChecksums } from '../../packages/core/src/ltx/page-checksums.ts'
import { PageCrc } from '../../packages/core/src/ltx/page-checksum.ts'
import type { Checksum } from '../../packages/core/src/position/checksum.ts'

export const PAGE_SIZE = 1024

export class SqliteImage {
  static readonly empty = new SqliteImage([], new PageChecksums(PAGE_SIZE))
  readonly pages: readonly Buffer[]
  readonly checksums: PageChecksums

  private constructor(pages: readonly Buffer[], checksums: PageChecksums) {
    this.pages = pages
    this.checksums = checksums
  }

  get checksum(): Checksum {
    return this.checksums.checksum
  }

  get isEmpty(): boolean {
    return this.pages.length === 0
  }

  /** The state after pages were replaced and the database has `pageCount` pages. */
  with(changed: ReadonlyMap<number, Buffer>, pageCount: number): SqliteImage {
    const pages = this.pages.slice(0, pageCount)
    const checksums = this.checksums.clone()
    if (pageCount < checksums.pageCount) checksums.truncate(pageCount)
    const crc = new PageCrc(PAGE_SIZE)
    for (const [pgno, page] of changed) {
      pages[pgno - 1] = page
      crc.compute(pgno, new DataView(page.buffer, page.byteOffset, page.byteLength), 0)
      checksums.set(pgno, crc.high, crc.low)
    }
    return new SqliteImage(pages, checksums)
  }

  /** The state that a whole file holds, with the pages of this one where they are equal. */
  next(file: Buffer): SqliteImage {
    const pageCount = file.length / PAGE_SIZE
    const changed = new Map<number, Buffer>()
    for (let pgno = 1; pgno <= pageCount; pgno++) {
      const page = file.subarray((pgno - 1) * PAGE_SIZE, pgno * PAGE_SIZE)
      const known = this.pages[pgno - 1]
      if (known === undefined || !known.equals(page)) changed.set(pgno, Buffer.from(page))
    }
    return this.with(changed, pageCount)
  }

  /** Page numbers that differ from `before`, ascending; all of them when `before` is empty. */
  changedSince(before: SqliteImage): number[] {
    const pgnos: number[] = []
    for (const [i, page] of this.pages.entries()) {
      const known = before.pages[i]
      if (known !== page && (known === undefined || !known.equals(page))) pgnos.push(i + 1)
    }
    return pgnos
  }

  toBuffer(): Buffer {
    return Buffer.concat(this.pages)
  }
}
