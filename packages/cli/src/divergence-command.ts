/**
 * `litefleet divergence list|show|export|replay`: what a node had that the cluster's history has not, kept in its data directory before it
 * was seeded again.
 */
import { ClusterError } from '@litefleet/core'
import {
  findReports,
  readReportedReplays,
  readReportedRequests,
  requestToJson,
  type StoredReport,
} from '@litefleet/core/peer'
import type { Command } from 'commander'
import { exportReport } from './divergence-export.ts'
import { replayReport } from './divergence-replay.ts'
import { formatReport, formatReportTable, type ReportSummary, reportJson } from './divergence-view.ts'
import { addNodeFlags, clusterKeysOf, type NodeFlags } from './node-flags.ts'
import type { Terminal } from './terminal.ts'

interface ReportFlags {
  readonly dataDir: string
  readonly database?: string
}

export function addDivergenceCommand(program: Command, terminal: Terminal): void {
  const divergence = program
    .command('divergence')
    .description("Transactions that only one node had when its history parted from the cluster's")
    .addHelpText(
      'after',
      `
A node whose history is not the primary's (it was primary itself and lost the office before its last transactions had left
it) keeps those transactions in a report in its data directory, and is then brought up to date. The reports stay until you
remove them, the newest 64 of a database.

  list     every report of a node
  show     one report: where the histories parted, which transactions, which requests they were
  export   its transactions as LTX files, its requests as JSON lines
  replay   runs its requests again at today's primary, under the same request ids, so that nothing takes effect twice

Examples:
  litefleet divergence list --data-dir ./data
  litefleet divergence show --data-dir ./data 9-12-a5f00d10
  litefleet divergence export --data-dir ./data 9-12-a5f00d10 --to ./lost
  litefleet divergence replay --data-dir ./data 9-12-a5f00d10 --node 127.0.0.1:4201`,
    )
  reportCommand(divergence, 'list', 'List the reports in a data directory')
    .option('--json', 'print JSON', false)
    .action((flags: ReportFlags & { json: boolean }) => {
      const reports = reportsOf(flags).map(summary)
      terminal.out(flags.json ? JSON.stringify(reports.map(reportJson), null, 2) : formatReportTable(reports))
    })
  reportCommand(divergence, 'show', 'Show one report and its requests')
    .argument('<id>', 'id of the report, as list shows it')
    .option('--json', 'print JSON', false)
    .action((id: string, flags: ReportFlags & { json: boolean }) => {
      const stored = reportOf(id, flags)
      const requests = readReportedRequests(stored)
      const json = { ...reportJson(summary(stored)), requests: requests.map(requestToJson) }
      terminal.out(flags.json ? JSON.stringify(json, null, 2) : formatReport(summary(stored), requests))
    })
  reportCommand(divergence, 'export', 'Write the transactions of a report as LTX files, its requests as JSON lines')
    .argument('<id>', 'id of the report, as list shows it')
    .requiredOption('--to <dir>', 'a directory that is made, or is empty')
    .action(async (id: string, flags: ReportFlags & { to: string }) => {
      for (const file of await exportReport(reportOf(id, flags), flags.to)) terminal.out(file)
    })
  addNodeFlags(reportCommand(divergence, 'replay', 'Run the requests of a report again, under their own request ids'))
    .argument('<id>', 'id of the report, as list shows it')
    .option('--dry-run', 'say what would be run, and run nothing', false)
    .addHelpText(
      'after',
      `
A request whose transaction stands in today's history as well, or that has taken effect there by its id, does nothing. One
that came without an identity gets an idempotency key made from its transaction, so that a second replay does nothing
either; where it is not known whether its transaction stands in today's history it is skipped. Every attempt is noted in
the report. Exit code 0: all of them have taken effect or cannot be run; 1: one was refused, or its outcome is not known.`,
    )
    .action(async (id: string, flags: ReportFlags & NodeFlags & { dryRun: boolean }) => {
      const { node, dryRun } = flags
      const failed = await replayReport(reportOf(id, flags), { node, keys: clusterKeysOf(flags), dryRun, terminal })
      if (failed > 0) throw new Error(`${failed} ${failed === 1 ? 'request has' : 'requests have'} not taken effect`)
    })
}

function reportCommand(parent: Command, name: string, description: string): Command {
  return parent
    .command(name)
    .description(description)
    .requiredOption('--data-dir <dir>', 'data directory of the node; it may be running')
    .option('--database <name>', 'only reports of this database')
}

function reportsOf({ dataDir, database }: ReportFlags): readonly StoredReport[] {
  return findReports(dataDir).filter(({ report }) => database === undefined || report.database === database)
}

function reportOf(id: string, flags: ReportFlags): StoredReport {
  const found = reportsOf(flags).filter(({ report }) => report.id === id)
  const [only, ...more] = found
  if (only === undefined) {
    throw new ClusterError('INVALID_OPTION', `${flags.dataDir} holds no divergence report "${id}"`, {
      hint: 'See `litefleet divergence list`.',
    })
  }
  if (more.length === 0) return only
  throw new ClusterError('INVALID_OPTION', `several databases have a report "${id}"`, {
    hint: 'Name one with --database.',
  })
}

function summary(stored: StoredReport): ReportSummary {
  return { ...stored, replays: readReportedReplays(stored) }
}
