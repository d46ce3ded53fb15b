/** Which records a replica applies. A refused one leaves everything as it was. */
import { ClusterError } from '../errors/cluster-error.ts'
import type { LtxRecord } from '../ltx/ltx-record.ts'
import { formatPosition, type Position, samePosition } from '../position/position.ts'
import { formatTxid } from '../position/txid.ts'
import { journalModeOf } from '../sqlite-format/first-page.ts'
import { lockPage } from '../sqlite-format/lock-page.ts'

/**
 * Checks that a record continues `position` and is of a kind this version can apply.
 * @param pageCount pages of the database before it
 * @throws ClusterError `POSITION_DIVERGED`, `UNSUPPORTED_RECORD`
 */
export function checkRecord(record: LtxRecord, position: Position, pageSize: number, pageCount: number): void {
  const name = `transaction ${formatTxid(record.txid)}`
  if (!samePosition(record.preApply, position))
    throw new ClusterError('POSITION_DIVERGED', `${name} does not continue what this database holds`, {
      details: { position: formatPosition(position), continues: formatPosition(record.preApply) },
    })
  if (record.commit === 0)
    throw unsupported('dropped-database', `${name} drops the database, which this version does not do`)
  if (record.pageSize !== pageSize)
    throw unsupported('page-size', `${name} has pages of ${record.pageSize} bytes, the database of ${pageSize}`)
  if (record.pageCount === 0 && record.commit !== pageCount)
    throw unsupported('no-pages', `${name} changes the size of the database without a page`)
  if (!bringsNewPages(record, pageCount))
    throw unsupported(
      'missing-pages',
      `${name} makes a database of ${pageCount} pages one of ${record.commit} without all pages between`,
    )
  if (record.pageCount > 0 && record.pgno(0) === 1) checkFirstPage(record.bytes, record.pageOffset(0), name)
}

/**
 * Every page by which the database grows is in the record, as SQLite writes all of them into the WAL. Else the database would
 * have pages whose content nobody knows, and a size in a damaged header would ask for any amount of memory.
 */
function bringsNewPages(record: LtxRecord, pageCount: number): boolean {
  const { commit, pageSize } = record
  const lock = lockPage(pageSize)
  const added = commit - pageCount - (lock > pageCount && lock <= commit ? 1 : 0)
  // They ascend to at most `commit`, and are never the lock page: so many above the old size are all of them.
  return added <= 0 || (added <= record.pageCount && record.pgno(record.pageCount - added) > pageCount)
}

/**
 * Checks the header on page 1, and answers the mode that its primary is in.
 * @param what names the change in the message
 * @throws ClusterError `UNSUPPORTED_RECORD`
 */
export function checkFirstPage(bytes: Buffer, offset: number, what: string): 'rollback' | 'wal' {
  const mode = journalModeOf(bytes, offset)
  if (mode !== undefined) return mode
  throw unsupported('file-format', `${what} comes from a database in a file format that this version does not know`)
}

function unsupported(reason: string, message: string): ClusterError {
  return new ClusterError('UNSUPPORTED_RECORD', message, {
    details: { reason },
    hint: 'Remove the database on this node, so that it is fetched again.',
  })
}
