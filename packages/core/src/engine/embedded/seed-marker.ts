/**
 * What a database is about to become, noted durably before its pages are replaced and forgotten when its log says the same.
 *
 *   <dataDir>/<group>/dbs/<name>/seeding    position in text form (33 characters), a space, the epoch in decimal, a newline;
 *                                           then a line for each epoch of the primary: epoch in decimal, first TXID, checksum before it
 *
 * After a crash in between the file is in a state that its log does not know; with the marker it is known to be the primary's, and
 * the node goes on from there, with the primary's epochs: it may become primary itself before it meets another one.
 */
import path from 'node:path'
import type { Disk } from '../../files/disk.ts'
import type { LogTail, TransactionLog } from '../../log/transaction-log.ts'
import { type Checksum, formatChecksum, parseChecksum } from '../../position/checksum.ts'
import { epoch, type EpochStart, type EpochTable } from '../../position/epoch.ts'
import { formatPosition, parsePosition, type Position } from '../../position/position.ts'
import { formatTxid, parseTxid } from '../../position/txid.ts'

export interface NotedSeed extends LogTail {
  /** Empty for a LiteFS primary. */
  readonly epochs: EpochTable
}

export class SeedMarker {
  readonly #disk: Disk
  readonly #file: string

  /** @param directory that of the database */
  constructor(disk: Disk, directory: string) {
    this.#disk = disk
    this.#file = path.join(directory, 'seeding')
  }

  note({ position, epoch: newest, epochs }: NotedSeed): void {
    const starts = epochs.map(
      (start) => `${start.epoch} ${formatTxid(start.firstTxid)} ${formatChecksum(start.checksumBefore)}\n`,
    )
    const text = `${formatPosition(position)} ${newest}\n${starts.join('')}`
    this.#disk.replaceDurably('seed.marker', this.#file, Buffer.from(text))
  }

  /** `undefined` when there is none, or none that is whole. */
  read(): NotedSeed | undefined {
    const text = this.#disk.readWhole('seed.marker', this.#file)?.toString('latin1') ?? ''
    const [first = '', ...lines] = text.split('\n')
    const [, positionText = '', epochText = ''] = /^(\S{33}) (\d{1,16})$/.exec(first) ?? []
    const position = parsePosition(positionText)
    const epochs = lines.slice(0, -1).map(parseStart)
    if (position === undefined || lines.at(-1) !== '' || !epochs.every((start) => start !== undefined)) return undefined
    return { position, epoch: epoch(Number(epochText)), epochs }
  }

  /**
   * The last process died between replacing the pages and telling the log: does the rest.
   * @param checksum of the database as it stands
   * @returns where it stands; `undefined` when it was not so
   */
  finish(log: TransactionLog, checksum: Checksum): Position | undefined {
    const noted = this.read()
    if (noted === undefined || noted.position.checksum !== checksum) return undefined
    if (noted.epochs.length > 0) log.adoptEpochTable(noted.epochs)
    log.reset(noted)
    this.forget()
    return noted.position
  }

  forget(): void {
    this.#disk.remove('seed.marker', this.#file)
  }
}

function parseStart(line: string): EpochStart | undefined {
  const [, epochText = '', txidText = '', checksumText = ''] = /^(\d{1,16}) (\S{16}) (\S{16})$/.exec(line) ?? []
  const firstTxid = parseTxid(txidText)
  const checksumBefore = parseChecksum(checksumText)
  if (firstTxid === undefined || checksumBefore === undefined) return undefined
  return { epoch: epoch(Number(epochText)), firstTxid, checksumBefore }
}
