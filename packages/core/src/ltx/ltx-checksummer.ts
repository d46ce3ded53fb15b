/**
 * Everything that is computed over the pages of one LTX while they pass, in either direction: page checksums, the checksum
 * of the database in a snapshot, the file checksum; and the rules of page order. Each page is read once: its CRC is its
 * own checksum and is appended to that of the file (see crc64.ts).
 *
 * Order: header bytes, pages, `end`. A problem is returned as a text, because the same finding is damage for a decoder
 * and a broken assumption for an encoder.
 */
import { type Checksum, checksumFromHalves } from '../position/checksum.ts'
import { Crc64, type Crc64Appender } from './crc64.ts'
import type { LtxHeader } from './ltx-header.ts'
import { LtxPageOrder } from './ltx-page-order.ts'
import { appenderFor, PageCrc } from './page-checksum.ts'

export class LtxChecksummer {
  readonly #order: LtxPageOrder
  readonly #file: Crc64
  readonly #page: PageCrc
  readonly #appender: Crc64Appender

  /** @param headerBytes the header as it stands in the file */
  constructor(header: LtxHeader, headerBytes: Uint8Array) {
    this.#order = new LtxPageOrder(header)
    this.#file = new Crc64().update(headerBytes)
    this.#page = new PageCrc(header.pageSize)
    this.#appender = appenderFor(header.pageSize)
  }

  /** Upper half of the checksum of the page before, flag set, unsigned. */
  get high(): number {
    return this.#page.high
  }

  /** Lower half. */
  get low(): number {
    return this.#page.low
  }

  /** Exclusive-or of all page checksums so far, with the flag: for a whole snapshot the checksum of the database. */
  get pagesChecksum(): Checksum {
    return this.#order.checksum
  }

  /** The file checksum; final after `end`. */
  get fileChecksum(): Checksum {
    return checksumFromHalves(this.#file.high, this.#file.low)
  }

  /** The next page, which begins at `offset` of `view`. Returns why it may not stand here. */
  page(pgno: number, view: DataView, offset: number): string | undefined {
    const problem = this.#order.next(pgno)
    if (problem !== undefined) return problem
    const page = this.#page
    page.compute(pgno, view, offset)
    this.#file.append(this.#appender, page.crcHigh, page.low)
    this.#order.addChecksum(page.high, page.low)
    return undefined
  }

  /** End mark and post-apply checksum. Returns why the pages cannot end here. */
  end(postApplyChecksum: Checksum): string | undefined {
    this.#file.updateUint32BE(0)
    this.#file.updateUint32BE(Number(postApplyChecksum >> 32n))
    this.#file.updateUint32BE(Number(postApplyChecksum & 0xffffffffn))
    return this.#order.end(postApplyChecksum)
  }
}
