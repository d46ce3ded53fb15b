/**
 * A record: one whole LTX in memory with its page block uncompressed (layout in ltx-header.ts). It is what capture
 * produces, the log stores, the stream carries and apply consumes.
 *
 * Promises: a record exists only for bytes that were verified or made by our own builder, and its page checksums belong
 * to its pages. Nobody changes `bytes` after that.
 */
import { assert } from '../base/assert.ts'
import type { Checksum } from '../position/checksum.ts'
import type { Position } from '../position/position.ts'
import type { Txid } from '../position/txid.ts'
import { LtxChecksummer } from './ltx-checksummer.ts'
import { setLtxCompressed } from './ltx-compressed-flag.ts'
import {
  corruptLtx,
  LTX_END_MARK_BYTES,
  LTX_HEADER_BYTES,
  LTX_TRAILER_BYTES,
  type LtxHeader,
  parseLtxHeader,
  parseLtxTrailer,
} from './ltx-header.ts'
import { decodeLz4Frame } from './lz4-frame.ts'
import { PAGE_HEADER_BYTES } from './page-checksum.ts'

export interface LtxRecordParts {
  /** The whole LTX, uncompressed. */
  readonly bytes: Buffer
  readonly header: LtxHeader
  readonly postApplyChecksum: Checksum
  /** Upper half (flag set) and lower half of page i's checksum at 2i. */
  readonly pageChecksums: Uint32Array
}

export class LtxRecord {
  /** The whole LTX, header to trailer, uncompressed. */
  readonly bytes: Buffer
  /** `compressed` is false. */
  readonly header: LtxHeader
  /** Number of pages in this record. */
  readonly pageCount: number
  /** In bytes. */
  readonly pageSize: number
  /** Size of the database in pages after it; 0 = dropped. */
  readonly commit: number
  /** TXID after it: `header.maxTxid`. */
  readonly txid: Txid
  /** It holds every page of the database and needs nothing before it (`header.minTxid` is 1). */
  readonly isSnapshot: boolean
  /** The position it applies to; for a snapshot the zero position, though it may replace any. */
  readonly preApply: Position
  readonly postApply: Position
  /** Upper half (flag set) and lower half of page i's checksum at 2i: what `PageChecksums.apply` takes. */
  readonly pageChecksums: Uint32Array

  /** For builder and decoder; others get records from these. */
  constructor({ bytes, header, postApplyChecksum, pageChecksums }: LtxRecordParts) {
    assert(!header.compressed, 'a record is uncompressed')
    this.bytes = bytes
    this.header = header
    this.pageSize = header.pageSize
    this.pageCount = pageChecksums.length / 2
    assert(bytes.length === ltxBytes(this.pageCount, header.pageSize), 'a record has one checksum for each page')
    this.commit = header.commit
    this.txid = header.maxTxid
    this.isSnapshot = header.minTxid === 1n
    this.preApply = { txid: (header.minTxid - 1n) as Txid, checksum: header.preApplyChecksum }
    this.postApply = { txid: header.maxTxid, checksum: postApplyChecksum }
    this.pageChecksums = pageChecksums
  }

  /** Page number of page i (from 0). */
  pgno(i: number): number {
    return this.bytes.readUInt32BE(this.pageOffset(i) - PAGE_HEADER_BYTES)
  }

  /** All page numbers, ascending. */
  pgnos(): Uint32Array {
    const pgnos = new Uint32Array(this.pageCount)
    for (let i = 0; i < pgnos.length; i++) pgnos[i] = this.pgno(i)
    return pgnos
  }

  /** Where the bytes of page i (from 0) begin in `bytes`; a multiple of 4. */
  pageOffset(i: number): number {
    return LTX_HEADER_BYTES + i * (PAGE_HEADER_BYTES + this.pageSize) + PAGE_HEADER_BYTES
  }

  /** The bytes of page i (from 0), not a copy. */
  page(i: number): Buffer {
    assert(i >= 0 && i < this.pageCount, `page ${i} of a record of ${this.pageCount}`)
    const offset = this.pageOffset(i)
    return this.bytes.subarray(offset, offset + this.pageSize)
  }

  /** Upper half of page i's checksum, flag set, unsigned. */
  pageChecksumHigh(i: number): number {
    return this.pageChecksums[2 * i]!
  }

