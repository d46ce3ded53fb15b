/**
 * Makes an LTX record of a transaction of the WAL, and carries the page checksums on to the state after it.
 *
 * Promises: pages are copied once, from the read buffer into the record. When this throws, the page checksums may be
 * half-way; the caller takes them back (`PageChecksums.undo`).
 */
import { assert } from '../base/assert.ts'
import { LtxRecordBuilder } from '../ltx/ltx-encoder.ts'
import type { LtxRecord } from '../ltx/ltx-record.ts'
import type { PageChecksums } from '../ltx/page-checksums.ts'
import type { Position } from '../position/position.ts'
import { nextTxid } from '../position/txid.ts'
import { lockPage } from '../sqlite-format/lock-page.ts'
import { FRAME_HEADER_BYTES, frameOffset } from '../sqlite-format/wal-frame.ts'
import type { WalCursor } from './wal-cursor.ts'
import type { PageVisitor, WalTransaction } from './wal-scanner.ts'

export interface TransactionRecordParts {
  readonly transaction: WalTransaction
  /** The pages the record holds, ascending; those of the transaction, or all of the database for TXID 1. */
  readonly pgnos: Uint32Array
  /** Shows those pages in that order. */
  readonly visitPages: (visit: PageVisitor) => void
  /** The generation the frames are of. */
  readonly generation: Pick<WalCursor, 'salt1' | 'salt2'>
  readonly position: Position
  readonly checksums: PageChecksums
  readonly pageSize: number
  readonly nodeId: bigint
  readonly timestampMs: number
}

export function makeTransactionRecord(parts: TransactionRecordParts): LtxRecord {
  const { transaction, pgnos, generation, position, checksums, pageSize } = parts
  const { commit, firstFrame, lastFrame } = transaction
  assert(pgnos.length > 0, `the transaction at frame ${firstFrame} holds no page`)
  assertGrowthIsWhole(pgnos, checksums.pageCount, commit, pageSize)
  const txid = nextTxid(position.txid)
  const builder = new LtxRecordBuilder({
    pageSize,
    commit,
    minTxid: txid,
    maxTxid: txid,
    timestampMs: parts.timestampMs,
    preApplyChecksum: position.checksum,
    walOffset: frameOffset(firstFrame, pageSize),
    walBytes: (lastFrame - firstFrame + 1) * (FRAME_HEADER_BYTES + pageSize),
    walSalt1: generation.salt1,
    walSalt2: generation.salt2,
    nodeId: parts.nodeId,
    pageCount: pgnos.length,
  })
  parts.visitPages((pgno, source, offset) => builder.addPage(pgno, source, offset))
  return builder.finish(checksums.apply(pgnos, builder.pageChecksums, commit))
}

/**
 * Where a database grows, SQLite writes every new page. A new page that is not among the frames would have a content that
 * nobody knows, and the replicas would not have it.
 */
function assertGrowthIsWhole(pgnos: Uint32Array, oldPageCount: number, commit: number, pageSize: number): void {
  if (commit <= oldPageCount) return
  let known = 0
  while (known < pgnos.length && pgnos[pgnos.length - 1 - known]! > oldPageCount) known++
  const lock = lockPage(pageSize)
  const expected = commit - oldPageCount - (lock > oldPageCount && lock <= commit ? 1 : 0)
  assert(
    known === expected,
    `a commit grows the database from ${oldPageCount} to ${commit} pages, but only ${known} of ${expected} new pages are in the WAL`,
  )
}
