/**
 * The checksums of all pages of one database, and the checksum of the database that follows from them (LiteFS 0.5.14:
 * bit 63, exclusive-or of the page checksums of all pages except the lock page).
 *
 * Eight bytes a page. The database checksum is kept up with every change, so asking for it costs nothing.
 *
 * Promises: after `undo` everything is as it was at `beginUndo`. The journal for that lives in memory and grows with the
 * number of changes made meanwhile; it is for one transaction.
 * The saved form is, for each page from 1: upper half, lower half, each a little-endian u32; the lock page is zero.
 */
import { assert } from '../base/assert.ts'
import { type Checksum, checksumFromHalves } from '../position/checksum.ts'
import { lockPage } from '../sqlite-format/lock-page.ts'

const FIRST_CAPACITY_PAGES = 256

export class PageChecksums {
  /** In bytes. Only decides where the lock page is. */
  readonly pageSize: number
  readonly #lockPage: number
  /** Upper half of page p at 2(p-1), lower half after it; zero from `#pageCount` on. */
  #halves = new Uint32Array(FIRST_CAPACITY_PAGES * 2)
  #pageCount = 0
  /** Exclusive-or of all halves, without the flag. */
  #sumHigh = 0
  #sumLow = 0
  #journal: UndoJournal | undefined

  /** An empty database. */
  constructor(pageSize: number) {
    this.pageSize = pageSize
    this.#lockPage = lockPage(pageSize)
  }

