/** An LTX snapshot of a state, as the stream sends it; the copy is made at once, because the state never changes. */
import { LtxRecordBuilder } from '../../packages/core/src/ltx/ltx-encoder.ts'
import type { PageChecksums } from '../../packages/core/src/ltx/page-checksums.ts'
import { LtxSnapshotWriter } from '../../packages/core/src/ltx/ltx-snapshot-writer.ts'
import type { Position } from '../../packages/core/src/position/position.ts'
import type { SnapshotSpool } from '../../packages/core/src/stream/snapshot-spool.ts'
import { PAGE_SIZE, type SqliteImage } from './sqlite-image.ts'

const PAGES_PER_PIECE = 16
const PIECE_BYTES = 16 * 1024

export function snapshotOf(image: SqliteImage, position: Position, timestampMs: number, nodeId: bigint): SnapshotSpool {
  const commit = image.pages.length
  const writer = new LtxSnapshotWriter({ pageSize: PAGE_SIZE, commit, maxTxid: position.txid, timestampMs, nodeId })
  return {
    position,
    sizeBytes: writer.totalBytes,
    done: Promise.resolve(),
    close: () => undefined,
    // oxlint-disable-next-line require-await -- the contract is asynchronous, the copy is in memory
    async *read() {
      yield writer.header()
      for (let at = 0; at < commit; at += PAGES_PER_PIECE) {
        yield writer.pages(at + 1, Buffer.concat(image.pages.slice(at, at + PAGES_PER_PIECE)))
      }
      yield writer.end(position.checksum)
    },
  }
}

/** One LTX that leads from another state to this one. */
export function differenceOf(
  image: SqliteImage,
  from: PageChecksums,
  position: Position,
  timestampMs: number,
  nodeId: bigint,
): SnapshotSpool {
  const pgnos = image.checksums.differingFrom(from)
  const builder = new LtxRecordBuilder({
    pageSize: PAGE_SIZE,
    commit: image.pages.length,
    minTxid: position.txid,
    maxTxid: position.txid,
    timestampMs,
    preApplyChecksum: from.checksum,
    walOffset: 0,
    walBytes: 0,
    walSalt1: 0,
    walSalt2: 0,
    nodeId,
    pageCount: pgnos.length,
  })
  for (const pgno of pgnos) builder.addPage(pgno, image.pages[pgno - 1] as Buffer, 0)
  const { bytes } = builder.finish(position.checksum)
  return {
    position,
    sizeBytes: bytes.length,
    done: Promise.resolve(),
    close: () => undefined,
    // oxlint-disable-next-line require-await -- as above
    async *read() {
      for (let at = 0; at < bytes.length; at += PIECE_BYTES) yield bytes.subarray(at, at + PIECE_BYTES)
    },
  }
}
