/**
 * The divergence reports of all nodes of a storm: what was lost to the cluster's history, and how it comes back.
 *
 * They are replayed by `litefleet divergence replay`, as an operator does it, and then once more by hand, which must do nothing. By hand:
 * each request goes through the primary as an ordinary write, under the id or key it had, in the order in which they were committed. A request without either gets a key made of where it stands in the report: a second replay does nothing again. It is looked for
 * before, because a report may have been made against a history that was lost as well, and the one that was kept may have it.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import {
  decodeReport,
  decodeRequestLine,
  type DivergenceReport,
  type DivergentRequest,
  REPORT_FILE,
  REQUESTS_FILE,
} from '../../packages/core/src/divergence/divergence-report.ts'
import { run } from '../support/litefleet-command.ts'
import { NodeError } from '../support/process-node.ts'
import type { Fleet } from './fleet.ts'
import { DATABASE, HAS_ID } from './storm-schema.ts'

export interface FoundReport {
  readonly node: number
  readonly report: DivergenceReport
  readonly requests: readonly DivergentRequest[]
}

export interface ReplayCount {
  requests: number
  /** Had no effect before. */
  ran: number
  /** Had one already, in the history that was kept. */
  known: number
  /** Declared not applied meanwhile. */
  abandoned: number
  /** Too large to be kept in the report. */
  withoutOperation: number
}

/** The oldest first. */
export function readReports(fleet: Fleet): readonly FoundReport[] {
  const found: FoundReport[] = []
  for (const node of fleet.indexes) {
    const directory = path.join(fleet.cluster.directoryOf(node), 'divergence')
    if (!existsSync(directory)) continue
    for (const name of readdirSync(directory)) {
      const file = path.join(directory, name, REPORT_FILE)
      // Without it a directory is no report yet.
      if (name.startsWith('.') || !existsSync(file)) continue
      const lines = path.join(directory, name, REQUESTS_FILE)
      found.push({
        node,
        report: decodeReport(readFileSync(file), file),
        requests: readFileSync(lines, 'utf8')
          .split('\n')
          .filter((line) => line !== '')
          .map((line) => decodeRequestLine(line, lines)),
      })
    }
  }
  return found.toSorted((a, b) => a.report.foundAtMs - b.report.foundAtMs)
}

/** The write of the storm that a request was for. */
export function writeIdOf({ operation }: DivergentRequest): number | undefined {
  if (operation?.kind !== 'batch') return undefined
  const [first] = operation.statements
  const params = first?.params
  if (!Array.isArray(params)) return undefined
  return Number(first?.sql.includes('appended') ? params[2] : params[0])
}

/** Whether a report says that transactions of this TXID are missing from it, or of one before where that is all one knows. */
export function isMissing({ report }: FoundReport, txid: bigint, isAtMost: boolean): boolean {
  const { shared, transactions, here, missing } = report
  if (missing === 0 || txid > here.txid || txid <= (shared?.txid ?? 0n)) return false
  return isAtMost || transactions === undefined || txid < transactions.first || txid > transactions.last
}

/** TXIDs of reported transactions for which no report knows a request: they were found in a WAL after a crash, before they were logged. */
export function txidsWithoutRequest(reports: readonly FoundReport[]): readonly bigint[] {
  const known = new Set(reports.flatMap(({ requests }) => requests.map(({ txid }): bigint => txid)))
  const without = new Set<bigint>()
  for (const { report } of reports) {
    const { first, last } = report.transactions ?? { first: 1n, last: 0n }
    for (let txid: bigint = first; txid <= last; txid++) if (!known.has(txid)) without.add(txid)
  }
  return [...without]
}

/** `litefleet divergence replay` for each report; says what went wrong. */
export async function replayByCommand(fleet: Fleet, reports: readonly FoundReport[]): Promise<ReplayCount> {
  const count: ReplayCount = { requests: 0, ran: 0, known: 0, abandoned: 0, withoutOperation: 0 }
  const { addresses } = await fleet.cluster.primary.ready()
  for (const { node, report, requests } of reports) {
    if (requests.length === 0) continue
    const dataDir = fleet.cluster.dataDirOf(node)
    const { out, err } = await run('divergence', 'replay', '--data-dir', dataDir, report.id, '--node', addresses.grpc)
    const lines = out.split('\n').filter((line) => line !== '')
    count.requests += lines.length
    for (const line of lines) {
      if (line.startsWith('applied (it had')) count.known++
      else if (line.startsWith('applied')) count.ran++
      else if (line.startsWith('skipped')) count.withoutOperation++
      else if (line.includes('REQUEST_ABANDONED')) count.abandoned++
      else fleet.log.finding(`replay of ${report.id} of node ${node}: ${line}`)
    }
    if (lines.length !== requests.length)
      fleet.log.finding(
        `replay of ${report.id} of node ${node} tried ${lines.length} of ${requests.length} requests: ${err}`,
      )
  }
  return count
}

/** @param onAbandoned told of each write that the history of today has declared not applied */
export async function replay(
  fleet: Fleet,
  reports: readonly FoundReport[],
  onAbandoned: (id: number) => void,
): Promise<ReplayCount> {
  const count: ReplayCount = { requests: 0, ran: 0, known: 0, abandoned: 0, withoutOperation: 0 }
  const { primary } = fleet.cluster
  for (const { report, requests } of reports) {
    for (const [index, request] of requests.entries()) {
      const { operation, requestId, idempotencyKey } = request
      count.requests++
      if (operation?.kind !== 'batch') {
        count.withoutOperation++
        continue
      }
      const id = writeIdOf(request) ?? 0
      const isAnonymous = requestId === undefined && idempotencyKey === undefined
      if (isAnonymous && (await primary.read(DATABASE, HAS_ID, [id, id]))[0]?.[0] !== 0) {
        count.known++
        continue
      }
      const key = idempotencyKey ?? (isAnonymous ? `replay of ${report.id}, request ${index}` : undefined)
      const identity = { requestId, idempotencyKey: key }
      try {
        const { replayed } = await primary.batch(DATABASE, operation.statements, { timeoutMs: 30_000, ...identity })
        if (replayed) count.known++
        else count.ran++
      } catch (error) {
        if (!(error instanceof NodeError) || error.code !== 'REQUEST_ABANDONED') throw error
        count.abandoned++
        onAbandoned(id)
      }
    }
  }
  return count
}
