/**
 * The command line: `litefleet <verb>`.
 *
 * Exit codes: 0 done; 1 it was asked properly and failed; 2 it was not asked properly (unknown verb, flag or configuration); of another program: its own.
 */
import { ClusterError } from '@litefleet/core'
import { Command, CommanderError } from 'commander'
import { addDivergenceCommand } from './divergence-command.ts'
import { addExportCommand } from './export-command.ts'
import { addLiteFsCommand, ExitCode } from './litefs-command.ts'
import { addLtxCommand } from './ltx-command.ts'
import { addOfficeCommands } from './office-commands.ts'
import { addResolveCommand } from './resolve-command.ts'
import { addRunCommand } from './run-command.ts'
import { addStatusCommand } from './status-command.ts'
import { processTerminal, type Terminal } from './terminal.ts'
import { VERSION } from './version.ts'

export async function main(args: readonly string[], terminal: Terminal = processTerminal): Promise<number> {
  const program = createProgram(terminal)
  try {
    await program.parseAsync([...args], { from: 'user' })
    return 0
  } catch (error) {
    return explain(error, terminal)
  }
}

function createProgram(terminal: Terminal): Command {
  const program = new Command('litefleet')
    .description('Operates Litefleet nodes: SQLite on every node, writes that find the primary.')
    .version(VERSION, '--version')
    .helpCommand('help [command]', 'Show help for a command')
    .enablePositionalOptions()
    .showHelpAfterError('(run "litefleet help" for the commands and their flags)')
    .configureOutput({
      writeOut: (text) => terminal.out(text.trimEnd()),
      writeErr: (text) => terminal.err(text.trimEnd()),
    })
    .exitOverride()
  addStatusCommand(program, terminal)
  addRunCommand(program, terminal)
  addOfficeCommands(program, terminal)
  addResolveCommand(program, terminal)
  addExportCommand(program, terminal)
  addDivergenceCommand(program, terminal)
  addLtxCommand(program, terminal)
  addLiteFsCommand(program, terminal)
  return program
}

/** Says what went wrong and answers the exit code. */
function explain(error: unknown, terminal: Terminal): number {
  // Commander has printed its message already; help and version end this way too, with code 0.
  if (error instanceof ExitCode) return error.code
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
  if (error instanceof ClusterError) {
    // The message carries the code and the hint.
    terminal.err(`litefleet: ${error.message}`)
    return error.code === 'INVALID_OPTION' ? 2 : 1
  }
  terminal.err(`litefleet: ${error instanceof Error ? error.message : String(error)}`)
  return 1
}
