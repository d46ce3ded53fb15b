/**
 * Records for tests of apply, without capture: a primary made with plain better-sqlite3, whose logical image is compared
 * page by page before and after each piece of work. Slow and simple, so that it can serve as the reference.
 */
import { LtxRecordBuilder } from '../../ltx/ltx-encoder.ts'
import type { LtxRecord } from '../../ltx/ltx-record.ts'
import { pageChecksum } from '../../ltx/page-checksum.ts'
import { PageChecksums } from '../../ltx/page-checksums.ts'
import type { Checksum } from '../../position/checksum.ts'
import { type Position, ZERO_POSITION } from '../../position/position.ts'
import { nextTxid, type Txid } from '../../position/txid.ts'
import type { Connection } from '../../sqlite/connection.ts'
import { SqliteDatabase } from '../../sqlite/sqlite-library.ts'

export interface RecordSourceOptions {
  readonly pageSize: number
  /** 0 none, 1 full, 2 incremental. */
  readonly autoVacuum?: number | undefined
}

export class RecordSource {
  readonly pageSize: number
  readonly database: Connection
  /** The database after the last record. */
  image: Buffer = Buffer.alloc(0)
  position: Position = ZERO_POSITION
  /** Every record so far. */
  readonly records: LtxRecord[] = []
  /** `images[i]` is the database before `records[i]`. */
  readonly images: Buffer[] = [Buffer.alloc(0)]
  #checksums: PageChecksums

  /** @param path a file that does not exist yet */
  constructor(path: string, { pageSize, autoVacuum = 0 }: RecordSourceOptions) {
    this.pageSize = pageSize
    this.database = new SqliteDatabase(path)
    this.database.pragma(`page_size = ${pageSize}`)
    this.database.pragma(`auto_vacuum = ${autoVacuum}`)
    this.database.pragma('journal_mode = WAL')
    this.database.pragma('cache_size = 30')
    this.database.pragma('synchronous = OFF')
    this.#checksums = new PageChecksums(pageSize)
  }

  get checksums(): PageChecksums {
    return this.#checksums.clone()
  }

  /** Does the work, and makes one record of what it changed; `undefined` when it changed nothing. */
  commit(work: (database: Connection) => void): LtxRecord | undefined {
    work(this.database)
    const after = this.database.serialize()
    const before = this.image
    if (after.equals(before)) return undefined
    const record = this.#record(before, after)
    this.image = after
    this.position = record.postApply
    this.records.push(record)
    this.images.push(after)
    return record
  }

  close(): void {
    this.database.close()
  }

  #record(before: Buffer, after: Buffer): LtxRecord {
    const { txid, checksum } = this.position
    const changed = differingPages(before, after, this.pageSize)
    const builder = builderFor(nextTxid(txid), checksum, after.length / this.pageSize, changed.length, this.pageSize)
    for (const pgno of changed) builder.addPage(pgno, after, (pgno - 1) * this.pageSize)
    const commit = after.length / this.pageSize
    return builder.finish(this.#checksums.apply(changed, builder.pageChecksums, commit))
  }
}

export function builderFor(
  txid: Txid,
  preApplyChecksum: Checksum,
  commit: number,
  pageCount: number,
  pageSize: number,
): LtxRecordBuilder {
  return new LtxRecordBuilder({
    pageSize,
    commit,
    minTxid: txid,
    maxTxid: txid,
    timestampMs: 0,
    preApplyChecksum,
    walOffset: 0,
    walBytes: 0,
    walSalt1: 0,
    walSalt2: 0,
    nodeId: 0n,
    pageCount,
  })
}

/** Pages of `after` that `before` does not have or has otherwise, ascending. */
export function differingPages(before: Buffer, after: Buffer, pageSize: number): Uint32Array {
  const pgnos: number[] = []
  for (let at = 0; at < after.length; at += pageSize) {
    const isSame = at < before.length && before.compare(after, at, at + pageSize, at, at + pageSize) === 0
    if (!isSame) pgnos.push(at / pageSize + 1)
  }
  return Uint32Array.from(pgnos)
}

export function checksumsOf(image: Buffer, pageSize: number): PageChecksums {
  const checksums = new PageChecksums(pageSize)
  const halves = new Uint32Array(2)
  for (let at = 0; at < image.length; at += pageSize) {
    const pgno = at / pageSize + 1
    pageChecksum(pgno, image, at, pageSize, halves)
    checksums.set(pgno, halves[0]!, halves[1]!)
  }
  return checksums
}
