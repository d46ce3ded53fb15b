/** `litefleet ltx dump|verify`: LTX files and a node's log, offline. */
import type { Command } from 'commander'
import { ClusterError } from '@litefleet/core'
import { findLtxFiles, readLtxFile } from './ltx-source.ts'
import { LtxContinuity } from './ltx-verify.ts'
import { formatLtxLine, summarizeLtx } from './ltx-view.ts'
import type { Terminal } from './terminal.ts'

export function addLtxCommand(program: Command, terminal: Terminal): void {
  const ltx = program
    .command('ltx')
    .description('Look into LTX files and into the log of a stopped or running node')
    .addHelpText(
      'after',
      `
Examples:
  litefleet ltx dump 0000000000000001-0000000000000009.ltx
  litefleet ltx dump --pages --json ./data/main/dbs/bank.db
  litefleet ltx verify ./data/main/dbs/bank.db/log`,
    )
  ltx
    .command('dump')
    .description('Print what each LTX says: TXIDs, time, pages, checksums')
    .argument('<path>', 'LTX file, log segment, or the directory of a log or database')
    .option('--pages', 'list page numbers too', false)
    .option('--json', 'one JSON document for each LTX, one on each line', false)
    .action((target: string, options: { pages: boolean; json: boolean }) => dump(target, options, terminal))
  ltx
    .command('verify')
    .description('Check every checksum, and that each LTX begins where the one before it ended')
    .argument('<path>', 'LTX file, log segment, or the directory of a log or database')
    .action((target: string) => verify(target, terminal))
}

async function dump(
  target: string,
  options: { readonly pages: boolean; readonly json: boolean },
  terminal: Terminal,
): Promise<void> {
  for (const file of await findLtxFiles(target)) {
    for await (const item of readLtxFile(file, options.pages)) {
      if (item.kind === 'torn-end') terminal.err(`${item.source}: ${item.bytes} bytes of a record that is not whole`)
      if (item.kind !== 'ltx') continue
      const summary = summarizeLtx(item.ltx, item.source, item.epoch)
      terminal.out(options.json ? JSON.stringify(summary) : formatLtxLine(summary))
    }
  }
}

async function verify(target: string, terminal: Terminal): Promise<void> {
  const continuity = new LtxContinuity()
  const files = await findLtxFiles(target)
  for (const file of files) {
    for await (const item of readLtxFile(file, false)) {
      const problem = continuity.accept(item)
      if (problem !== undefined) throw new ClusterError('CORRUPT_DATA', `${item.source}: ${problem}`)
      if (item.kind !== 'torn-end') continue
      if (file !== files.at(-1)) throw new ClusterError('CORRUPT_DATA', `${item.source}: a record is not whole`)
      terminal.err(
        `${item.source}: ${item.bytes} bytes of a record that is not whole; the node cuts them off when it starts`,
      )
    }
  }
  terminal.out(`ok: ${continuity.count} LTX, up to ${continuity.end ?? 'nothing'}`)
}
