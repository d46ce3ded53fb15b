/**
 * Writes a snapshot of a whole database as an uncompressed LTX (format: ltx-header.ts) piece by piece, for databases of
 * any size: nothing is kept but checksums. Or the difference between two states: only the pages of the newer one that the older
 * one does not have, as one LTX whose pre-apply checksum is that of the older one.
 *
 * Order: `header`, the pages in ascending order, of a snapshot all from 1 to `commit`, `end`. The lock page is left out.
 * Promises: `end` refuses pages that do not have the checksum they are sent for, so a source that changed while it was read
 * never becomes something that a replica believes.
 */
import { assert } from '../base/assert.ts'
import { type Checksum, NO_CHECKSUM } from '../position/checksum.ts'
import type { Txid } from '../position/txid.ts'
import { lockPage } from '../sqlite-format/lock-page.ts'
import { LtxChecksummer } from './ltx-checksummer.ts'
import {
  corruptLtx,
  encodeLtxHeader,
  LTX_END_MARK_BYTES,
  LTX_TRAILER_BYTES,
  type LtxHeader,
  postApplyProblem,
  writeLtxTrailer,
} from './ltx-header.ts'
import { snapshotPageCount } from './ltx-page-order.ts'
import { ltxBytes } from './ltx-record.ts'
import { PAGE_HEADER_BYTES } from './page-checksum.ts'

export interface LtxSnapshotOptions {
  readonly pageSize: number
  /** Size of the database in pages; 0 = dropped. */
  readonly commit: number
  /** The TXID the snapshot stands at; its min TXID is always 1. */
  readonly maxTxid: Txid
  /** Ms since the Unix epoch. */
  readonly timestampMs: number
  /** Id of this node; a LiteFS replica with the same id would skip the snapshot. */
  readonly nodeId: bigint
  /** Left out for a snapshot. The state then begins after TXID 1, because an LTX from TXID 1 on is a snapshot. */
  readonly difference?: DifferenceFrom | undefined
}

export interface DifferenceFrom {
  /** Checksum of the older state. */
  readonly preApplyChecksum: Checksum
  readonly pageCount: number
  /** Exclusive-or of the checksums of the pages that are sent, with the flag. */
  readonly pagesChecksum: Checksum
}

export class LtxSnapshotWriter {
  readonly #header: LtxHeader
  readonly #headerBytes: Buffer
  readonly #checksummer: LtxChecksummer
  readonly #lockPage: number
  readonly #difference: DifferenceFrom | undefined

  constructor(options: LtxSnapshotOptions) {
    const { pageSize, commit, maxTxid, timestampMs, nodeId, difference } = options
    const fromWal = { walOffset: 0, walBytes: 0, walSalt1: 0, walSalt2: 0 }
    const minTxid = difference === undefined ? (1n as Txid) : maxTxid
    const txids = { minTxid, maxTxid, preApplyChecksum: difference?.preApplyChecksum ?? NO_CHECKSUM }
    this.#difference = difference
    this.#header = { compressed: false, pageSize, commit, ...txids, timestampMs, ...fromWal, nodeId }
    this.#headerBytes = encodeLtxHeader(this.#header)
    this.#checksummer = new LtxChecksummer(this.#header, this.#headerBytes)
    this.#lockPage = lockPage(pageSize)
  }

  /** Exact size of the whole LTX. */
  get totalBytes(): number {
    const { commit, pageSize } = this.#header
    return ltxBytes(this.#difference?.pageCount ?? snapshotPageCount(commit, pageSize), pageSize)
  }

  /** Checksum of the pages given so far: after the last one of a snapshot, of the database. */
  get checksum(): Checksum {
    return this.#checksummer.pagesChecksum
  }

  /** The first bytes of the LTX. */
  header(): Buffer {
    return Buffer.from(this.#headerBytes)
  }

  /** The next page. The result is a copy. */
  page(pgno: number, bytes: Uint8Array): Buffer {
    assert(bytes.length === this.#header.pageSize, `page ${pgno} of ${bytes.length} bytes`)
    return this.pages(pgno, bytes)
  }

  /**
   * The next run of pages, in one Buffer. The result is a copy.
   * @param bytes whole pages as they stand in the file from page `firstPgno` on; the lock page may be among them and is
   *   left out
   */
  pages(firstPgno: number, bytes: Uint8Array): Buffer {
    const { pageSize } = this.#header
    const given = bytes.length / pageSize
    assert(Number.isInteger(given), `${bytes.length} bytes are not whole pages`)
    const hasLockPage = firstPgno <= this.#lockPage && this.#lockPage < firstPgno + given
    const out = Buffer.allocUnsafeSlow((hasLockPage ? given - 1 : given) * (PAGE_HEADER_BYTES + pageSize))
    const view = new DataView(out.buffer, out.byteOffset, out.byteLength)
    let at = 0
    for (let i = 0; i < given; i++) {
      const pgno = firstPgno + i
      if (pgno === this.#lockPage) continue
      view.setUint32(at, pgno)
      at += PAGE_HEADER_BYTES
      out.set(bytes.subarray(i * pageSize, (i + 1) * pageSize), at)
      const problem = this.#checksummer.page(pgno, view, at)
      if (problem !== undefined) assert(false, `LTX snapshot: ${problem}`)
      at += pageSize
    }
    return out
  }

  /**
   * The last bytes of the LTX.
   * @throws ClusterError `CORRUPT_DATA` when pages are missing or do not have this checksum together
   */
  end(postApplyChecksum: Checksum): Buffer {
    const problem =
      this.#differenceProblem() ??
      postApplyProblem(this.#header.commit, postApplyChecksum) ??
      this.#checksummer.end(postApplyChecksum)
    if (problem !== undefined) throw corruptLtx(problem)
    const out = Buffer.alloc(LTX_END_MARK_BYTES + LTX_TRAILER_BYTES)
    writeLtxTrailer({ postApplyChecksum, fileChecksum: this.#checksummer.fileChecksum }, out, LTX_END_MARK_BYTES)
    return out
  }

  #differenceProblem(): string | undefined {
    if (this.#difference === undefined || this.#difference.pagesChecksum === this.checksum) return undefined
    return 'the pages of a difference are not those of the state it leads to'
  }
}
