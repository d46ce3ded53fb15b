/**
 * Header and trailer of an LTX file as LiteFS 0.5.14 speaks it: superfly/ltx v0.3.14, "version 1". All integers are
 * big-endian.
 *
 *   0  4  "LTX1"
 *   4  4  flags: bit 0 = the page block is one LZ4 frame; all others 0
 *   8  4  page size                  12  4  commit: size of the database in pages afterwards, 0 = dropped
 *  16  8  min TXID                   24  8  max TXID
 *  32  8  timestamp in ms since the Unix epoch, signed
 *  40  8  checksum of the database before; 0 exactly when min TXID is 1 (a snapshot)
 *  48  8  WAL offset   56  8  WAL bytes   64  4  WAL salt 1   68  4  WAL salt 2: where it stood in the WAL, 0 = nowhere
 *  72  8  id of the node that wrote it, 0 = none        80  20  zero
 * then the page block: for each page its number (u32 ≥ 1) and its bytes; then the end mark, u32 0
 * then the trailer, never compressed:
 *   0  8  checksum of the database afterwards; exactly 8000000000000000 when commit is 0
 *   8  8  file checksum: CRC-64/GO-ISO with bit 63 set, over header, uncompressed page block and the first 8 trailer bytes
 *
 * ltx v0.4 and v0.5 write the same magic with other page blocks; a file does not say which it is. Ours is `LTX_VERSION`.
 */
import { assert } from '../base/assert.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import { CHECKSUM_FLAG, type Checksum, EMPTY_CHECKSUM, NO_CHECKSUM } from '../position/checksum.ts'
import type { Txid } from '../position/txid.ts'
import { isValidPageSize } from '../sqlite-format/database-header.ts'

/** The version of the LTX format this program speaks: that of ltx v0.1 – v0.3.14. Not stored in the files. */
export const LTX_VERSION = 1
export const LTX_HEADER_BYTES = 100
export const LTX_TRAILER_BYTES = 16
/** Bytes of the end mark of the page block: a page number 0. */
export const LTX_END_MARK_BYTES = 4

const MAGIC = 0x4c545831
const FLAG_COMPRESSED = 1
const UINT64_MAX = (1n << 64n) - 1n

export interface LtxHeader {
  /** The page block is an LZ4 frame. */
  readonly compressed: boolean
  readonly pageSize: number
  /** Size of the database in pages after this transaction; 0 = dropped. */
  readonly commit: number
  readonly minTxid: Txid
  readonly maxTxid: Txid
  /** Clock of the writer, ms since the Unix epoch; may be negative. */
  readonly timestampMs: number
  /** Checksum of the database before; `NO_CHECKSUM` exactly for a snapshot (`minTxid` 1). */
  readonly preApplyChecksum: Checksum
  /** Byte offset in the `-wal` file of the first frame; 0 = does not come from a WAL. */
  readonly walOffset: number
  /** Bytes of the frames; 0 exactly when `walOffset` is 0. */
  readonly walBytes: number
  /** Salts as the numbers that stand big-endian in the WAL header; 0 when there is no WAL offset. */
  readonly walSalt1: number
  readonly walSalt2: number
  /** Random 64-bit id of the node that wrote it; 0n = unset. */
  readonly nodeId: bigint
}

/** The last 16 bytes. */
export interface LtxTrailer {
  readonly postApplyChecksum: Checksum
  readonly fileChecksum: Checksum
}

/** Encodes 100 bytes. A header that breaks the format's rules is a broken assumption. */
export function encodeLtxHeader(header: LtxHeader): Buffer {
  const bytes = Buffer.alloc(LTX_HEADER_BYTES)
  writeLtxHeader(header, bytes)
  return bytes
}

/** Encodes into the first 100 bytes of `target`. */
export function writeLtxHeader(header: LtxHeader, target: Buffer): void {
  const problem = headerProblem(header)
  assert(problem === undefined, `LTX header: ${problem}`)
  target.writeUInt32BE(MAGIC, 0)
  writeLtxFlags(target, header.compressed)
  target.writeUInt32BE(header.pageSize, 8)
  target.writeUInt32BE(header.commit, 12)
  target.writeBigUInt64BE(header.minTxid, 16)
  target.writeBigUInt64BE(header.maxTxid, 24)
  target.writeBigInt64BE(BigInt(header.timestampMs), 32)
  target.writeBigUInt64BE(header.preApplyChecksum, 40)
  target.writeBigInt64BE(BigInt(header.walOffset), 48)
  target.writeBigInt64BE(BigInt(header.walBytes), 56)
  target.writeUInt32BE(header.walSalt1, 64)
  target.writeUInt32BE(header.walSalt2, 68)
  target.writeBigUInt64BE(header.nodeId, 72)
  target.fill(0, 80, LTX_HEADER_BYTES)
}

/** Whether an encoded header says that the page block is compressed: only sets the flag, for `setLtxCompressed`. */
export function writeLtxFlags(target: Buffer, compressed: boolean): void {
  target.writeUInt32BE(compressed ? FLAG_COMPRESSED : 0, 4)
}

