/**
 * Real programs that tests run and that only their source is at hand of: built once by the Go toolchain (tools/), kept beside the installed packages.
 *
 * Consul 1.14 is under the Mozilla Public License; from 1.16 on its source needs modules under other terms. The HTTP API that is used is the same.
 */
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import path from 'node:path'

export interface GoProgram {
  readonly name: string
  /** What it is for. */
  readonly why: string
  /** Of its main function. */
  readonly package: string
  /** Where it is once it was built. */
  readonly file: string
}

const ROOT = path.resolve(import.meta.dirname, '../..')

export const CONSUL = program('consul', 'elections', 'github.com/hashicorp/consul')
/** Version 0.5.14. */
export const LITEFS = program('litefs', 'replication with LiteFS', 'github.com/superfly/litefs/cmd/litefs')

export function isBuilt({ file }: GoProgram): boolean {
  return existsSync(file)
}

/**
 * Builds what is missing, and answers what could not be built. Consul takes some minutes and about 500 MB of modules the first time, LiteFS some
 * seconds and a C compiler.
 */
export async function buildGoPrograms(): Promise<readonly GoProgram[]> {
  const missing: GoProgram[] = []
  for (const one of [CONSUL, LITEFS]) if (!isBuilt(one) && !(await build(one))) missing.push(one)
  return missing
}

async function build({ name, file, package: main }: GoProgram): Promise<boolean> {
  const go = findGo()
  if (go === undefined) return false
  console.log(`\n── building ${name} for the tests, once`)
  mkdirSync(path.dirname(file), { recursive: true })
  const child = spawn(go, ['build', '-buildvcs=false', '-o', file, main], {
    cwd: path.join(ROOT, 'tools', name),
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  return new Promise((resolve) => {
    child.once('error', () => resolve(false))
    child.once('close', (code) => resolve(code === 0))
  })
}

function program(name: string, why: string, main: string): GoProgram {
  return { name, why, package: main, file: path.join(ROOT, 'node_modules/.cache/litefleet', name) }
}

function findGo(): string | undefined {
  const directories = [...(process.env['PATH'] ?? '').split(path.delimiter), '/usr/local/go/bin']
  return directories.map((directory) => path.join(directory, 'go')).find((file) => existsSync(file))
}
