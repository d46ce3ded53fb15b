/**
 * `pnpm build`: compiles the three packages into their `dist/`, in the order in which they import each other.
 *
 * Development needs no build: Node runs the sources. What is published is plain ESM with declarations; `publishConfig` in each
 * package.json points there. The protocol files are copied into core, because a published package cannot reach the repository's.
 */
import { spawnSync } from 'node:child_process'
import { cpSync, rmSync } from 'node:fs'
import path from 'node:path'

const packages = import.meta.dirname
const root = path.dirname(packages)

function build(name: string): void {
  const directory = path.join(packages, name)
  rmSync(path.join(directory, 'dist'), { recursive: true, force: true })
  console.log(`building ${name}`)
  const compiler = path.join(root, 'node_modules/.bin/tsc')
  const { status } = spawnSync(compiler, ['-p', path.join(directory, 'tsconfig.build.json')], { stdio: 'inherit' })
  // The compiler has said why.
  if (status !== 0) process.exit(1)
}

build('core')
rmSync(path.join(packages, 'core/proto'), { recursive: true, force: true })
cpSync(path.join(root, 'proto'), path.join(packages, 'core/proto'), { recursive: true })
build('server')
build('cli')
