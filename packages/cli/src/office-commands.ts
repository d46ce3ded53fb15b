/** `litefleet promote`, `handoff`, `demote`: who is the primary, decided by an operator. */
import { isClusterError } from '@litefleet/core'
import { type OfficeReply, sendDemote, sendHandOff, sendPromote } from '@litefleet/core/peer'
import { type Command, InvalidArgumentError } from 'commander'
import { addNodeFlags, clusterKeysOf, type NodeFlags } from './node-flags.ts'
import type { Terminal } from './terminal.ts'

interface OfficeFlags extends NodeFlags {
  readonly timeout: number
  readonly json: boolean
}

const TIMEOUT_MS = 10_000

export function addOfficeCommands(program: Command, terminal: Terminal): void {
  addOfficeFlags(
    program
      .command('promote')
      .description(
        'Make a node the primary: the primary hands its office to it; without one it takes office, if it has everything',
      ),
  )
    .option(
      '--accept-loss',
      'without a primary: also when others have, or may have, transactions that the node lacks',
      false,
    )
    .addHelpText(
      'after',
      `
Without a primary a node takes office only when nobody can have more than it: a majority of voters answered, or all members
that it knows, or it was in office last. --accept-loss overrides that. What others have then is lost: it is recorded on the node, and each
node that comes back keeps its own transactions in a divergence report.

Examples:
  litefleet promote --node 10.0.0.8:4201
  litefleet promote --node 10.0.0.8:4201 --accept-loss`,
    )
    .action((flags: OfficeFlags & { readonly acceptLoss: boolean }) =>
      tell(flags, terminal, (options) => sendPromote(flags.node, { ...options, acceptLoss: flags.acceptLoss })),
    )
  addOfficeFlags(
    program
      .command('handoff')
      .description('Have the primary hand its office to another node: writes wait meanwhile, none fails'),
  )
    .option('--to <name>', 'the node; without it the candidate that is furthest')
    .addHelpText(
      'after',
      `
Any node may be asked. When it fails, the primary is who it was, unless the message says otherwise.

Examples:
  litefleet handoff --to lhr-1
  litefleet handoff --node 10.0.0.7:4201 --json`,
    )
    .action((flags: OfficeFlags & { readonly to?: string }) =>
      tell(flags, terminal, (options) => sendHandOff(flags.node, flags.to, options)),
    )
  addOfficeFlags(
    program
      .command('demote')
      .description('Have a node that is the primary hand its office to the candidate that is furthest'),
  )
    .addHelpText(
      'after',
      `
Before work on a machine, for example. A node that is not the primary refuses: exit code 1.

Example:
  litefleet demote --node 10.0.0.7:4201`,
    )
    .action((flags: OfficeFlags) => tell(flags, terminal, (options) => sendDemote(flags.node, options)))
}

function addOfficeFlags(command: Command): Command {
  return addNodeFlags(command)
    .option('--timeout <ms>', 'how long it may take', milliseconds, TIMEOUT_MS)
    .option('--json', 'print JSON', false)
}

async function tell(
  flags: OfficeFlags,
  terminal: Terminal,
  ask: (options: { readonly keys: readonly string[]; readonly timeoutMs: number }) => Promise<OfficeReply>,
): Promise<void> {
  const keys = clusterKeysOf(flags)
  try {
    const { primary } = await ask({ keys, timeoutMs: flags.timeout })
    terminal.out(flags.json ? JSON.stringify({ primary }, null, 2) : `${primary} is the primary`)
  } catch (error) {
    if (flags.json && isClusterError(error))
      terminal.out(JSON.stringify({ error: { code: error.code, message: error.summary } }, null, 2))
    throw error
  }
}

function milliseconds(text: string): number {
  const value = Number(text)
  if (Number.isInteger(value) && value >= 100 && value <= 600_000) return value
  throw new InvalidArgumentError('It accepts 100 to 600000 milliseconds.')
}
