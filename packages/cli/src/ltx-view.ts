/** Lines about one LTX, for people and for programs. */
import type { LtxHeader, LtxTrailer } from '@litefleet/core/peer'
import { formatChecksum, formatTxid } from '@litefleet/core'

/** What one LTX says, as plain data. */
export interface LtxSummary {
  /** The file and, in a log segment, where in it the LTX begins. */
  readonly source: string
  readonly bytes: number
  /** Of the primary that wrote it; only the log knows. */
  readonly epoch: number | null
  readonly minTxid: string
  readonly maxTxid: string
  readonly isSnapshot: boolean
  readonly compressed: boolean
  readonly pageSize: number
  readonly pageCount: number
  /** Size of the database afterwards, in pages. */
  readonly commit: number
  readonly timestamp: string
  readonly nodeId: string
  readonly preApplyChecksum: string
  readonly postApplyChecksum: string
  readonly fileChecksum: string
  /** Page numbers in the order they come; null when they were not asked for. */
  readonly pages: readonly number[] | null
}

export interface ReadLtx {
  readonly header: LtxHeader
  readonly trailer: LtxTrailer
  readonly bytes: number
  readonly pageCount: number
  readonly pages: readonly number[] | undefined
}

export function summarizeLtx(ltx: ReadLtx, source: string, epoch: number | undefined): LtxSummary {
  const { header, trailer } = ltx
  return {
    source,
    bytes: ltx.bytes,
    epoch: epoch ?? null,
    minTxid: formatTxid(header.minTxid),
    maxTxid: formatTxid(header.maxTxid),
    isSnapshot: header.minTxid === 1n,
    compressed: header.compressed,
    pageSize: header.pageSize,
    pageCount: ltx.pageCount,
    commit: header.commit,
    timestamp: new Date(header.timestampMs).toISOString(),
    nodeId: header.nodeId.toString(16).padStart(16, '0').toUpperCase(),
    preApplyChecksum: formatChecksum(header.preApplyChecksum),
    postApplyChecksum: formatChecksum(trailer.postApplyChecksum),
    fileChecksum: formatChecksum(trailer.fileChecksum),
    pages: ltx.pages ?? null,
  }
}

/** One line: what somebody looking for a transaction needs. */
export function formatLtxLine(summary: LtxSummary): string {
  const txids = summary.minTxid === summary.maxTxid ? summary.minTxid : `${summary.minTxid}-${summary.maxTxid}`
  const epoch = summary.epoch === null ? '' : `  epoch ${summary.epoch}`
  const pages = `${summary.pageCount} page${summary.pageCount === 1 ? '' : 's'} of ${summary.pageSize}`
  const checksums = `${summary.preApplyChecksum} -> ${summary.postApplyChecksum}`
  const numbers = summary.pages === null ? '' : `\n    pages ${summary.pages.join(' ')}`
  return `${txids}  ${summary.timestamp}${epoch}  ${pages}, commit ${summary.commit}  ${checksums}${numbers}`
}
