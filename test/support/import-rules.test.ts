/**
 * The import rules find what they forbid.
 *
 * A small workspace is written into a temporary directory, each file breaking one rule (or none), and the real configuration
 * judges it. Without this, a rule whose pattern matches nothing would look like a rule that everybody keeps.
 */
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'

const root = path.resolve(import.meta.dirname, '../..')
const execute = promisify(execFile)

interface Violation {
  readonly rule: { readonly name: string }
  readonly from: string
}

const CORE = 'packages/core/src'
/** file → [source, rules it breaks] */
const FILES: Readonly<Record<string, readonly [source: string, breaks: readonly string[]]>> = {
  [`${CORE}/base/clock.ts`]: [`export const clock = 1\n`, []],
  [`${CORE}/base/upwards.ts`]: [`export * from '../position/txid.ts'\n`, ['floor-0-base']],
  [`${CORE}/position/txid.ts`]: [`import '../base/clock.ts'\nexport const txid = 1\n`, []],
  [`${CORE}/position/roof.ts`]: [
    `import type { door } from '../index.ts'\nexport type D = typeof door\n`,
    ['floor-1-position'],
  ],
  [`${CORE}/index.ts`]: [`export const door = 1\n`, []],
  [`${CORE}/sqlite-format/header.ts`]: [`export const header = 1\n`, []],
  [`${CORE}/ltx/record.ts`]: [
    `import { header } from '../sqlite-format/header.ts'\nexport const record = header\n`,
    [],
  ],
  [`${CORE}/stream-format/frame.ts`]: [
    `import { record } from '../ltx/record.ts'\nexport const frame = record\n`,
    ['floor-1-stream-format'],
  ],
  [`${CORE}/files/disk.ts`]: [`import fs from 'node:fs'\nexport const disk = fs\n`, []],
  [`${CORE}/sqlite/connection.ts`]: [`import Database from 'better-sqlite3'\nexport const open = Database\n`, []],
  [`${CORE}/log/log.ts`]: [`import { disk } from '../files/disk.ts'\nexport const log = disk\n`, []],
  [`${CORE}/log/sql.ts`]: [`import { open } from '../sqlite/connection.ts'\nexport const s = open\n`, ['floor-2-log']],
  [`${CORE}/write/queue.ts`]: [`export const queue = 1\n`, []],
  [`${CORE}/write/type.ts`]: [`import type { Database } from 'better-sqlite3'\nexport type C = Database\n`, []],
  [`${CORE}/write/value.ts`]: [
    `import Database from 'better-sqlite3'\nexport const d = Database\n`,
    ['doorkeeper-better-sqlite3'],
  ],
  [`${CORE}/write/mixed.ts`]: [
    `import { type Database, SqliteError } from 'better-sqlite3'\nexport const e: Database | unknown = SqliteError\n`,
    ['doorkeeper-better-sqlite3'],
  ],
  [`${CORE}/capture/capture.ts`]: [
    `import { queue } from '../write/queue.ts'\nexport const c = queue\n`,
    ['floor-3-capture'],
  ],
  [`${CORE}/capture/lease.ts`]: [
    `import type { lease } from '../lease/lease.ts'\nexport type L = typeof lease\n`,
    ['floor-3-capture'],
  ],
  [`${CORE}/apply/open.ts`]: [
    `import { openSync } from 'node:fs'\nexport const o = openSync\n`,
    ['doorkeeper-node-fs'],
  ],
  [`${CORE}/apply/open-later.ts`]: [`export const o = () => import('fs/promises')\n`, ['doorkeeper-node-fs']],
  [`${CORE}/apply/open.test.ts`]: [
    `import { openSync } from 'node:fs'\nimport '../write/queue.ts'\nexport const o = openSync\n`,
    [],
  ],
  [`${CORE}/lease/lease.ts`]: [`export const lease = 1\n`, []],
  [`${CORE}/leadership/leadership.ts`]: [`import { lease } from '../lease/lease.ts'\nexport const l = lease\n`, []],
  [`${CORE}/lease/back.ts`]: [
    `import { l } from '../leadership/leadership.ts'\nexport const b = l\n`,
    ['floor-4-lease'],
  ],
  [`${CORE}/peer/client.ts`]: [`import grpc from '@grpc/grpc-js'\nexport const g = grpc\n`, []],
  [`${CORE}/peer/page.ts`]: [`import http from 'node:http2'\nexport const h = http\n`, ['doorkeeper-node-http']],
  [`${CORE}/forward/client.ts`]: [`import '../peer/client.ts'\nimport '@grpc/grpc-js'\n`, ['doorkeeper-grpc']],
  [`${CORE}/stream/apply.ts`]: [`import '../write/queue.ts'\n`, ['steps-are-strangers']],
  [`${CORE}/engine/embedded/a.ts`]: [`import '../litefs/b.ts'\n`, ['engines-are-strangers']],
  [`${CORE}/engine/litefs/b.ts`]: [`export const b = 1\n`, []],
  [`${CORE}/database/reach.ts`]: [`import '../log/log.ts'\n`, ['services-do-not-reach-through']],
  [`${CORE}/attic/box.ts`]: [`export const box = 1\n`, []],
  [`${CORE}/engine/using.ts`]: [
    `export async function f() {\n  await using a = await import('fs')\n  using b = a\n  return b\n}\n`,
    ['doorkeeper-node-fs'],
  ],
  [`${CORE}/engine/attic.ts`]: [`import '../attic/box.ts'\n`, ['unknown-room']],
  [`${CORE}/engine/cycle-a.ts`]: [`import { b } from './cycle-b.ts'\nexport const a = () => b\n`, ['no-cycles']],
  [`${CORE}/engine/cycle-b.ts`]: [
    `import { a } from './cycle-a.ts'\nexport const b = () => a\n`,
    [] /* told once, where it begins */,
  ],
  [`${CORE}/engine/type-cycle-a.ts`]: [
    `import { b } from './type-cycle-b.ts'\nexport type A = 1\nexport const a = b\n`,
    [],
  ],
  [`${CORE}/engine/type-cycle-b.ts`]: [`import type { A } from './type-cycle-a.ts'\nexport const b: A = 1\n`, []],
  [`${CORE}/engine/gone.ts`]: [`import './nowhere.ts'\n`, ['resolvable']],
  [`${CORE}/engine/server.ts`]: [`import '../../../server/src/index.ts'\n`, ['core-knows-no-other-package']],
  'packages/server/src/index.ts': [
    `import { door } from '@litefleet/core'\nimport 'yaml'\nexport const s = door\n`,
    [],
  ],
  'packages/server/src/reach.ts': [`import '../../core/src/log/log.ts'\n`, ['core-by-its-doors']],
  'packages/server/src/cli.ts': [`import '../../cli/src/index.ts'\n`, ['server-does-not-know-cli']],
  'packages/cli/src/index.ts': [`import '../../server/src/index.ts'\n`, []],
  'packages/cli/src/reach.ts': [`import '../../server/src/reach.ts'\n`, ['server-by-its-door']],
  'packages/cli/src/yaml.ts': [`import 'yaml'\n`, ['server-keeps-yaml-and-fastify']],
  'packages/cli/src/undeclared.ts': [`import 'left-out'\n`, ['declared']],
  'packages/cli/src/test.ts': [`import 'vitest'\n`, ['no-test-in-source']],
}

