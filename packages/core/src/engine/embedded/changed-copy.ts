/**
 * Keeps what stood in a replica's file that something changed behind its log, before a seed replaces it (I10).
 *
 * No transaction led there, so what is kept is one LTX of the pages that differ: applied to the primary's state it gives what stood here.
 * Relies on: nobody writes to the file meanwhile. Resolves when the report is durable; rejects with `STORAGE_FAILED`.
 */
import type { DivergenceReport } from '../../divergence/divergence-report.ts'
import type { DivergenceStore } from '../../divergence/divergence-store.ts'
import type { PageChecksums } from '../../ltx/page-checksums.ts'
import { formatChecksum } from '../../position/checksum.ts'
import type { Epoch } from '../../position/epoch.ts'
import { nextTxid } from '../../position/txid.ts'
import type { ReceivedSnapshot } from '../../snapshot/snapshot-receiver.ts'
import { countedAs } from '../../snapshot/first-page.ts'
import { writeDifference } from '../../snapshot/snapshot-writer.ts'
import type { DatabaseStore } from './database-store.ts'
import { pinnedNow } from './recovery.ts'

export interface ChangedCopy {
  readonly store: DatabaseStore
  readonly reports: DivergenceStore
  /** Of the pages that stand in the file. */
  readonly checksums: PageChecksums
  /** What is about to replace them, and the epoch of its position. */
  readonly snapshot: ReceivedSnapshot
  readonly epoch: Epoch
}

export async function reportChangedCopy({ store, reports, checksums, snapshot, epoch }: ChangedCopy): Promise<void> {
  const { disk, name, clock, warn } = store.options
  const { log, file } = store
  const { position, epoch: hereEpoch } = log.tail
  const { checksum } = checksums
  const report: DivergenceReport = {
    id: `changed-${position.txid}-${formatChecksum(checksum).slice(0, 8)}`,
    database: name,
    foundAtMs: clock.nowMs(),
    kind: 'changed',
    reason: 'the file was changed by a program that left no transaction in the log',
    shared: position.txid === 0n ? undefined : position,
    isExact: false,
    here: { txid: position.txid, checksum },
    hereEpoch,
    primary: snapshot.position,
    primaryEpoch: epoch,
    transactions: undefined,
    missing: 0,
    requests: 0,
  }
  const pages = countedAs(disk, pinnedNow(file.files, file.pageSize, checksums.pageCount), checksums)
  const to = { txid: nextTxid(snapshot.position.txid), checksum }
  const from = snapshot.checksums
  await reports.write(report, {
    base: log.tail,
    entries: [],
    requests: [],
    writeCopy: (target) =>
      writeDifference({ disk, file: target, pages, position: to, checksums, from, timestampMs: clock.nowMs() }),
  })
  warn('copy-kept', `database "${name}": what stood in its file is kept in a divergence report`, {
    report: reports.directoryOf(report.id),
  })
}
