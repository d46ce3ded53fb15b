/**
 * One epoch in a file of its own: 16 decimal digits and a newline, replaced durably.
 *
 * Promises: what `write` was given is durable when it returns, and `value` shows it then and not before.
 * After a crash: the file holds the value before or the one after.
 */
import type { Disk } from '../files/disk.ts'
import { type Epoch, epoch, NO_EPOCH } from '../position/epoch.ts'

export class EpochRecord {
  readonly file: string
  readonly #disk: Disk
  #value: Epoch | undefined

  /** Throws `STORAGE_FAILED`. */
  constructor(disk: Disk, file: string) {
    this.file = file
    this.#disk = disk
    const content = disk.readWhole('identity.read-epoch', file)
    if (content === undefined) {
      this.#value = NO_EPOCH
      return
    }
    const text = content.toString('latin1').trim()
    this.#value = /^[0-9]{16}$/.test(text) ? epoch(Number(text)) : undefined
  }

  /** `NO_EPOCH` where there is no file, `undefined` where it is damaged. */
  get value(): Epoch | undefined {
    return this.#value
  }

  /** Throws `STORAGE_FAILED`. */
  write(value: Epoch): void {
    const text = `${String(value).padStart(16, '0')}\n`
    this.#disk.replaceDurably('identity.write-epoch', this.file, Buffer.from(text))
    this.#value = value
  }
}