let directory = ''
let violations: readonly Violation[] = []

beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'litefleet-rules-'))
  for (const [file, [source]] of Object.entries(FILES)) {
    await mkdir(path.join(directory, path.dirname(file)), { recursive: true })
    await writeFile(path.join(directory, file), source)
  }
  const manifests: Readonly<Record<string, object>> = {
    core: {
      name: '@litefleet/core',
      exports: { '.': './src/index.ts' },
      dependencies: { 'better-sqlite3': '*', '@grpc/grpc-js': '*' },
    },
    server: { name: '@litefleet/server', dependencies: { '@litefleet/core': '*', yaml: '*' } },
    cli: { name: 'litefleet', dependencies: { yaml: '*', vitest: '*' } },
  }
  for (const [name, manifest] of Object.entries(manifests)) {
    await writeFile(
      path.join(directory, 'packages', name, 'package.json'),
      JSON.stringify({ type: 'module', ...manifest }),
    )
  }
  for (const name of ['better-sqlite3', '@grpc/grpc-js', 'yaml', 'vitest', 'left-out']) {
    const place = path.join(directory, 'node_modules', name)
    await mkdir(place, { recursive: true })
    await writeFile(path.join(place, 'package.json'), JSON.stringify({ name, version: '1.0.0', main: 'index.js' }))
    await writeFile(path.join(place, 'index.js'), '')
  }
  await mkdir(path.join(directory, 'node_modules/@litefleet'), { recursive: true })
  await symlink(path.join(directory, 'packages/core'), path.join(directory, 'node_modules/@litefleet/core'))
  violations = await cruise()
}, 60_000)

afterAll(() => rm(directory, { recursive: true, force: true }))

async function cruise(): Promise<readonly Violation[]> {
  const command = path.join(root, 'node_modules/.bin/depcruise')
  const config = path.join(root, '.dependency-cruiser.cjs')
  const { stdout } = await execute(command, ['--config', config, '--output-type', 'json', 'packages'], {
    cwd: directory,
    maxBuffer: 64 << 20,
  })
  return (JSON.parse(stdout) as { summary: { violations: Violation[] } }).summary.violations
}

test.each(Object.entries(FILES).map(([file, [, breaks]]) => ({ file, breaks })))(
  'import rules: $file breaks $breaks',
  ({ file, breaks }) => {
    const found = violations.filter((violation) => violation.from === file).map((violation) => violation.rule.name)
    expect([...new Set(found)].sort()).toEqual([...breaks].sort())
  },
)
