/** Records that follow one another, of an imaginary database, for tests of the log. */
import { LtxRecordBuilder } from '../../ltx/ltx-encoder.ts'
import type { LtxRecord } from '../../ltx/ltx-record.ts'
import { PageChecksums } from '../../ltx/page-checksums.ts'
import { EMPTY_CHECKSUM } from '../../position/checksum.ts'
import { type Position, ZERO_POSITION } from '../../position/position.ts'
import type { Txid } from '../../position/txid.ts'

export interface RecordChainOptions {
  readonly pageSize?: number | undefined
  /** Chains of different seeds have different content. */
  readonly seed?: number | undefined
  /** Where it begins, with the page checksums there. Default: before the first transaction. */
  readonly position?: Position | undefined
  readonly checksums?: PageChecksums | undefined
}

export class RecordChain {
  readonly pageSize: number
  readonly checksums: PageChecksums
  position: Position
  readonly #seed: number

  constructor(options: RecordChainOptions = {}) {
    this.pageSize = options.pageSize ?? 512
    this.position = options.position ?? ZERO_POSITION
    this.checksums = options.checksums?.clone() ?? new PageChecksums(this.pageSize)
    this.#seed = options.seed ?? 1
  }

  /** A chain that goes on from here by itself, with other content. */
  fork(seed: number): RecordChain {
    return new RecordChain({ pageSize: this.pageSize, seed, position: this.position, checksums: this.checksums })
  }

  /** The next record: it changes the first `pages` pages of the database, which grows when it must. */
  next(pages = 1, timestampMs = 1_000): LtxRecord {
    const header = this.#header(Math.max(this.checksums.pageCount, pages))
    const builder = new LtxRecordBuilder({ ...header, pageCount: pages, timestampMs })
    const page = Buffer.alloc(this.pageSize)
    for (let pgno = 1; pgno <= pages; pgno++) {
      page.writeUInt32LE(this.#seed, 0)
      page.writeBigUInt64LE(header.maxTxid, 8)
      page.writeUInt32LE(pgno, this.pageSize - 4)
      builder.addPage(pgno, page, 0)
      this.checksums.set(pgno, builder.checksumHigh, builder.checksumLow)
    }
    const record = builder.finish(this.checksums.checksum)
    this.position = record.postApply
    return record
  }

  /** Records that leave the database without pages: their checksums are all the same. */
  dropped(count: number): LtxRecord[] {
    return Array.from({ length: count }, () => {
      const record = new LtxRecordBuilder({ ...this.#header(0), pageCount: 0, timestampMs: 1_000 }).finish(
        EMPTY_CHECKSUM,
      )
      this.checksums.truncate(0)
      this.position = record.postApply
      return record
    })
  }

  take(count: number, pages = 1, timestampMs = 1_000): LtxRecord[] {
    return Array.from({ length: count }, () => this.next(pages, timestampMs))
  }

  #header(commit: number) {
    const txid = (this.position.txid + 1n) as Txid
    const wal = { walOffset: 0, walBytes: 0, walSalt1: 0, walSalt2: 0 }
    const preApplyChecksum = this.position.checksum
    return { pageSize: this.pageSize, commit, minTxid: txid, maxTxid: txid, preApplyChecksum, ...wal, nodeId: 7n }
  }
}
