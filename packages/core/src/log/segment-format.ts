/**
 * The bytes of a log segment, version 2. All integers are big-endian; CRC is CRC-64/GO-ISO.
 *
 * A segment file is named `<first TXID, 16 lowercase hex digits>.seg` and begins with a header of 48 bytes:
 *
 *    0   4  "LFLG"
 *    4   4  format version: 2, or 1 (as 2, without requests)
 *    8   8  first TXID: of the first record in this file
 *   16   8  checksum of the database before that record; 0 only when the first TXID is 1
 *   24   8  epoch of the record before (0: none)
 *   32   8  zero
 *   40   8  CRC of bytes 0–39
 *
 * then come records, one after another, without padding. Each is an envelope of 32 bytes and an LTX:
 *
 *    0   4  "LFRC"
 *    4   4  LTX length in bytes
 *    8   8  epoch
 *   16   8  TXID
 *   24   8  CRC of bytes 0–23
 *   32   …  one LTX, uncompressed, of exactly this TXID; its own file checksum covers its bytes
 *
 * Behind a record may stand the requests whose writes it holds (request/request-journal.ts), which only the node that ran
 * them knows:
 *
 *    0   4  "LFRQ"
 *    4   4  length of the requests in bytes
 *    8   8  TXID, that of the record before
 *   16   8  CRC of bytes 0–15
 *   24   …  the requests
 *    …   8  CRC of the requests
 *
 * Who only wants transactions skips them. A block of requests that is not whole ends the segment, as a record does.
 *
 * TXIDs count up by one from record to record and from file to file; epochs never go down. Nothing in a segment says which
 * database or group it belongs to: its directory does. The epoch stands in the envelope because an LTX has no room for it.
 */
import { Crc64 } from '../ltx/crc64.ts'
import type { Checksum } from '../position/checksum.ts'
import { CHECKSUM_FLAG, NO_CHECKSUM } from '../position/checksum.ts'
import type { Epoch } from '../position/epoch.ts'
import type { Position } from '../position/position.ts'
import { formatTxid, nextTxid, parseTxid, type Txid } from '../position/txid.ts'
import { requireKnownVersion } from './format-version.ts'

export const SEGMENT_HEADER_BYTES = 48
export const ENVELOPE_BYTES = 32
/** As many bytes of a block of requests say how long it is. */
export const REQUESTS_HEADER_BYTES = 24

const SEGMENT_MAGIC = 0x4c464c47
const RECORD_MAGIC = 0x4c465243
const REQUESTS_MAGIC = 0x4c465251
const VERSION = 2
const VERSION_WITHOUT_REQUESTS = 1
const CRC_BYTES = 8
const SUFFIX = '.seg'

/** Where a log ends or begins: the position and the epoch of the record that led there (`NO_EPOCH`: none did). */
export interface LogTail {
  readonly position: Position
  readonly epoch: Epoch
}

export interface SegmentHeader {
  /** The position before the first record. */
  readonly base: LogTail
  /** Whether requests may stand behind its records. */
  readonly takesRequests: boolean
}

export interface Envelope {
  readonly ltxBytes: number
  readonly epoch: Epoch
  readonly txid: Txid
}

/** File name of the segment that begins after `base`. */
export function segmentName(base: LogTail): string {
  return `${formatTxid(nextTxid(base.position.txid))}${SUFFIX}`
}

/** The first TXID a file name speaks of; `undefined` when it is not the name of a segment. */
export function parseSegmentName(name: string): Txid | undefined {
  const first = name.endsWith(SUFFIX) ? parseTxid(name.slice(0, -SUFFIX.length)) : undefined
  return first === 0n ? undefined : first
}

export function encodeSegmentHeader(base: LogTail): Buffer {
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES)
  bytes.writeUInt32BE(SEGMENT_MAGIC, 0)
  bytes.writeUInt32BE(VERSION, 4)
  bytes.writeBigUInt64BE(nextTxid(base.position.txid), 8)
  bytes.writeBigUInt64BE(base.position.checksum, 16)
  bytes.writeBigUInt64BE(BigInt(base.epoch), 24)
  writeCrc(bytes, 0, SEGMENT_HEADER_BYTES - 8)
  return bytes
}

/**
 * The format version that a whole header names; `undefined` when it is none. Every version keeps magic, version and CRC where
 * they are.
 */
export function segmentVersion(bytes: Buffer): number | undefined {
  if (bytes.length < SEGMENT_HEADER_BYTES || bytes.readUInt32BE(0) !== SEGMENT_MAGIC) return undefined
  return crcMatches(bytes, 0, SEGMENT_HEADER_BYTES - 8) ? bytes.readUInt32BE(4) : undefined
}

/**
 * `undefined` when the bytes are not a whole header.
 * @param file for the error. Throws `UNSUPPORTED_FORMAT` when the header is of a newer version
 */
