/**
 * A live WAL database in tests, with one pinned state: a held read transaction, the pages of that state as `serialize`
 * gives them, and where they stand, read from the `-wal` file by hand.
 */
import fs from 'node:fs'
import { realDisk } from '../../files/disk.ts'
import { LiveFiles } from '../../files/live-files.ts'
import { pageChecksum } from '../../ltx/page-checksum.ts'
import { PageChecksums } from '../../ltx/page-checksums.ts'
import { lockPage } from '../../sqlite-format/lock-page.ts'
import { FRAME_HEADER_BYTES, frameOffset } from '../../sqlite-format/wal-frame.ts'
import { parseWalHeader } from '../../sqlite-format/wal-header.ts'
import type { Connection } from '../../sqlite/connection.ts'
import { SqliteDatabase } from '../../sqlite/sqlite-library.ts'
import { packPageMap, type PinnedPages } from '../page-source.ts'

export class LiveDatabase {
  readonly writer: Connection
  readonly files: LiveFiles
  readonly #path: string
  readonly #pin: Connection
  readonly #checkpointer: Connection
  #rows = 0

  constructor(path: string, pageSize: number) {
    this.#path = path
    const open = (): Connection => {
      const connection = new SqliteDatabase(path)
      connection.pragma('wal_autocheckpoint = 0')
      return connection
    }
    this.writer = open()
    this.writer.pragma(`page_size = ${pageSize}`)
    this.writer.pragma('journal_mode = WAL')
    this.writer.pragma('synchronous = OFF')
    this.writer.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)')
    this.#pin = open()
    this.#checkpointer = open()
    this.files = LiveFiles.open(realDisk, path)
  }

  /** Adds rows of about `bytes` in one transaction. */
  insert(bytes: number): void {
    const statement = this.writer.prepare('INSERT INTO t VALUES (?, ?)')
    this.writer.transaction(() => {
      for (let left = bytes; left > 0; left -= 4000)
        statement.run(++this.#rows, Buffer.alloc(4000, `row ${this.#rows}`))
    })()
  }

  /** Overwrites a few rows in one transaction. */
  update(seed: number): void {
    const statement = this.writer.prepare('UPDATE t SET v = ? WHERE id = ?')
    this.writer.transaction(() => {
      for (let i = 0; i < 5; i++)
        statement.run(Buffer.alloc(4000, `update ${seed} ${i}`), ((seed * 7919 + i * 31) % this.#rows) + 1)
    })()
  }

  checkpoint(): void {
    this.#checkpointer.pragma('wal_checkpoint(PASSIVE)')
  }

  /** Holds the newest state until `unpin`. */
  pin(): { pages: PinnedPages; image: Buffer; checksums: PageChecksums } {
    this.#pin.exec('BEGIN')
    const image = this.#pin.serialize()
    const pageSize = this.#pin.pragma('page_size', { simple: true }) as number
    const pageCount = image.length / pageSize
    const { databaseFd, walFd } = this.files
    const pages = { databaseFd, walFd, pageSize, pageCount, wal: packPageMap(committedFrames(`${this.#path}-wal`)) }
    return { pages, image, checksums: checksumsOf(image, pageSize) }
  }

  unpin(): void {
    this.#pin.exec('COMMIT')
  }

  close(): void {
    for (const connection of [this.#pin, this.#checkpointer, this.writer]) connection.close()
    this.files.close()
  }
}

/** Page → newest frame, up to the last commit of the newest generation. */
function committedFrames(walPath: string): Map<number, number> {
  const wal = fs.readFileSync(walPath)
  const header = parseWalHeader(wal)
  const committed = new Map<number, number>()
  if (header === undefined) return committed
  const open = new Map<number, number>()
  for (let frame = 1; frameOffset(frame + 1, header.pageSize) <= wal.length; frame++) {
    const at = frameOffset(frame, header.pageSize)
    if (wal.readUInt32BE(at + 8) !== header.salt1 || wal.readUInt32BE(at + 12) !== header.salt2) break
    open.set(wal.readUInt32BE(at), frame)
    if (wal.readUInt32BE(at + 4) === 0) continue
    for (const [pgno, newest] of open) committed.set(pgno, newest)
    open.clear()
  }
  return committed
}

/** Computed page by page from a plain image. */
export function checksumsOf(image: Buffer, pageSize: number): PageChecksums {
  const checksums = new PageChecksums(pageSize)
  const halves = new Uint32Array(2)
  for (let pgno = 1; pgno <= image.length / pageSize; pgno++) {
    if (pgno === lockPage(pageSize)) continue
    pageChecksum(pgno, image, (pgno - 1) * pageSize, pageSize, halves)
    checksums.set(pgno, halves[0]!, halves[1]!)
  }
  return checksums
}

/** One frame of a `-wal` file as far as a reader of pages looks at it. */
export function frameOf(page: Buffer): Buffer {
  return Buffer.concat([Buffer.alloc(FRAME_HEADER_BYTES), page])
}
