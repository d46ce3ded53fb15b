/**
 * The 32-byte header of a `-wal` file (SQLite "WAL-mode File Format", section 1.1). All integers are big-endian.
 *
 *   0  4  magic 0x377f0682, or 0x377f0683 when checksums are over big-endian words
 *   4  4  format version 3007000
 *   8  4  page size in bytes (65536 stands as 0x00010000)
 *  12  4  checkpoint sequence number
 *  16  4  salt 1: one more for each restart of the WAL     20  4  salt 2: new random number for each restart
 *  24  8  checksum over bytes 0–23
 *
 * Salts are, in every module of ours, the numbers that stand big-endian in the WAL file. The wal-index holds the same
 * eight raw bytes (so they are big-endian there too, in a structure that is otherwise native-endian), and LTX headers
 * hold the same two numbers. Checksums are the unsigned 32-bit sums, which the WAL stores big-endian and the wal-index
 * in native order.
 */
import { isValidPageSize } from './database-header.ts'
import { walChecksum } from './wal-checksum.ts'

export const WAL_HEADER_BYTES = 32
/** The only format version of WAL and wal-index that exists. */
export const WAL_FORMAT_VERSION = 3007000

const MAGIC_LITTLE_ENDIAN = 0x377f0682

export interface WalHeader {
  readonly pageSize: number
  readonly checkpointSequence: number
  readonly salt1: number
  readonly salt2: number
  /** The checksums of this WAL are over big-endian words. */
  readonly bigEndianChecksum: boolean
  /** First half of the header's checksum: the running checksum before frame 1. */
  readonly checksum1: number
  readonly checksum2: number
}

/** Builds the header of a new WAL with checksums over little-endian words. */
export function encodeWalHeader(header: {
  readonly pageSize: number
  readonly checkpointSequence: number
  readonly salt1: number
  readonly salt2: number
}): { readonly bytes: Buffer; readonly checksum1: number; readonly checksum2: number } {
  const words = new Uint32Array(WAL_HEADER_BYTES / 4)
  const bytes = Buffer.from(words.buffer)
  bytes.writeUInt32BE(MAGIC_LITTLE_ENDIAN, 0)
  bytes.writeUInt32BE(WAL_FORMAT_VERSION, 4)
  bytes.writeUInt32BE(header.pageSize, 8)
  bytes.writeUInt32BE(header.checkpointSequence >>> 0, 12)
  bytes.writeUInt32BE(header.salt1, 16)
  bytes.writeUInt32BE(header.salt2, 20)
  const [checksum1, checksum2] = checksumOf(words, false)
  bytes.writeUInt32BE(checksum1, 24)
  bytes.writeUInt32BE(checksum2, 28)
  return { bytes, checksum1, checksum2 }
}

/** Reads a header; `undefined` when the bytes are too few, not a WAL header of this version, or fail the checksum. */
export function parseWalHeader(bytes: Uint8Array): WalHeader | undefined {
  if (bytes.length < WAL_HEADER_BYTES) return undefined
  const words = new Uint32Array(WAL_HEADER_BYTES / 4)
  const copy = Buffer.from(words.buffer)
  copy.set(bytes.subarray(0, WAL_HEADER_BYTES))
  const magic = copy.readUInt32BE(0)
  if ((magic & ~1) >>> 0 !== MAGIC_LITTLE_ENDIAN || copy.readUInt32BE(4) !== WAL_FORMAT_VERSION) return undefined
  const pageSize = copy.readUInt32BE(8)
  if (!isValidPageSize(pageSize)) return undefined
  const bigEndianChecksum = (magic & 1) === 1
  const [checksum1, checksum2] = checksumOf(words, bigEndianChecksum)
  if (copy.readUInt32BE(24) !== checksum1 || copy.readUInt32BE(28) !== checksum2) return undefined
  return {
    pageSize,
    checkpointSequence: copy.readUInt32BE(12),
    salt1: copy.readUInt32BE(16),
    salt2: copy.readUInt32BE(20),
    bigEndianChecksum,
    checksum1,
    checksum2,
  }
}

function checksumOf(words: Uint32Array, bigEndian: boolean): [number, number] {
  const state = new Int32Array(2)
  walChecksum(words, 0, 6, state, bigEndian)
  return [state[0]! >>> 0, state[1]! >>> 0]
}