export function parseSegmentHeader(bytes: Buffer, file: string): SegmentHeader | undefined {
  const version = segmentVersion(bytes)
  if (version === undefined) return undefined
  requireKnownVersion(file, version, VERSION)
  if (version !== VERSION && version !== VERSION_WITHOUT_REQUESTS) return undefined
  const firstTxid = bytes.readBigUInt64BE(8)
  const checksum = bytes.readBigUInt64BE(16) as Checksum
  const epoch = safeEpoch(bytes, 24)
  if (firstTxid < 1n || epoch === undefined) return undefined
  if (firstTxid === 1n ? checksum !== NO_CHECKSUM : checksum < CHECKSUM_FLAG) return undefined
  const base = { position: { txid: (firstTxid - 1n) as Txid, checksum }, epoch }
  return { base, takesRequests: version === VERSION }
}

/** Writes an envelope at `offset` of `target`. */
export function writeEnvelope(target: Buffer, offset: number, envelope: Envelope): void {
  target.writeUInt32BE(RECORD_MAGIC, offset)
  target.writeUInt32BE(envelope.ltxBytes, offset + 4)
  // An epoch is a safe integer: two writes of 32 bits cost less than a BigInt.
  target.writeUInt32BE(Math.floor(envelope.epoch / 0x100000000), offset + 8)
  target.writeUInt32BE(envelope.epoch >>> 0, offset + 12)
  target.writeBigUInt64BE(envelope.txid, offset + 16)
  writeCrc(target, offset, ENVELOPE_BYTES - 8)
}

/** Reads the envelope at `offset`; `undefined` when it is not a whole one. */
export function parseEnvelope(bytes: Buffer, offset: number): Envelope | undefined {
  if (bytes.length < offset + ENVELOPE_BYTES || bytes.readUInt32BE(offset) !== RECORD_MAGIC) return undefined
  if (!crcMatches(bytes, offset, ENVELOPE_BYTES - 8)) return undefined
  const epoch = safeEpoch(bytes, offset + 8)
  if (epoch === undefined) return undefined
  return { ltxBytes: bytes.readUInt32BE(offset + 4), epoch, txid: bytes.readBigUInt64BE(offset + 16) as Txid }
}

/** Bytes that requests take behind their record. */
export function requestsBlockBytes(requests: Buffer | undefined): number {
  return requests === undefined ? 0 : REQUESTS_HEADER_BYTES + requests.length + CRC_BYTES
}

/** Writes a block of requests at `offset` of `target`. */
export function writeRequestsBlock(target: Buffer, offset: number, txid: Txid, requests: Buffer): void {
  target.writeUInt32BE(REQUESTS_MAGIC, offset)
  target.writeUInt32BE(requests.length, offset + 4)
  target.writeBigUInt64BE(txid, offset + 8)
  writeCrc(target, offset, REQUESTS_HEADER_BYTES - CRC_BYTES)
  requests.copy(target, offset + REQUESTS_HEADER_BYTES)
  writeCrc(target, offset + REQUESTS_HEADER_BYTES, requests.length)
}

/** Size of the block of requests of this transaction that begins at the front of `bytes`, at least its first 24; `undefined` when none does. */
export function parseRequestsHeader(bytes: Buffer, txid: Txid): number | undefined {
  if (bytes.length < REQUESTS_HEADER_BYTES || bytes.readUInt32BE(0) !== REQUESTS_MAGIC) return undefined
  if (!crcMatches(bytes, 0, REQUESTS_HEADER_BYTES - CRC_BYTES) || bytes.readBigUInt64BE(8) !== txid) return undefined
  return REQUESTS_HEADER_BYTES + bytes.readUInt32BE(4) + CRC_BYTES
}

/** The requests in a whole block; `undefined` when it is damaged. */
export function parseRequestsBlock(bytes: Buffer, txid: Txid): Buffer | undefined {
  if (parseRequestsHeader(bytes, txid) !== bytes.length) return undefined
  const length = bytes.length - REQUESTS_HEADER_BYTES - CRC_BYTES
  if (!crcMatches(bytes, REQUESTS_HEADER_BYTES, length)) return undefined
  return bytes.subarray(REQUESTS_HEADER_BYTES, REQUESTS_HEADER_BYTES + length)
}

function safeEpoch(bytes: Buffer, offset: number): Epoch | undefined {
  const value = bytes.readUInt32BE(offset) * 0x100000000 + bytes.readUInt32BE(offset + 4)
  return Number.isSafeInteger(value) ? (value as Epoch) : undefined
}

/** Puts the CRC of `length` bytes from `offset` on behind them. */
export function writeCrc(bytes: Buffer, offset: number, length: number): void {
  const crc = new Crc64().update(bytes, offset, offset + length)
  bytes.writeUInt32BE(crc.high, offset + length)
  bytes.writeUInt32BE(crc.low, offset + length + 4)
}

export function crcMatches(bytes: Buffer, offset: number, length: number): boolean {
  const crc = new Crc64().update(bytes, offset, offset + length)
  return crc.high === bytes.readUInt32BE(offset + length) && crc.low === bytes.readUInt32BE(offset + length + 4)
}
