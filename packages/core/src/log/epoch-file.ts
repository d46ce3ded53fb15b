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
 * Order: the file first, then `epochs.copy`, which holds the same bytes and may be one change behind after a crash.
 * After a crash: nothing to do. A file that fails its checksum never counts as an empty table, which would let a diverged history
 * pass for a common one: the copy takes its place, together with what the log's records say of later epochs; without a copy
 * the table is what the records say. It is then shorter, not wrong.
 */
import path from 'node:path'
import { assert } from '../base/assert.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { Disk } from '../files/disk.ts'
import { CHECKSUM_FLAG, type Checksum } from '../position/checksum.ts'
import { type Epoch, type EpochStart, type EpochTable, NO_EPOCH } from '../position/epoch.ts'
import type { Txid } from '../position/txid.ts'
import { requireKnownVersion } from './format-version.ts'
import { crcMatches, writeCrc } from './segment-format.ts'

const FILE_NAME = 'epochs'
const COPY_NAME = 'epochs.copy'
const MAGIC = 0x4c464550
const VERSION = 1
const HEADER_BYTES = 16
const ENTRY_BYTES = 24
const CRC_BYTES = 8

/** What the table was made from when its file was damaged or missing. */
export type EpochRepair = 'copy' | 'log'

export class EpochFile {
  readonly #disk: Disk
  readonly #directory: string
  #table: EpochTable
  readonly #found: FoundTables

  private constructor(disk: Disk, directory: string, found: FoundTables) {
    this.#disk = disk
    this.#directory = directory
    this.#found = found
    this.#table = found.table ?? found.copy ?? []
  }

  /** Changes nothing; `repair` comes next. Throws `UNSUPPORTED_FORMAT`. */
  static open(disk: Disk, directory: string): EpochFile {
    return new EpochFile(disk, directory, findTables(disk, directory))
  }

  /**
   * Puts a damaged table right and answers how; `undefined` when it was not damaged. Brings the copy up to date.
   * @param loggedEpochs the epochs that the records of the log tell of
   */
  repair(loggedEpochs: () => EpochTable): EpochRepair | undefined {
    const { table: whole, copy } = this.#found
    if (whole !== undefined) {
      if (!sameTable(whole, copy ?? [])) this.#write(COPY_NAME, whole)
      return undefined
    }
    const known = this.#table
    const logged = loggedEpochs()
    const newestKnown = known.at(-1)?.epoch ?? 0
    const later = logged.filter(({ epoch }) => epoch > newestKnown)
    const cut = later[0]?.firstTxid
    const table = [...known.filter(({ firstTxid }) => cut === undefined || firstTxid < cut), ...later]
    this.#write(FILE_NAME, table)
    this.#write(COPY_NAME, table)
    this.#table = Object.freeze(table)
    return copy === undefined ? 'log' : 'copy'
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
    this.#write(FILE_NAME, table)
    this.#table = table
    this.#write(COPY_NAME, table)
  }

  #write(name: string, table: EpochTable): void {
    this.#disk.replaceDurably('log.epochs', path.join(this.#directory, name), encode(table))
  }
}

interface FoundTables {
  /** `undefined`: damaged, or missing although there is a copy. */
  readonly table: EpochTable | undefined
  /** `undefined`: damaged or missing. */
  readonly copy: EpochTable | undefined
}

function findTables(disk: Disk, directory: string): FoundTables {
  const file = path.join(directory, FILE_NAME)
  const copyFile = path.join(directory, COPY_NAME)
  const bytes = disk.readWhole('log.epochs', file)
  const copyBytes = disk.readWhole('log.epochs', copyFile)
  const copy = copyBytes === undefined ? undefined : decode(copyBytes, copyFile)
  if (bytes !== undefined) return { table: decode(bytes, file), copy }
  return { table: copyBytes === undefined ? [] : undefined, copy }
}

/** The newest epoch that the tables in this directory of a log tell of, as far as they can be read. */
export function newestEpochIn(disk: Disk, directory: string): Epoch {
  const { table, copy } = findTables(disk, directory)
  return Math.max(table?.at(-1)?.epoch ?? NO_EPOCH, copy?.at(-1)?.epoch ?? NO_EPOCH) as Epoch
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

/** `undefined` when the bytes are not a whole table. Throws `UNSUPPORTED_FORMAT`. */
function decode(bytes: Buffer, file: string): EpochTable | undefined {
  if (bytes.length < HEADER_BYTES + CRC_BYTES || bytes.readUInt32BE(0) !== MAGIC) return undefined
  const length = bytes.length - CRC_BYTES
  if (!crcMatches(bytes, 0, length)) return undefined
  requireKnownVersion(file, bytes.readUInt32BE(4), VERSION)
  if (bytes.readUInt32BE(4) !== VERSION) return undefined
  if (BigInt(length - HEADER_BYTES) !== bytes.readBigUInt64BE(8) * BigInt(ENTRY_BYTES)) return undefined
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