  /** Lower half. */
  pageChecksumLow(i: number): number {
    return this.pageChecksums[2 * i + 1]!
  }
}

/** Size in bytes of an uncompressed LTX. */
export function ltxBytes(pageCount: number, pageSize: number): number {
  return LTX_HEADER_BYTES + pageCount * (PAGE_HEADER_BYTES + pageSize) + LTX_END_MARK_BYTES + LTX_TRAILER_BYTES
}

/**
 * Verifies a whole LTX, compressed or not, and makes it a record.
 *
 * Checked is what the decoder of ltx v0.3.14 checks (header rules, LZ4 frame with its content checksum, file checksum, for
 * a snapshot the checksum of the database made from its pages), what its encoder enforces (ltx-page-order.ts), and that
 * nothing follows the trailer. Whether the pre-apply position is the one here is for the caller to compare.
 *
 * Uncompressed bytes are kept, not copied: the caller must not change them any more. Compressed ones become a new buffer
 * with the flag cleared and the file checksum that belongs to it.
 * @throws ClusterError `CORRUPT_DATA`
 */
export function decodeLtxRecord(bytes: Buffer): LtxRecord {
  const header = parseLtxHeader(bytes)
  if (!header.compressed) return new LtxRecord({ bytes, header, ...verify(bytes, header) })
  const plain = uncompress(bytes, header)
  const verified = verify(plain, header)
  setLtxCompressed(plain, false, plain.length)
  return new LtxRecord({ bytes: plain, header: { ...header, compressed: false }, ...verified })
}

/** The same LTX with its page block uncompressed; header and trailer are as they came. */
function uncompress(bytes: Buffer, header: LtxHeader): Buffer {
  const trailerAt = bytes.length - LTX_TRAILER_BYTES
  if (trailerAt < LTX_HEADER_BYTES) throw corruptLtx(`${bytes.length} bytes are too few`)
  const pageBlockBytesMax = header.commit * (PAGE_HEADER_BYTES + header.pageSize) + LTX_END_MARK_BYTES
  const pieces = decodeLz4Frame(bytes.subarray(LTX_HEADER_BYTES, trailerAt), pageBlockBytesMax)
  return Buffer.concat([bytes.subarray(0, LTX_HEADER_BYTES), ...pieces, bytes.subarray(trailerAt)])
}

/** Checks an LTX whose page block is uncompressed, whatever its flag says. */
function verify(bytes: Buffer, header: LtxHeader): Pick<LtxRecordParts, 'postApplyChecksum' | 'pageChecksums'> {
  const stride = PAGE_HEADER_BYTES + header.pageSize
  const pageCount = Math.floor((bytes.length - ltxBytes(0, header.pageSize)) / stride)
  if (pageCount < 0 || bytes.length !== ltxBytes(pageCount, header.pageSize))
    throw corruptLtx(`${bytes.length} bytes are not a whole number of pages of ${header.pageSize}`)
  const checksummer = new LtxChecksummer(header, bytes.subarray(0, LTX_HEADER_BYTES))
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const pageChecksums = new Uint32Array(pageCount * 2)
  let at = LTX_HEADER_BYTES
  for (let i = 0; i < pageCount; i++, at += stride) {
    const pgno = view.getUint32(at)
    if (pgno === 0) throw corruptLtx(`${bytes.length - at} bytes follow the page block`)
    const problem = checksummer.page(pgno, view, at + PAGE_HEADER_BYTES)
    if (problem !== undefined) throw corruptLtx(problem)
    pageChecksums[2 * i] = checksummer.high
    pageChecksums[2 * i + 1] = checksummer.low
  }
  if (view.getUint32(at) !== 0) throw corruptLtx('the page block has no end mark')
  const trailer = parseLtxTrailer(bytes.subarray(at + LTX_END_MARK_BYTES), header)
  const problem = checksummer.end(trailer.postApplyChecksum)
  if (checksummer.fileChecksum !== trailer.fileChecksum) throw corruptLtx('the file checksum is wrong')
  if (problem !== undefined) throw corruptLtx(problem)
  return { postApplyChecksum: trailer.postApplyChecksum, pageChecksums }
}
