/** `litefleet litefs …`: LiteFS's own program, found, checked, and as a daemon watched. */
import { ClusterError } from '@litefleet/core'
import { readLiteFsConfig, stopSignal } from '@litefleet/server'
import { type Command, Option } from 'commander'
import { execa } from 'execa'
import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import path from 'node:path'
import { checkLiteFs, findLiteFs } from './litefs-program.ts'
import { superviseLiteFs } from './litefs-supervisor.ts'
import type { Terminal } from './terminal.ts'

interface MountFlags {
  readonly config?: string
  readonly restart: 'never' | 'on-failure'
  readonly expandEnv: boolean
}

/** Where LiteFS itself looks, in this order. */
const PLACES = ['litefs.yml', path.join(homedir(), 'litefs.yml'), '/etc/litefs.yml']
const DEFAULT_ADDR = ':20202'
/** The daemon ended with it; commander has nothing to do with it. */
export class ExitCode extends Error {
  readonly code: number

  constructor(code: number) {
    super(`ended with ${code}`)
    this.code = code
  }
}

export function addLiteFsCommand(program: Command, terminal: Terminal): void {
  const litefs = program
    .command('litefs')
    .description("LiteFS's own program: as a watched daemon, and its other commands as they are")
  litefs
    .command('mount [args...]')
    .description('Run the LiteFS daemon; arguments after -- are its own')
    .option('--config <file>', 'litefs.yml (default: where LiteFS looks: ., ~, /etc)')
    .option('--no-expand-env', 'leave $VAR and ${VAR} as they stand')
    .addOption(
      new Option('--restart <policy>', 'what to do when it ends with an error')
        .choices(['never', 'on-failure'])
        .default('on-failure'),
    )
    .addHelpText(
      'after',
      `
The file is read first, so that a wrong key is named before anything is mounted. A mount that a killed daemon left is unmounted.

Examples:
  litefleet litefs mount --config /etc/litefs.yml
  litefleet litefs mount --restart never -- -fuse.debug`,
    )
    .action((args: readonly string[], flags: MountFlags) => mount(args, flags, terminal))
  for (const verb of ['run', 'import', 'export']) {
    litefs
      .command(`${verb} [args...]`)
      .description(`litefs ${verb}, with its own arguments`)
      .allowUnknownOption()
      .passThroughOptions()
      .helpOption(false)
      .action((args: readonly string[]) => passOn(verb, args, terminal))
  }
}

async function mount(args: readonly string[], flags: MountFlags, terminal: Terminal): Promise<void> {
  const file = flags.config ?? PLACES.find((place) => existsSync(place))
  if (file === undefined) {
    throw new ClusterError('INVALID_OPTION', `there is no litefs.yml in ${PLACES.map(path.dirname).join(', ')}`, {
      hint: 'Name it with --config.',
    })
  }
  const { fuse, http } = readLiteFsConfig(file, flags.expandEnv ? process.env : undefined)
  if (fuse.dir === undefined || fuse.dir === '') {
    throw new ClusterError('INVALID_OPTION', `${file}: "fuse.dir" is missing`, {
      hint: 'LiteFS needs a directory to mount at.',
    })
  }
  const program = await usable(terminal)
  const code = await superviseLiteFs({
    program,
    args: ['-config', file, ...(flags.expandEnv ? [] : ['-no-expand-env']), ...args],
    mount: path.resolve(fuse.dir),
    url: urlOf(http.addr ?? DEFAULT_ADDR),
    restart: flags.restart,
    signal: stopSignal(),
    log: (line) => terminal.err(line),
  })
  if (code !== 0) throw new ExitCode(code)
}

async function passOn(verb: string, args: readonly string[], terminal: Terminal): Promise<void> {
  const program = await usable(terminal)
  const { exitCode = 1 } = await execa(program, [verb, ...args], { stdio: 'inherit', reject: false })
  if (exitCode !== 0) throw new ExitCode(exitCode)
}

async function usable(terminal: Terminal): Promise<string> {
  const program = findLiteFs(process.env)
  const said = await checkLiteFs(program)
  if (!/\d/.test(said)) terminal.err(`${program}: ${said}; taken for 0.5`)
  return program
}

/** Without a host it listens everywhere, this machine included. */
function urlOf(addr: string): string {
  return `http://${addr.startsWith(':') ? '127.0.0.1' : ''}${addr.replace('0.0.0.0', '127.0.0.1')}`
}
