/**
 * The real Consul for tests: built once from its source by the Go toolchain (tools/consul), kept beside the installed packages.
 *
 * Version 1.14 is under the Mozilla Public License; from 1.16 on the source needs modules under other terms. The HTTP API that is used is the same.
 */
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import path from 'node:path'

const ROOT = path.resolve(import.meta.dirname, '../..')
const PACKAGE = 'github.com/hashicorp/consul'

export const CONSUL = path.join(ROOT, 'node_modules/.cache/litefleet/consul')

export function hasConsul(): boolean {
  return existsSync(CONSUL)
}

/** Builds it where it is missing; false where that is not possible. It takes some minutes and about 500 MB of modules the first time. */
export async function buildConsul(): Promise<boolean> {
  if (hasConsul()) return true
  const go = findGo()
  if (go === undefined) return false
  console.log('\n── building Consul for the tests of elections, once')
  mkdirSync(path.dirname(CONSUL), { recursive: true })
  const args = ['build', '-buildvcs=false', '-o', CONSUL, PACKAGE]
  const child = spawn(go, args, { cwd: path.join(ROOT, 'tools/consul'), stdio: ['ignore', 'inherit', 'inherit'] })
  return new Promise((resolve) => {
    child.once('error', () => resolve(false))
    child.once('close', (code) => resolve(code === 0))
  })
}

function findGo(): string | undefined {
  const directories = [...(process.env['PATH'] ?? '').split(path.delimiter), '/usr/local/go/bin']
  return directories.map((directory) => path.join(directory, 'go')).find((file) => existsSync(file))
}
