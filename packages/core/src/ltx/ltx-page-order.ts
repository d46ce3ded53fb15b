/**
 * The rules for the pages of one LTX, as the encoder of ltx v0.3.14 enforces them and our decoders check them:
 * never the lock page, never a page beyond `commit`; ascending in an incremental LTX; in a snapshot every page from 1 to
 * `commit`, and the checksum of the database made from them must equal the one in the trailer.
 *
 * A decoder of LiteFS does not notice a snapshot that ends early; ours refuses it, because a database without its last
 * pages is not the one that the position names.
 */
import { type Checksum, checksumFromHalves, formatChecksum } from '../position/checksum.ts'
import { lockPage } from '../sqlite-format/lock-page.ts'
import type { LtxHeader } from './ltx-header.ts'

export class LtxPageOrder {
  readonly #commit: number
  readonly #lockPage: number
  readonly #isSnapshot: boolean
  #previous = 0
  #pageCount = 0
  #sumHigh = 0
  #sumLow = 0

  constructor(header: Pick<LtxHeader, 'pageSize' | 'commit' | 'minTxid'>) {
    this.#commit = header.commit
    this.#lockPage = lockPage(header.pageSize)
    this.#isSnapshot = header.minTxid === 1n
  }

  /** Pages accepted. */
  get pageCount(): number {
    return this.#pageCount
  }

  /** Exclusive-or of the page checksums added, with the flag: for a whole snapshot the checksum of the database. */
  get checksum(): Checksum {
    return checksumFromHalves(this.#sumHigh, this.#sumLow)
  }

  /** Accepts the next page, or says why it may not follow. */
  next(pgno: number): string | undefined {
    const previous = this.#previous
    if (pgno > this.#commit) return `page ${pgno} is beyond the size of ${this.#commit} pages`
    if (pgno === this.#lockPage) return `page ${pgno} is the lock page`
    if (this.#isSnapshot) {
      if (pgno !== this.#expected()) return `page ${pgno} follows page ${previous} in a snapshot`
    } else if (pgno <= previous) return `page ${pgno} follows page ${previous}`
    this.#previous = pgno
    this.#pageCount++
    return undefined
  }

  /** The checksum of the page accepted last. */
  addChecksum(high: number, low: number): void {
    this.#sumHigh ^= high
    this.#sumLow ^= low
  }

  /** Checks the end, or says what is wrong with it. */
  end(postApplyChecksum: Checksum): string | undefined {
    if (!this.#isSnapshot) return undefined
    if (this.#expected() <= this.#commit) return `a snapshot of ${this.#commit} pages ends after page ${this.#previous}`
    if (this.checksum !== postApplyChecksum)
      return `the pages of a snapshot have checksum ${formatChecksum(this.checksum)}, not ${formatChecksum(postApplyChecksum)}`
    return undefined
  }

  #expected(): number {
    const next = this.#previous + 1
    return next === this.#lockPage ? next + 1 : next
  }
}

/** Number of pages in a snapshot of a database of `commit` pages: all but the lock page. */
export function snapshotPageCount(commit: number, pageSize: number): number {
  return commit >= lockPage(pageSize) ? commit - 1 : commit
}
