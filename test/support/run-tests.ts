/**
 * `pnpm test`: the static checks, then every vitest project, one after the other; all of them run even when one fails.
 *
 * Promises: the last line is `N passed, N failed`, the sum of all projects and one for each static check; the exit code says the
 * same. A file that fails before its first test counts as one failure. In CI (`CI=true`) a skipped test is a failure and is
 * named, because nobody reads the difference between "passed" and "was not asked".
 */
import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { buildGoPrograms } from './go-programs.ts'
import { missingSystemParts } from './system-parts.ts'
import { addCounts, type Counts, countVitest, NO_COUNTS, type VitestReport } from './vitest-report.ts'

const ROOT = path.resolve(import.meta.dirname, '../..')
const BIN = path.join(ROOT, 'node_modules/.bin')

/** What `pnpm check` runs besides unit tests, by the names in package.json. */
const STATIC_CHECKS: readonly (readonly [name: string, command: string, args: readonly string[]])[] = [
  ['format', 'biome', ['format', '.']],
  ['lint', 'oxlint', ['--type-aware']],
  ['types', 'tsc', ['-p', 'tsconfig.json', '--noEmit']],
  ['imports', 'depcruise', ['--config', '.dependency-cruiser.cjs', 'packages']],
]
const PROJECTS = ['unit', 'fuzz', 'cluster', 'fault', 'interop']

function run(command: string, args: readonly string[]): Promise<number> {
  return new Promise((resolve) => {
    const child = spawn(path.join(BIN, command), args, { cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit'] })
    child.once('error', (error) => {
      console.error(`${command}: ${error.message}`)
      resolve(1)
    })
    child.once('close', (code) => resolve(code ?? 1))
  })
}

async function runCheck(name: string, command: string, args: readonly string[]): Promise<Counts> {
  console.log(`\n── ${name}: ${command} ${args.join(' ')}`)
  return (await run(command, args)) === 0 ? { ...NO_COUNTS, passed: 1 } : { ...NO_COUNTS, failed: 1 }
}

async function runProject(project: string, reportFile: string): Promise<Counts> {
  console.log(`\n── ${project} tests`)
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${reportFile}`]
  const code = await run('vitest', ['run', '--project', project, ...reporters])
  const counts = countVitest(await readReport(reportFile))
  // An unhandled error outside of any test, or vitest itself failing, shows in the exit code only.
  return code !== 0 && counts.failed === 0 ? { ...counts, failed: 1 } : counts
}

async function readReport(file: string): Promise<VitestReport> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as VitestReport
  } catch {
    // No report: the exit code decides.
    return { testResults: [] }
  }
}

async function runAll(): Promise<Counts> {
  const directory = await mkdtemp(path.join(tmpdir(), 'litefleet-test-'))
  let counts = NO_COUNTS
  try {
    for (const [name, command, args] of STATIC_CHECKS) counts = addCounts(counts, await runCheck(name, command, args))
    for (const project of PROJECTS) {
      counts = addCounts(counts, await runProject(project, path.join(directory, `${project}.json`)))
    }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
  return counts
}

const missing = [
  ...missingSystemParts(),
  ...(await buildGoPrograms()).map(
    ({ name, why }) =>
      `${name}: ${why} (built from tools/${name} where Go 1.24 or newer and a C compiler are on the PATH)`,
  ),
]
const inCi = process.env['CI'] === 'true'
const counts = await runAll()

console.log('')
for (const part of missing) console.log(`missing on this system: ${part}`)
for (const name of counts.skipped) console.log(`skipped${inCi ? ' (not allowed in CI)' : ''}: ${name}`)
const failed = counts.failed + (inCi ? counts.skipped.length : 0)
console.log(`${counts.passed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1
