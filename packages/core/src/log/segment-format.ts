/**
 * The bytes of a log segment, version 1. All integers are big-endian; CRC is CRC-64/GO-ISO.
 *
 * A segment file is named `<first TXID, 16 lowercase hex digits>.seg` and begins with a header of 48 bytes:
 *
 *    0   4  "LFLG"
 *    4   4  format version, 1
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
 * TXIDs count up by one from record to record and from file to file; epochs never go down. Nothing in a segment says which
 * database or group it belongs to: its directory does. The epoch stands in the envelope because an LTX has no room for it.
 */
import { Crc64 } from '../ltx/crc64.ts'
import type { Checksum } from '../position/checksum.ts'
import { CHECKSUM_FLAG, NO_CHECKSUM } from '../position/checksum.ts'
import type { Epoch } from '../position/epoch.ts'
import type { Position } from '../position/position.ts'
import { formatTxid, nextTxid, parseTxid, type Txid } from '../position/txid.ts'

export const SEGMENT_HEADER_BYTES = 48
export const ENVELOPE_BYTES = 32

const SEGMENT_MAGIC = 0x4c464c47
const RECORD_MAGIC = 0x4c465243
const VERSION = 1
const SUFFIX = '.seg'

/** Where a log ends or begins: the position and the epoch of the record that led there (`NO_EPOCH`: none did). */
export interface LogTail {
  readonly position: Position
  readonly epoch: Epoch
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

/** The position before the first record; `undefined` when the bytes are not a whole header of this version. */
export function parseSegmentHeader(bytes: Buffer): LogTail | undefined {
  if (bytes.length < SEGMENT_HEADER_BYTES) return undefined
  if (bytes.readUInt32BE(0) !== SEGMENT_MAGIC || bytes.readUInt32BE(4) !== VERSION) return undefined
  if (!crcMatches(bytes, 0, SEGMENT_HEADER_BYTES - 8)) return undefined
  const firstTxid = bytes.readBigUInt64BE(8)
  const checksum = bytes.readBigUInt64BE(16) as Checksum
  const epoch = safeEpoch(bytes, 24)
  if (firstTxid < 1n || epoch === undefined) return undefined
  if (firstTxid === 1n ? checksum !== NO_CHECKSUM : checksum < CHECKSUM_FLAG) return undefined
  return { position: { txid: (firstTxid - 1n) as Txid, checksum }, epoch }
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
