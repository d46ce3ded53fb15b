/**
 * A primary's database with capture switched on, and a replica made of nothing but the records, in memory.
 *
 * Real: files, SQLite, guards, capture. The oracle compares the replica's image with `serialize()`, and the position's
 * checksum with one computed anew from all pages.
 */
import assert from 'node:assert/strict'
import path from 'node:path'
import { systemClock } from '../../base/clock.ts'
import { resolveCheckpointOptions, type CheckpointOptions } from '../checkpoint-options.ts'
import { PrimaryCheckpointer } from '../checkpoint-policy.ts'
import { WalCapture } from '../wal-capture.ts'
import { cursorNow } from '../wal-continuity.ts'
import type { WalScannerOptions } from '../wal-scanner.ts'
import { type Disk, realDisk } from '../../files/disk.ts'
import { LiveFiles } from '../../files/live-files.ts'
import { decodeLtxRecord, type LtxRecord } from '../../ltx/ltx-record.ts'
import { pageChecksum } from '../../ltx/page-checksum.ts'
import { PageChecksums } from '../../ltx/page-checksums.ts'
import { NO_CHECKSUM } from '../../position/checksum.ts'
import { type Position, samePosition, ZERO_POSITION } from '../../position/position.ts'
import { txid } from '../../position/txid.ts'
import { lockPage } from '../../sqlite-format/lock-page.ts'
import { PassiveCheckpoint } from '../../sqlite/checkpoint.ts'
import { type Connection, openConnection } from '../../sqlite/connection.ts'
import { prepareDatabaseFile } from '../../sqlite/open-database-file.ts'
import { SqliteDatabase } from '../../sqlite/sqlite-library.ts'
import { WalGuards } from '../../sqlite/wal-guards.ts'

export const TEST_NODE_ID = 0x1122334455667788n

export interface CapturedDatabaseOptions {
  readonly pageSize?: number
  readonly autoVacuum?: 0 | 1 | 2
  readonly disk?: Disk
  readonly checkpoint?: CheckpointOptions
  readonly scanner?: WalScannerOptions
  readonly synchronous?: 'full' | 'normal' | 'off'
  /** Adopt what is in the file at position 1 instead of starting at the zero position. */
  readonly adopt?: boolean
  /** Begin here, whatever the file holds. The replica is then of no use. */
  readonly startAt?: { readonly position: Position; readonly checksums: PageChecksums }
}

/** Makes an empty database of a page size and auto-vacuum mode. */
export function makeDatabase(file: string, pageSize: number, autoVacuum: number): void {
  const connection = new SqliteDatabase(file)
  connection.pragma(`page_size = ${pageSize}`)
  connection.pragma(`auto_vacuum = ${autoVacuum}`)
  connection.exec('VACUUM')
  connection.close()
}

export class CapturedDatabase {
  readonly file: string
  readonly pageSize: number
  readonly writer: Connection
  readonly files: LiveFiles
  readonly guards: WalGuards
  readonly capture: WalCapture
  readonly checkpointer: PrimaryCheckpointer
  readonly replica: MemoryReplica
  /** Everything taken, oldest first. */
  readonly records: LtxRecord[] = []
  readonly #connections: Connection[] = []

