/** Divergence reports, for people and for programs. */
import { formatPosition, formatTxid } from '@litefleet/core'
import {
  type DivergenceReport,
  type DivergentRequest,
  operationToJson,
  type Replay,
  reportToJson,
  type StoredReport,
} from '@litefleet/core/peer'
import { type Column, formatTable } from './text-table.ts'

const COLUMNS: readonly Column[] = [
  { heading: 'database' },
  { heading: 'id' },
  { heading: 'found' },
  { heading: 'kind' },
  { heading: 'transactions', align: 'right' },
  { heading: 'requests', align: 'right' },
  { heading: 'replayed', align: 'right' },
]
/** Requests shown by `show`; `--json` and `export` give all. */
const REQUESTS_SHOWN = 100

export interface ReportSummary extends StoredReport {
  readonly replays: readonly Replay[]
}

export function formatReportTable(reports: readonly ReportSummary[]): string {
  if (reports.length === 0) return 'no divergence reports'
  const rows = reports.map(({ report, replays }) => [
    report.database,
    report.id,
    new Date(report.foundAtMs).toISOString(),
    report.kind,
    String(transactionCount(report)),
    String(report.requests),
    String(appliedCount(replays)),
  ])
  return formatTable(COLUMNS, rows)
}

/** As in the report's own file, with where that is and what was run again. `requests` is how many there are. */
export function reportJson({ report, directory, replays }: ReportSummary): object {
  const attempts = replays.map(({ txid, ...replay }) => ({ txid: formatTxid(txid), ...replay }))
  return { ...reportToJson(report), directory, replays: attempts }
}

export function formatReport(
  { report, directory, replays }: ReportSummary,
  requests: readonly DivergentRequest[],
): string {
  const { transactions, missing, shared, primary } = report
  const kept =
    transactions === undefined ? 'none' : `${formatTxid(transactions.first)} to ${formatTxid(transactions.last)}`
  const facts = [
    ['database', report.database],
    ['found', new Date(report.foundAtMs).toISOString()],
    ['why', report.reason],
    ['shared', `${shared === undefined ? 'not known' : formatPosition(shared)}${report.isExact ? '' : ' (not exact)'}`],
    ['here', `${formatPosition(report.here)}, epoch ${report.hereEpoch}`],
    ['primary', `${primary === undefined ? 'not known' : formatPosition(primary)}, epoch ${report.primaryEpoch}`],
    ['transactions', `${kept}${missing === 0 ? '' : `; ${missing} more were not in the log any more`}`],
    ['requests', String(report.requests)],
    ['replayed', `${appliedCount(replays)} of them`],
    ['files', directory],
  ]
  const lines = facts.map(([name = '', value = '']) => `${name.padEnd(12)}  ${value}`)
  for (const request of requests.slice(0, REQUESTS_SHOWN)) lines.push(formatRequest(request))
  if (requests.length > REQUESTS_SHOWN) lines.push(`… and ${requests.length - REQUESTS_SHOWN} more (--json shows all)`)
  return lines.join('\n')
}

/** One line: transaction, identity, what it asked for. */
export function formatRequest({ txid, requestId, idempotencyKey, operation }: DivergentRequest): string {
  const who = requestId ?? (idempotencyKey === undefined ? 'no identity' : `key ${JSON.stringify(idempotencyKey)}`)
  return `${formatTxid(txid)}  ${who}  ${operation === undefined ? '(too large to keep)' : JSON.stringify(operationToJson(operation))}`
}

function transactionCount({ transactions }: DivergenceReport): number {
  return transactions === undefined ? 0 : Number(transactions.last - transactions.first) + 1
}

function appliedCount(replays: readonly Replay[]): number {
  const applied = replays.filter(({ outcome }) => outcome === 'applied')
  return new Set(applied.map(({ txid, index }) => `${txid} ${index}`)).size
}
