/** `litefleet export`: a database of a node, Litefleet or LiteFS, as a SQLite file. */
import { ClusterError, formatPosition } from '@litefleet/core'
import { fetchExport } from '@litefleet/core/peer'
import type { Command } from 'commander'
import { existsSync } from 'node:fs'
import { open, rename, rm } from 'node:fs/promises'
import path from 'node:path'
import { clusterKeysOf } from './node-flags.ts'
import { DEFAULT_HTTP_PORT } from './run-command.ts'
import type { Terminal } from './terminal.ts'

interface ExportFlags {
  readonly url: string
  readonly name: string
  readonly clusterKeyFile?: string
  readonly force: boolean
  readonly json: boolean
}

/** SQLite would take these for a part of the new file. */
const COMPANIONS = ['-wal', '-shm', '-journal']

export function addExportCommand(program: Command, terminal: Terminal): void {
  program
    .command('export <file>')
    .description('Write a database of a running node into a SQLite file, as of one moment')
    .requiredOption('--name <database>', 'the database')
    .option('--url <url>', "the node's HTTP listener; a LiteFS node too", `http://127.0.0.1:${DEFAULT_HTTP_PORT}`)
    .option('--cluster-key-file <file>', 'file with the cluster key (or set LITEFLEET_CLUSTER_KEY)')
    .option('--force', 'replace the file, and remove its -wal, -shm and -journal', false)
    .option('--json', 'print JSON', false)
    .addHelpText(
      'after',
      `
The file appears whole or not at all: it is written beside its place first.

Examples:
  litefleet export --name app.db ./backup.db
  litefleet export --name app.db --url http://litefs-host:20202 ./backup.db --force`,
    )
    .action((file: string, flags: ExportFlags) => exportTo(file, flags, terminal))
}

async function exportTo(file: string, flags: ExportFlags, terminal: Terminal): Promise<void> {
  const companions = COMPANIONS.map((suffix) => file + suffix)
  const there = [file, ...companions].filter((one) => existsSync(one))
  if (there.length > 0 && !flags.force) {
    throw new ClusterError('INVALID_OPTION', `${there.join(', ')} exists already`, {
      hint: 'Name another file, or use --force. No program may have the old one open.',
    })
  }
  const keys = clusterKeysOf({ node: '', ...flags })
  const partial = `${file}.partial-${process.pid}`
  const handle = await open(partial, 'wx')
  try {
    const { position, bytes } = await fetchExport({ url: flags.url, database: flags.name, keys }, (piece) =>
      handle.writeFile(piece),
    )
    await handle.sync()
    for (const companion of companions) await rm(companion, { force: true })
    await rename(partial, file)
    await syncDirectory(path.dirname(file))
    const at = position === undefined ? undefined : formatPosition(position)
    if (flags.json) terminal.out(JSON.stringify({ file, bytes, position: at ?? null }, null, 2))
    else terminal.out(`${file}: ${bytes} bytes${at === undefined ? '' : ` at ${at}`}`)
  } finally {
    await handle.close()
    await rm(partial, { force: true })
  }
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