  private constructor(directory: string, options: CapturedDatabaseOptions) {
    const disk = options.disk ?? realDisk
    this.file = path.join(directory, 'database')
    if (options.pageSize !== undefined || options.autoVacuum !== undefined) {
      makeDatabase(this.file, options.pageSize ?? 4096, options.autoVacuum ?? 0)
    }
    this.pageSize = prepareDatabaseFile(disk, this.file, { mayCreate: true }).pageSize
    const connect = (): Connection => {
      const connection = openConnection(this.file, { synchronous: options.synchronous ?? 'off' })
      this.#connections.push(connection)
      return connection
    }
    this.writer = connect()
    this.files = LiveFiles.open(disk, this.file)
    this.guards = new WalGuards([connect(), connect()])
    this.guards.open()
    for (const connection of this.#connections) this.files.track(connection)
    this.writer.exec('BEGIN IMMEDIATE')
    const checksums = options.startAt?.checksums ?? new PageChecksums(this.pageSize)
    let position = options.startAt?.position ?? ZERO_POSITION
    this.replica = new MemoryReplica(this.pageSize)
    if (options.adopt === true) {
      position = this.replica.adopt(this.writer.serialize())
      checksums.apply(...this.replica.allChecksums())
    }
    this.capture = new WalCapture({
      files: this.files,
      guards: this.guards,
      checksums,
      position,
      pageSize: this.pageSize,
      nodeId: TEST_NODE_ID,
      clock: systemClock,
      cursor: cursorNow(this.files),
      scanner: options.scanner,
    })
    this.writer.exec('COMMIT')
    this.checkpointer = new PrimaryCheckpointer({
      capture: this.capture,
      guards: this.guards,
      checkpoint: new PassiveCheckpoint(connect()),
      locker: connect(),
      clock: systemClock,
      options: resolveCheckpointOptions(options.checkpoint ?? {}, this.pageSize),
    })
  }

  static open(directory: string, options: CapturedDatabaseOptions = {}): CapturedDatabase {
    return new CapturedDatabase(directory, options)
  }

  /** Captures and hands the records to the replica. */
  take(syncWalFirst = false): readonly LtxRecord[] {
    const records = this.capture.capture({ syncWalFirst })
    this.accept(records)
    return records
  }

  accept(records: readonly LtxRecord[]): void {
    for (const record of records) {
      this.records.push(record)
      this.replica.apply(record)
    }
  }

  /** One turn of the checkpointer, its records taken. */
  checkpoint(beforeDiscard: () => void = () => {}) {
    return this.checkpointer.run({ onCaptured: (records) => this.accept(records), beforeDiscard })
  }

  /** Captures under the write lock, then compares replica and database. */
  expectSame(): void {
    lock(this.writer)
    try {
      this.take()
      const image = this.writer.serialize()
      assert.equal(this.replica.difference(image), undefined)
      assert.ok(samePosition(this.capture.position, this.replica.position), 'positions differ')
    } finally {
      this.writer.exec('COMMIT')
    }
  }

  close(): void {
    this.guards.close()
    for (const connection of this.#connections) connection.close()
    this.files.close()
  }
}

/** Takes the write lock among other writers. Bounded by tries. */
export function lock(connection: Connection): void {
  for (let tries = 0; ; tries++) {
    try {
      connection.exec('BEGIN IMMEDIATE')
      return
    } catch (error) {
      if (tries > 200_000) throw error
    }
  }
}

/** A database image rebuilt from records alone. */
export class MemoryReplica {
  readonly #pageSize: number
  readonly #pages = new Map<number, Buffer>()
  #pageCount = 0
  position: Position = ZERO_POSITION

  constructor(pageSize: number) {
    this.#pageSize = pageSize
  }

  adopt(image: Buffer): Position {
    this.#pageCount = image.length / this.#pageSize
    for (let pgno = 1; pgno <= this.#pageCount; pgno++) this.#pages.set(pgno, Buffer.from(this.#page(image, pgno)))
    this.position = { txid: txid(1n), checksum: this.#checksum() }
    return this.position
  }

  apply(given: LtxRecord): void {
    // Through bytes, as it would travel; decoding verifies the file checksum and the order of the pages.
    const record = decodeLtxRecord(Buffer.from(given.bytes))
    assert.equal(record.header.nodeId, TEST_NODE_ID)
    assert.equal(record.header.minTxid, this.position.txid + 1n)
    assert.equal(record.header.preApplyChecksum, record.isSnapshot ? NO_CHECKSUM : this.position.checksum)
    for (let i = 0; i < record.pageCount; i++) {
      assert.notEqual(record.pgno(i), lockPage(this.#pageSize), 'the lock page was captured')
      this.#pages.set(record.pgno(i), record.page(i))
    }
    for (const pgno of this.#pages.keys()) if (pgno > record.commit) this.#pages.delete(pgno)
    this.#pageCount = record.commit
    this.position = record.postApply
  }

  /** What differs from a database image, in words. */
  difference(image: Buffer): string | undefined {
    const pageCount = image.length / this.#pageSize
    if (pageCount !== this.#pageCount) return `${this.#pageCount} pages, not ${pageCount}`
    for (let pgno = 1; pgno <= pageCount; pgno++) {
      if (pgno === lockPage(this.#pageSize)) continue
      const page = this.#pages.get(pgno)
      if (page === undefined) return `page ${pgno} is missing`
      if (page.compare(this.#page(image, pgno)) !== 0) return `page ${pgno} differs`
    }
    if (this.#checksum() !== this.position.checksum) return 'the checksum is not that of the pages'
    return undefined
  }

  /** As `PageChecksums.apply` takes them. */
  allChecksums(): [Uint32Array, Uint32Array, number] {
    const pgnos = Uint32Array.from([...this.#pages.keys()].filter((pgno) => pgno !== lockPage(this.#pageSize))).sort()
    const highLow = new Uint32Array(pgnos.length * 2)
    for (const [i, pgno] of pgnos.entries()) {
      const page = this.#pages.get(pgno)
      assert.ok(page)
      pageChecksum(pgno, page, 0, this.#pageSize, highLow, i * 2)
    }
    return [pgnos, highLow, this.#pageCount]
  }

  #checksum() {
    return new PageChecksums(this.#pageSize).apply(...this.allChecksums())
  }

  #page(image: Buffer, pgno: number): Buffer {
    return image.subarray((pgno - 1) * this.#pageSize, pgno * this.#pageSize)
  }
}
