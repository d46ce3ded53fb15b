/**
 * Finds out whether this node's history is a part of the primary's, and reports what is not (I10).
 *
 * Three witnesses: the epoch tables say from which TXID on the two were written by different primaries; the primary says where it
 * stands; and it says whether its log knows our position. None of them can make a node diverge silently: where they say
 * nothing, the checksum of the next record does.
 */
import type { DivergenceReport, DivergentRequest } from '../../divergence/divergence-report.ts'
import type { DivergenceStore, ReportContent } from '../../divergence/divergence-store.ts'
import { isClusterError } from '../../errors/cluster-error.ts'
import type { LogEntry, LogTail, TransactionLog } from '../../log/transaction-log.ts'
import { NO_CHECKSUM } from '../../position/checksum.ts'
import { epochOf, lastShared, NO_EPOCH } from '../../position/epoch.ts'
import { formatPosition, type Position, samePosition } from '../../position/position.ts'
import { nextTxid, type Txid } from '../../position/txid.ts'
import { decodeRequests, type JournaledRequest } from '../../request/request-journal.ts'
import type { StreamGreeting } from '../../stream/stream-receiver.ts'

export interface Parting {
  /** The last position both have. */
  readonly shared: Position
  readonly isExact: boolean
  readonly reason: string
}

/** Larger than any TXID: of a primary that does not say where it stands. */
const NO_END: Position = { txid: (2n ** 64n - 1n) as Txid, checksum: NO_CHECKSUM }

/** `undefined`: everything this log holds belongs to the primary's history. */
export function findParting(log: TransactionLog, greeting: StreamGreeting): Parting | undefined {
  const { position: end, epoch } = log.tail
  const { epochs, seed, position } = greeting
  if (end.txid === 0n || epochs === undefined || epochs.length === 0) return undefined
  const shared = lastShared({ epochs: log.epochTable(), end, epoch }, { epochs, end: position ?? NO_END })
  const here = shared.txid === end.txid ? end.checksum : log.checksumAt(shared.txid)
  const isContradicted = here !== undefined && shared.checksum !== undefined && here !== shared.checksum
  if (shared.txid < end.txid) {
    const isBehind = epochOf(epochs, nextTxid(shared.txid)) === epochOf(log.epochTable(), nextTxid(shared.txid))
    return {
      shared: { txid: shared.txid, checksum: shared.checksum ?? here ?? NO_CHECKSUM },
      isExact: !isContradicted,
      reason: isBehind
        ? `the primary's history ends at ${formatPosition(position ?? end)}`
        : `another primary wrote what follows TXID ${shared.txid}`,
    }
  }
  if (seed !== 'diverged' && !isContradicted) return undefined
  // The same epochs, another content: the newest epoch is the least that can be in doubt.
  const start = log.epochTable().at(-1)
  const since = start === undefined || start.firstTxid > end.txid ? end.txid : ((start.firstTxid - 1n) as Txid)
  return {
    shared: { txid: since, checksum: log.checksumAt(since) ?? NO_CHECKSUM },
    isExact: false,
    reason: 'the epochs of both histories agree, but not the checksums of the databases',
  }
}

/**
 * The same where the primary tells nothing but the snapshot it sends: LiteFS. A history that parted and is longer than this node's cannot be told from
 * one whose records are not kept any more.
 * @param to where the snapshot stands
 */
export function findPartingBySnapshot(log: TransactionLog, to: Position): Parting | undefined {
  const { start, tail } = log
  if (tail.position.txid === 0n || to.txid > tail.position.txid || samePosition(to, tail.position)) return undefined
  if (log.checksumAt(to.txid) === to.checksum)
    return { shared: to, isExact: true, reason: `the primary's history ends at ${formatPosition(to)}` }
  return {
    shared: { txid: start.position.txid, checksum: NO_CHECKSUM },
    isExact: false,
    reason: `the primary has another history, and stands at ${formatPosition(to)}`,
  }
}

/** Keeps what only this node has. Resolves with the directory of the report, which is durable then. */
export async function reportParting(
  database: string,
  log: TransactionLog,
  store: DivergenceStore,
  parting: Parting,
  greeting: Pick<StreamGreeting, 'position' | 'epochs'>,
  nowMs: number,
): Promise<DivergenceReport> {
  const { shared, isExact, reason } = parting
  const { position: here, epoch: hereEpoch } = log.tail
  const after = shared.txid < log.start.position.txid ? log.start.position.txid : shared.txid
  const kept = readableAfter(log, after)
  const hasRecords = after < kept.last
  const report: DivergenceReport = {
    id: `${nextTxid(shared.txid)}-${here.txid}-${formatPosition(here).slice(17, 25)}`,
    database,
    foundAtMs: nowMs,
    kind: 'parted',
    reason,
    shared: shared.checksum === NO_CHECKSUM && shared.txid !== 0n ? undefined : shared,
    isExact,
    here,
    hereEpoch,
    primary: greeting.position,
    primaryEpoch: greeting.epochs?.at(-1)?.epoch ?? NO_EPOCH,
    transactions: hasRecords ? { first: nextTxid(after), last: kept.last } : undefined,
    missing: Number(after - shared.txid) + Number(here.txid - kept.last),
    requests: kept.requests.length,
  }
  const content: ReportContent = {
    base: hasRecords ? tailAt(log, after) : log.tail,
    entries: entries(log, after, kept.last),
    requests: kept.requests,
  }
  await store.write(report, content)
  return report
}

function tailAt(log: TransactionLog, txid: Txid): LogTail {
  const checksum = log.checksumAt(txid) ?? NO_CHECKSUM
  const epoch = txid === log.start.position.txid ? log.start.epoch : (log.readRecord(txid)?.epoch ?? NO_EPOCH)
  return { position: { txid, checksum }, epoch }
}

function* entries(log: TransactionLog, after: Txid, last: Txid): Generator<LogEntry> {
  for (let txid = after; txid < last; ) {
    txid = nextTxid(txid)
    const entry = log.readRecord(txid)
    if (entry !== undefined) yield entry
  }
}

/** How far the log can be read: a damaged record must not keep the node from being seeded again. */
function readableAfter(log: TransactionLog, after: Txid): { last: Txid; requests: readonly DivergentRequest[] } {
  const requests: DivergentRequest[] = []
  let last = after
  try {
    while (last < log.tail.position.txid) {
      const txid = nextTxid(last)
      const entry = log.readRecord(txid)
      if (entry === undefined) break
      const committedAtMs = entry.record.header.timestampMs
      for (const request of requestsOf(log, txid))
        requests.push({ ...request, txid, epoch: entry.epoch, committedAtMs })
      last = txid
    }
  } catch (error) {
    if (!isClusterError(error, 'CORRUPT_DATA')) throw error
  }
  return { last, requests }
}

function requestsOf(log: TransactionLog, txid: Txid): readonly JournaledRequest[] {
  const bytes = log.readRequests(txid)
  return bytes === undefined ? [] : decodeRequests(bytes)
}