  /** Takes over what `toBuffer` gave; the bytes are copied. Throws `InvariantError` on a length that cannot be. */
  static fromBuffer(pageSize: number, saved: Uint8Array): PageChecksums {
    assert(saved.length % 8 === 0, `saved page checksums of ${saved.length} bytes`)
    const checksums = new PageChecksums(pageSize)
    const pageCount = saved.length / 8
    checksums.#reserve(pageCount)
    new Uint8Array(checksums.#halves.buffer).set(saved)
    checksums.#pageCount = pageCount
    checksums.#sum()
    return checksums
  }

  /** Size of the database in pages. */
  get pageCount(): number {
    return this.#pageCount
  }

  /** Checksum of the whole database: `EMPTY_CHECKSUM` when it has no page. */
  get checksum(): Checksum {
    return checksumFromHalves(this.#sumHigh, this.#sumLow)
  }

  /** Upper half of a page's checksum, flag set; 0 for a page that has none (the lock page, or beyond the end). */
  high(pgno: number): number {
    return pgno <= this.#pageCount ? (this.#halves[pgno * 2 - 2] ?? 0) : 0
  }

  /** Lower half. */
  low(pgno: number): number {
    return pgno <= this.#pageCount ? (this.#halves[pgno * 2 - 1] ?? 0) : 0
  }

  /** Sets one page's checksum; a page beyond the end makes the database longer. The lock page only does the latter. */
  set(pgno: number, high: number, low: number): void {
    assert(Number.isInteger(pgno) && pgno >= 1 && pgno <= 0xffffffff, `page number ${pgno}`)
    if (pgno > this.#pageCount) this.#grow(pgno)
    if (pgno === this.#lockPage) return
    this.#write(pgno, high, low)
  }

  /** Cuts the database to `pageCount` pages. */
  truncate(pageCount: number): void {
    assert(pageCount >= 0 && pageCount <= this.#pageCount, `truncation from ${this.#pageCount} to ${pageCount} pages`)
    for (let pgno = this.#pageCount; pgno > pageCount; pgno--) this.#write(pgno, 0, 0)
    this.#pageCount = pageCount
  }

  /**
   * Applies a transaction and returns the checksum of the database after it.
   * @param pgnos the pages it changed, each ≤ `commit`
   * @param highLow their checksums: upper and lower half of page i at 2i
   * @param commit size of the database in pages after it
   */
  apply(pgnos: ArrayLike<number>, highLow: Uint32Array, commit: number): Checksum {
    if (commit < this.#pageCount) this.truncate(commit)
    else if (commit > this.#pageCount) this.#grow(commit)
    for (let i = 0; i < pgnos.length; i++) {
      const pgno = pgnos[i]!
      assert(pgno <= commit, `page ${pgno} of a transaction that leaves ${commit} pages`)
      this.set(pgno, highLow[2 * i]!, highLow[2 * i + 1]!)
    }
    return this.checksum
  }

  /** From here on changes can be taken back. Not nested. */
  beginUndo(): void {
    assert(this.#journal === undefined, 'page checksums: an undo is open already')
    this.#journal = { pageCount: this.#pageCount, changes: [] }
  }

  /** Takes back everything since `beginUndo`. */
  undo(): void {
    const journal = this.#journal
    assert(journal !== undefined, 'page checksums: no undo is open')
    this.#journal = undefined
    const { changes } = journal
    if (journal.pageCount > this.#pageCount) this.#grow(journal.pageCount)
    for (let i = changes.length - 3; i >= 0; i -= 3) this.#write(changes[i]!, changes[i + 1]!, changes[i + 2]!)
    this.#pageCount = journal.pageCount
  }

  /** Keeps everything since `beginUndo`. */
  commitUndo(): void {
    assert(this.#journal !== undefined, 'page checksums: no undo is open')
    this.#journal = undefined
  }

  /** The pages of this database, ascending and without the lock page, that `other` does not have or has differently. */
  differingFrom(other: PageChecksums): Uint32Array<ArrayBuffer> {
    const pgnos: number[] = []
    for (let pgno = 1; pgno <= this.#pageCount; pgno++) {
      if (pgno === this.#lockPage) continue
      if (this.high(pgno) !== other.high(pgno) || this.low(pgno) !== other.low(pgno)) pgnos.push(pgno)
    }
    return Uint32Array.from(pgnos)
  }

  /** Exclusive-or of the checksums of these pages, with the flag. */
  checksumOf(pgnos: Uint32Array): Checksum {
    let high = 0
    let low = 0
    for (const pgno of pgnos) {
      high ^= this.high(pgno)
      low ^= this.low(pgno)
    }
    return checksumFromHalves(high, low)
  }

  /** A copy in the saved form. */
  toBuffer(): Buffer {
    return Buffer.from(new Uint8Array(this.#halves.buffer, 0, this.#pageCount * 8))
  }

  /** An independent copy, without an open undo. */
  clone(): PageChecksums {
    const copy = new PageChecksums(this.pageSize)
    copy.#halves = this.#halves.slice()
    copy.#pageCount = this.#pageCount
    copy.#sumHigh = this.#sumHigh
    copy.#sumLow = this.#sumLow
    return copy
  }

  #write(pgno: number, high: number, low: number): void {
    const at = pgno * 2 - 2
    const oldHigh = this.#halves[at]!
    const oldLow = this.#halves[at + 1]!
    this.#journal?.changes.push(pgno, oldHigh, oldLow)
    this.#sumHigh ^= oldHigh ^ high
    this.#sumLow ^= oldLow ^ low
    this.#halves[at] = high
    this.#halves[at + 1] = low
  }

  #grow(pageCount: number): void {
    this.#reserve(pageCount)
    this.#pageCount = pageCount
  }

  #reserve(pageCount: number): void {
    const capacity = this.#halves.length / 2
    if (pageCount <= capacity) return
    // By half, so that a database growing page by page is not copied each time.
    const larger = new Uint32Array(2 * Math.max(pageCount, Math.ceil(capacity * 1.5)))
    larger.set(this.#halves)
    this.#halves = larger
  }

  #sum(): void {
    const halves = this.#halves
    const end = this.#pageCount * 2
    let high = 0
    let low = 0
    for (let i = 0; i < end; i += 2) {
      high ^= halves[i]!
      low ^= halves[i + 1]!
    }
    this.#sumHigh = high
    this.#sumLow = low
  }
}

interface UndoJournal {
  readonly pageCount: number
  /** Page number, old upper half, old lower half of each change, in order. */
  readonly changes: number[]
}
