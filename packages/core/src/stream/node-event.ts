/**
 * Lines of `GET /events` as LiteFS writes them: one JSON object and a newline each.
 *
 *   {"type":"init","data":{"isPrimary":true}}                     hostname is left out when it is not known
 *   {"type":"tx","db":"my.db","data":{"txID":"…","postApplyChecksum":"…","pageSize":4096,"commit":4,"timestamp":"…"}}
 *   {"type":"primaryChange","data":{"isPrimary":false,"hostname":"hosta"}}
 *
 * The timestamp is RFC 3339 in UTC with milliseconds, without trailing zeros. A drop has commit 0.
 */
import { formatChecksum } from '../position/checksum.ts'
import type { Position } from '../position/position.ts'
import { formatTxid } from '../position/txid.ts'
import type { DatabaseName } from '../request/database-name.ts'

export type NodeEvent =
  | {
      readonly kind: 'tx'
      readonly database: DatabaseName
      readonly position: Position
      readonly pageSize: number
      /** Size of the database in pages; 0 = dropped. */
      readonly commit: number
      readonly timestampMs: number
    }
  | { readonly kind: 'primary-change'; readonly isPrimary: boolean; readonly hostname: string | undefined }

/** The first line of every subscriber. LiteFS leaves the hostname out on the primary itself. */
export function formatInit(isPrimary: boolean, primaryHostname: string): string {
  return line({ type: 'init', data: { isPrimary, hostname: isPrimary ? undefined : primaryHostname || undefined } })
}

export function formatNodeEvent(event: NodeEvent): string {
  if (event.kind === 'primary-change') {
    const { isPrimary, hostname } = event
    return line({ type: 'primaryChange', data: { isPrimary, hostname: hostname || undefined } })
  }
  return line({
    type: 'tx',
    db: event.database,
    data: {
      txID: formatTxid(event.position.txid),
      postApplyChecksum: formatChecksum(event.position.checksum),
      pageSize: event.pageSize,
      commit: event.commit,
      timestamp: new Date(event.timestampMs).toISOString().replace(/\.?0+Z$/, 'Z'),
    },
  })
}

function line(event: object): string {
  return `${JSON.stringify(event)}\n`
}
