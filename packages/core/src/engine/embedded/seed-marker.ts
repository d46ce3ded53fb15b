/**
 * What a database is about to become, noted durably before its pages are replaced and forgotten when its log says the same.
 *
 *   <dataDir>/<group>/dbs/<name>/seeding    position in text form (33 characters), a space, the epoch in decimal, a newline
 *
 * After a crash in between the file is in a state that its log does not know; with the marker it is known to be the primary's, and
 * the node goes on from there.
 */
import path from 'node:path'
import type { Disk } from '../../files/disk.ts'
import type { LogTail } from '../../log/transaction-log.ts'
import { epoch } from '../../position/epoch.ts'
import { formatPosition, parsePosition } from '../../position/position.ts'

export class SeedMarker {
  readonly #disk: Disk
  readonly #file: string

  /** @param directory that of the database */
  constructor(disk: Disk, directory: string) {
    this.#disk = disk
    this.#file = path.join(directory, 'seeding')
  }

  note({ position, epoch }: LogTail): void {
    this.#disk.replaceDurably('seed.marker', this.#file, Buffer.from(`${formatPosition(position)} ${epoch}\n`))
  }

  /** `undefined` when there is none, or none that is whole. */
  read(): LogTail | undefined {
    const text = this.#disk.readWhole('seed.marker', this.#file)?.toString('latin1') ?? ''
    const [, positionText = '', epochText = ''] = /^(\S{33}) (\d{1,15})\n$/.exec(text) ?? []
    const position = parsePosition(positionText)
    return position === undefined ? undefined : { position, epoch: epoch(Number(epochText)) }
  }

  forget(): void {
    this.#disk.remove('seed.marker', this.#file)
  }
}
