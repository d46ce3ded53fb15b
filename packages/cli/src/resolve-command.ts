/** `litefleet resolve`: asks what became of a write whose outcome its caller never learned. */
import { parseRequestId } from '@litefleet/core'
import { sendResolve } from '@litefleet/core/peer'
import { type Command, InvalidArgumentError } from 'commander'
import { addNodeFlags, clusterKeysOf, type NodeFlags } from './node-flags.ts'
import { formatResolution, resolutionJson } from './resolve-view.ts'
import type { Terminal } from './terminal.ts'

interface ResolveFlags extends NodeFlags {
  readonly database: string
  readonly json: boolean
  readonly timeout: number
}

const TIMEOUT_MS = 10_000

export function addResolveCommand(program: Command, terminal: Terminal): void {
  const command = program
    .command('resolve')
    .description('Find out what became of a write: applied, or not applied (then it never will be)')
    .argument('<request-id>', '32 hex digits: `details.requestId` of the error', requestId)
    .requiredOption('--database <name>', 'database the write was for')
  addNodeFlags(command)
    .option('--timeout <ms>', 'how long to look for the primary', milliseconds, TIMEOUT_MS)
    .option('--json', 'print JSON', false)
    .addHelpText(
      'after',
      `
Asking changes nothing about a write that was applied. One that was not is given up for good: should it still be under
way, it is refused when it arrives (REQUEST_ABANDONED). Exit code 0 means that the answer is known, 1 that it is not.

Examples:
  litefleet resolve --database app.db 0192aabbccdd11223344556600000001
  litefleet resolve --node 10.0.0.7:4201 --database app.db --json 0192aabbccdd11223344556600000001`,
    )
    .action((id: string, flags: ResolveFlags) => resolve(id, flags, terminal))
}

async function resolve(id: string, flags: ResolveFlags, terminal: Terminal): Promise<void> {
  const { node, database, timeout, json } = flags
  const answer = await sendResolve(
    node,
    { database, requestId: id },
    { keys: clusterKeysOf(flags), timeoutMs: timeout },
  )
  terminal.out(json ? JSON.stringify(resolutionJson(id, database, answer), null, 2) : formatResolution(answer))
}

function requestId(text: string): string {
  if (parseRequestId(text) !== undefined) return text
  throw new InvalidArgumentError('It accepts 32 lowercase hex digits.')
}

function milliseconds(text: string): number {
  const value = Number(text)
  if (Number.isInteger(value) && value >= 1 && value <= 3_600_000) return value
  throw new InvalidArgumentError('It accepts 1 to 3600000 milliseconds.')
}
