/**
 * The epoch table of one database, in a file of its own because it outlives every record of the log: it is kept for ever,
 * also over a reset. All integers are big-endian; CRC is CRC-64/GO-ISO.
 *
 *   0  4  "LFEP"
 *   4  4  format version, 1
 *   8  8  number of entries
 *  16  …  entries of 24 bytes: epoch, first TXID, checksum before it, 8 bytes each
 *   …  8  CRC of everything before
 *
 * Promises: a change is durable when the call returns; a crash leaves the table before or after it. Epochs ascend strictly;
 * so do first TXIDs, because an epoch that wrote nothing says nothing about history and gives its place to the next one.
 * After a crash: nothing to do. A file that fails its checksum is an error, not an empty table: an empty table would let a
 * diverged history pass for a common one.
 */
import path from 'node:path'
import { assert } from '../base/assert.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { Disk } from '../files/disk.ts'
import { CHECKSUM_FLAG, type Checksum } from '../position/checksum.ts'
import type { Epoch, EpochStart, EpochTable } from '../position/epoch.ts'
import type { Txid } from '../position/txid.ts'
import { crcMatches, writeCrc } from './segment-format.ts'

const FILE_NAME = 'epochs'
const MAGIC = 0x4c464550
const VERSION = 1
const HEADER_BYTES = 16
const ENTRY_BYTES = 24
const CRC_BYTES = 8

export class EpochFile {
  readonly #disk: Disk
  readonly #file: string
  #table: EpochTable

  private constructor(disk: Disk, file: string, table: EpochTable) {
    this.#disk = disk
    this.#file = file
    this.#table = table
  }

  /** Throws `CORRUPT_DATA` when the file exists and is damaged. */
  static open(disk: Disk, directory: string): EpochFile {
    const file = path.join(directory, FILE_NAME)
    const bytes = disk.readWhole('log.epochs', file)
    const table = bytes === undefined ? [] : decode(bytes)
    if (table === undefined)
      throw new ClusterError('CORRUPT_DATA', `epoch table ${file} is damaged`, {
        details: { file },
        hint: 'Remove the directory of this database on this node, so that it is fetched again from another node.',
      })
    return new EpochFile(disk, file, table)
  }

  get table(): EpochTable {
    return this.#table
  }

  /**
   * Adds the newest epoch. Entries that begin at or after its first TXID leave: either they wrote nothing, or this node
   * went back behind them and their history is not its own any more.
   */
  record(start: EpochStart): void {
    const last = this.#table.at(-1)
    assert(last === undefined || start.epoch > last.epoch, `epoch ${start.epoch} after epoch ${last?.epoch}`)
    this.#store([...this.#table.filter((earlier) => earlier.firstTxid < start.firstTxid), start])
  }

  /** Takes over the table of another node. Throws `CORRUPT_DATA` when it is not ascending. */
  adopt(table: EpochTable): void {
    // Of several epochs that begin at the same TXID only the last one wrote it.
    this.#store(table.filter((start, i) => start.firstTxid !== table[i + 1]?.firstTxid))
  }

  #store(starts: readonly EpochStart[]): void {
    const table = Object.freeze(starts.map((start) => Object.freeze({ ...start })))
    if (!isAscending(table)) throw new ClusterError('CORRUPT_DATA', 'epoch table is not ascending')
    if (sameTable(table, this.#table)) return
    this.#disk.replaceDurably('log.epochs', this.#file, encode(table))
    this.#table = table
  }
}

function encode(table: EpochTable): Buffer {
  const length = HEADER_BYTES + table.length * ENTRY_BYTES
  const bytes = Buffer.alloc(length + CRC_BYTES)
  bytes.writeUInt32BE(MAGIC, 0)
  bytes.writeUInt32BE(VERSION, 4)
  bytes.writeBigUInt64BE(BigInt(table.length), 8)
  table.forEach((start, i) => {
    const at = HEADER_BYTES + i * ENTRY_BYTES
    bytes.writeBigUInt64BE(BigInt(start.epoch), at)
    bytes.writeBigUInt64BE(start.firstTxid, at + 8)
    bytes.writeBigUInt64BE(start.checksumBefore, at + 16)
  })
  writeCrc(bytes, 0, length)
  return bytes
}

function decode(bytes: Buffer): EpochTable | undefined {
  if (bytes.length < HEADER_BYTES + CRC_BYTES || bytes.readUInt32BE(0) !== MAGIC || bytes.readUInt32BE(4) !== VERSION)
    return undefined
  const length = bytes.length - CRC_BYTES
  if (BigInt(length - HEADER_BYTES) !== bytes.readBigUInt64BE(8) * BigInt(ENTRY_BYTES)) return undefined
  if (!crcMatches(bytes, 0, length)) return undefined
  const table: EpochStart[] = []
  for (let at = HEADER_BYTES; at < length; at += ENTRY_BYTES)
    table.push(
      Object.freeze({
        epoch: Number(bytes.readBigUInt64BE(at)) as Epoch,
        firstTxid: bytes.readBigUInt64BE(at + 8) as Txid,
        checksumBefore: bytes.readBigUInt64BE(at + 16) as Checksum,
      }),
    )
  return isAscending(table) ? Object.freeze(table) : undefined
}

function isAscending(table: EpochTable): boolean {
  return table.every((start, i) => {
    const before = table[i - 1]
    if (!Number.isSafeInteger(start.epoch) || start.epoch < 1 || start.firstTxid < 1n) return false
    if (start.checksumBefore !== 0n && start.checksumBefore < CHECKSUM_FLAG) return false
    return before === undefined || (start.epoch > before.epoch && start.firstTxid > before.firstTxid)
  })
}

function sameTable(a: EpochTable, b: EpochTable): boolean {
  return (
    a.length === b.length &&
    a.every((start, i) => {
      const other = b[i]!
      return (
        start.epoch === other.epoch &&
        start.firstTxid === other.firstTxid &&
        start.checksumBefore === other.checksumBefore
      )
    })
  )
}
