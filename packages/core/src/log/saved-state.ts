/**
 * What a node writes about a database when it closes it cleanly, so that the next start need not hash the whole file.
 * All integers are big-endian; CRC is CRC-64/GO-ISO.
 *
 *    0   4  "LFST"
 *    4   4  format version, 1
 *    8   8  TXID               16   8  checksum of the database
 *   24   8  epoch of the last record
 *   32   4  page size          36   4  size in pages
 *   40   8  inode              48   8  size in bytes
 *   56   8  mtime in ns        64   8  ctime in ns: of the database file, after its `-wal` was checkpointed and removed
 *   72   …  page checksums, 8 bytes a page, as `PageChecksums.toBuffer` gives them
 *    …   8  CRC of everything before
 *
 * Promises: `loadState` answers with a state that is whole and whose page checksums make the database checksum, or with
 * `undefined`, also for a newer version of this format: it only saves work, so a downgrade hashes and loses nothing. Whether it still speaks of the file is for the caller to ask: `sameIdentity`.
 * Order: written after the last connection is closed, removed durably before anything may change the database. So after a
 * crash there is none, and the start hashes.
 */
import path from 'node:path'
import type { Disk, FileIdentity } from '../files/disk.ts'
import { PageChecksums } from '../ltx/page-checksums.ts'
import { type Checksum, NO_CHECKSUM } from '../position/checksum.ts'
import type { Epoch } from '../position/epoch.ts'
import type { Position } from '../position/position.ts'
import type { Txid } from '../position/txid.ts'
import { isValidPageSize } from '../sqlite-format/database-header.ts'
import { crcMatches, writeCrc } from './segment-format.ts'

export interface SavedState {
  readonly position: Position
  /** Epoch of the record that led to the position. */
  readonly epoch: Epoch
  readonly pageSize: number
  readonly checksums: PageChecksums
  /** The database file when the state was saved. */
  readonly identity: FileIdentity
}

const MAGIC = 0x4c465354
const VERSION = 1
const HEADER_BYTES = 72
const CRC_BYTES = 8

/** Writes the state durably, replacing an older one. Throws `STORAGE_FAILED`. */
export function saveState(disk: Disk, file: string, state: SavedState): void {
  const pages = state.checksums.toBuffer()
  const bytes = Buffer.alloc(HEADER_BYTES + pages.length + CRC_BYTES)
  bytes.writeUInt32BE(MAGIC, 0)
  bytes.writeUInt32BE(VERSION, 4)
  bytes.writeBigUInt64BE(state.position.txid, 8)
  bytes.writeBigUInt64BE(state.position.checksum, 16)
  bytes.writeBigUInt64BE(BigInt(state.epoch), 24)
  bytes.writeUInt32BE(state.pageSize, 32)
  bytes.writeUInt32BE(state.checksums.pageCount, 36)
  bytes.writeBigUInt64BE(state.identity.inode, 40)
  bytes.writeBigUInt64BE(state.identity.sizeBytes, 48)
  bytes.writeBigInt64BE(state.identity.modifiedNs, 56)
  bytes.writeBigInt64BE(state.identity.changedNs, 64)
  pages.copy(bytes, HEADER_BYTES)
  writeCrc(bytes, 0, bytes.length - CRC_BYTES)
  disk.replaceDurably('log.save-state', file, bytes)
}

/** The state in the file; `undefined` when there is none or anything about it is not exactly right. */
export function loadState(disk: Disk, file: string): SavedState | undefined {
  const bytes = disk.readWhole('log.load-state', file)
  if (bytes === undefined || bytes.length < HEADER_BYTES + CRC_BYTES) return undefined
  if (bytes.readUInt32BE(0) !== MAGIC || bytes.readUInt32BE(4) !== VERSION) return undefined
  const pageSize = bytes.readUInt32BE(32)
  const pageBytes = bytes.readUInt32BE(36) * 8
  const epoch = Number(bytes.readBigUInt64BE(24))
  if (!isValidPageSize(pageSize) || !Number.isSafeInteger(epoch)) return undefined
  if (bytes.length !== HEADER_BYTES + pageBytes + CRC_BYTES || !crcMatches(bytes, 0, bytes.length - CRC_BYTES))
    return undefined
  const checksums = PageChecksums.fromBuffer(pageSize, bytes.subarray(HEADER_BYTES, HEADER_BYTES + pageBytes))
  const position = { txid: bytes.readBigUInt64BE(8) as Txid, checksum: bytes.readBigUInt64BE(16) as Checksum }
  if (!isChecksumOf(position, checksums)) return undefined
  const identity = {
    inode: bytes.readBigUInt64BE(40),
    sizeBytes: bytes.readBigUInt64BE(48),
    modifiedNs: bytes.readBigInt64BE(56),
    changedNs: bytes.readBigInt64BE(64),
  }
  return { position, epoch: epoch as Epoch, pageSize, checksums, identity }
}

/** Removes the state durably: to be called before anything may change the database. */
export function removeState(disk: Disk, file: string): void {
  disk.remove('log.remove-state', file)
  disk.syncDirectory('log.remove-state', path.dirname(file))
}

function isChecksumOf(position: Position, checksums: PageChecksums): boolean {
  // Before the first transaction there is no checksum, though an empty database may already have its first page.
  if (position.txid === 0n) return position.checksum === NO_CHECKSUM
  return position.checksum === checksums.checksum
}
