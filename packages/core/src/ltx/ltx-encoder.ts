/**
 * Builds LTX records (format: ltx-header.ts) page by page in the buffer they will live in.
 *
 * Order: pages ascending, as many as announced, then `finish`. Rules that the format has for them are assertions here:
 * who breaks one would produce a record that no decoder accepts.
 */
import { assert } from '../base/assert.ts'
import type { Checksum } from '../position/checksum.ts'
import { LtxChecksummer } from './ltx-checksummer.ts'
import { setLtxCompressed } from './ltx-compressed-flag.ts'
import {
  LTX_END_MARK_BYTES,
  LTX_HEADER_BYTES,
  LTX_TRAILER_BYTES,
  type LtxHeader,
  postApplyProblem,
  writeLtxHeader,
  writeLtxTrailer,
} from './ltx-header.ts'
import { LtxRecord, ltxBytes } from './ltx-record.ts'
import { encodeLz4Frame } from './lz4-frame.ts'
import { PAGE_HEADER_BYTES } from './page-checksum.ts'

export interface LtxRecordOptions extends Omit<LtxHeader, 'compressed'> {
  /** Number of pages that will be added. */
  readonly pageCount: number
}

export class LtxRecordBuilder {
  readonly #header: LtxHeader
  readonly #bytes: Buffer
  readonly #view: DataView
  readonly #pageChecksums: Uint32Array
  readonly #checksummer: LtxChecksummer
  #pagesAdded = 0
  #at = LTX_HEADER_BYTES

  constructor({ pageCount, ...header }: LtxRecordOptions) {
    this.#header = { ...header, compressed: false }
    // Not from the pool: a record may live long, and a view of a pooled buffer would keep the pool with it.
    this.#bytes = Buffer.allocUnsafeSlow(ltxBytes(pageCount, header.pageSize))
    this.#view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.byteLength)
    writeLtxHeader(this.#header, this.#bytes)
    this.#pageChecksums = new Uint32Array(pageCount * 2)
    this.#checksummer = new LtxChecksummer(this.#header, this.#bytes.subarray(0, LTX_HEADER_BYTES))
  }

  /** Upper half of the checksum of the page added last, flag set, unsigned. */
  get checksumHigh(): number {
    return this.#checksummer.high
  }

  /** Lower half. */
  get checksumLow(): number {
    return this.#checksummer.low
  }

  /** Upper and lower half of the checksum of each page added so far, page i at 2i: what `PageChecksums.apply` takes. */
  get pageChecksums(): Uint32Array {
    return this.#pageChecksums
  }

  /** Copies the page that begins at `sourceOffset` of `source`. */
  addPage(pgno: number, source: Buffer, sourceOffset: number): void {
    const { pageSize } = this.#header
    const pageAt = this.#at + PAGE_HEADER_BYTES
    assert(this.#pagesAdded * 2 < this.#pageChecksums.length, 'more pages than announced')
    assert(sourceOffset >= 0 && sourceOffset + pageSize <= source.length, `page ${pgno} beyond the end of its source`)
    this.#view.setUint32(this.#at, pgno)
    source.copy(this.#bytes, pageAt, sourceOffset, sourceOffset + pageSize)
    const problem = this.#checksummer.page(pgno, this.#view, pageAt)
    if (problem !== undefined) assert(false, `LTX ${this.#header.maxTxid}: ${problem}`)
    this.#pageChecksums[this.#pagesAdded * 2] = this.#checksummer.high
    this.#pageChecksums[this.#pagesAdded * 2 + 1] = this.#checksummer.low
    this.#pagesAdded++
    this.#at = pageAt + pageSize
  }

  /** Ends the record. The builder is of no use afterwards. */
  finish(postApplyChecksum: Checksum): LtxRecord {
    const bytes = this.#bytes
    assert(this.#pagesAdded * 2 === this.#pageChecksums.length, 'fewer pages than announced')
    const problem = postApplyProblem(this.#header.commit, postApplyChecksum) ?? this.#checksummer.end(postApplyChecksum)
    if (problem !== undefined) assert(false, `LTX ${this.#header.maxTxid}: ${problem}`)
    this.#view.setUint32(this.#at, 0)
    const trailer = { postApplyChecksum, fileChecksum: this.#checksummer.fileChecksum }
    writeLtxTrailer(trailer, bytes, this.#at + LTX_END_MARK_BYTES)
    return new LtxRecord({ bytes, header: this.#header, postApplyChecksum, pageChecksums: this.#pageChecksums })
  }
}

/** The record as an LTX with compressed page block, as LiteFS stores and sends them by default. */
export function compressLtxRecord(record: LtxRecord): Buffer {
  const { bytes } = record
  const trailerAt = bytes.length - LTX_TRAILER_BYTES
  const frame = encodeLz4Frame(bytes.subarray(LTX_HEADER_BYTES, trailerAt))
  const compressed = Buffer.concat([bytes.subarray(0, LTX_HEADER_BYTES), frame, bytes.subarray(trailerAt)])
  setLtxCompressed(compressed, true, bytes.length)
  return compressed
}