/**
 * Reads and checks a header.
 * @param bytes at least 100 bytes
 * @throws ClusterError `CORRUPT_DATA`
 */
export function parseLtxHeader(bytes: Uint8Array): LtxHeader {
  if (bytes.length < LTX_HEADER_BYTES) throw corruptLtx(`${bytes.length} bytes are too few for a header`)
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, LTX_HEADER_BYTES)
  if (view.readUInt32BE(0) !== MAGIC) throw corruptLtx('it does not begin with "LTX1"')
  const flags = view.readUInt32BE(4)
  if ((flags & ~FLAG_COMPRESSED) !== 0) throw corruptLtx(`unknown flags 0x${flags.toString(16)}`)
  const header: LtxHeader = {
    compressed: (flags & FLAG_COMPRESSED) !== 0,
    pageSize: view.readUInt32BE(8),
    commit: view.readUInt32BE(12),
    minTxid: view.readBigUInt64BE(16) as Txid,
    maxTxid: view.readBigUInt64BE(24) as Txid,
    timestampMs: Number(view.readBigInt64BE(32)),
    preApplyChecksum: view.readBigUInt64BE(40) as Checksum,
    walOffset: Number(view.readBigInt64BE(48)),
    walBytes: Number(view.readBigInt64BE(56)),
    walSalt1: view.readUInt32BE(64),
    walSalt2: view.readUInt32BE(68),
    nodeId: view.readBigUInt64BE(72),
  }
  const problem = headerProblem(header)
  if (problem !== undefined) throw corruptLtx(problem)
  return header
}

/**
 * Reads a trailer and checks it against its header.
 * @param bytes at least 16 bytes
 * @throws ClusterError `CORRUPT_DATA`
 */
export function parseLtxTrailer(bytes: Uint8Array, header: LtxHeader): LtxTrailer {
  if (bytes.length < LTX_TRAILER_BYTES) throw corruptLtx(`${bytes.length} bytes are too few for a trailer`)
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, LTX_TRAILER_BYTES)
  const postApplyChecksum = view.readBigUInt64BE(0) as Checksum
  const fileChecksum = view.readBigUInt64BE(8) as Checksum
  const problem = postApplyProblem(header.commit, postApplyChecksum)
  if (problem !== undefined) throw corruptLtx(problem)
  if (fileChecksum < CHECKSUM_FLAG) throw corruptLtx('the file checksum has no flag')
  return { postApplyChecksum, fileChecksum }
}

/** Encodes 16 bytes into `target` at `offset`. */
export function writeLtxTrailer(trailer: LtxTrailer, target: Buffer, offset: number): void {
  target.writeBigUInt64BE(trailer.postApplyChecksum, offset)
  target.writeBigUInt64BE(trailer.fileChecksum, offset + 8)
}

/** What is wrong with a database checksum after a transaction that leaves `commit` pages; `undefined` when nothing is. */
export function postApplyProblem(commit: number, postApplyChecksum: Checksum): string | undefined {
  if (postApplyChecksum < CHECKSUM_FLAG || postApplyChecksum > UINT64_MAX) return 'the post-apply checksum has no flag'
  if (commit === 0 && postApplyChecksum !== EMPTY_CHECKSUM) return 'a dropped database has a checksum'
  return undefined
}

/** The error of every LTX that cannot be trusted. */
export function corruptLtx(reason: string, cause?: unknown): ClusterError {
  return new ClusterError('CORRUPT_DATA', `LTX: ${reason}`, { cause })
}

function headerProblem(h: LtxHeader): string | undefined {
  if (!isValidPageSize(h.pageSize)) return `page size ${h.pageSize}`
  if (!isUint32(h.commit)) return `commit ${h.commit}`
  if (h.minTxid < 1n || h.maxTxid < h.minTxid || h.maxTxid > UINT64_MAX) return `TXIDs ${h.minTxid}–${h.maxTxid}`
  if (!Number.isSafeInteger(h.timestampMs)) return `timestamp ${h.timestampMs}`
  if (h.minTxid === 1n && h.preApplyChecksum !== NO_CHECKSUM) return 'a snapshot has a pre-apply checksum'
  if (h.minTxid > 1n && (h.preApplyChecksum < CHECKSUM_FLAG || h.preApplyChecksum > UINT64_MAX))
    return 'the pre-apply checksum has no flag'
  if (!Number.isSafeInteger(h.walOffset) || h.walOffset < 0) return `WAL offset ${h.walOffset}`
  if (!Number.isSafeInteger(h.walBytes) || h.walBytes < 0) return `WAL bytes ${h.walBytes}`
  if ((h.walOffset === 0) !== (h.walBytes === 0)) return 'a WAL offset needs WAL bytes, and the other way round'
  if (!isUint32(h.walSalt1) || !isUint32(h.walSalt2)) return `WAL salts ${h.walSalt1}, ${h.walSalt2}`
  if (h.walOffset === 0 && (h.walSalt1 !== 0 || h.walSalt2 !== 0)) return 'WAL salts without a WAL offset'
  if (h.nodeId < 0n || h.nodeId > UINT64_MAX) return `node id ${h.nodeId}`
  return undefined
}

function isUint32(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= 0xffffffff
}
