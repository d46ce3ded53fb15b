/**
 * `pnpm bench [name…] [--quick] [--json FILE]`: what Litefleet does on this machine, each figure beside its baseline.
 *
 * Every workload measures its baseline in the same run, because a figure without one says more about the machine than about us.
 * Results go to `bench/results/<date>-<quick|full>.json`; rows that were measured on the same day before, and not again, stay in it.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type BenchOptions, parseBenchOptions } from './bench-options.ts'
import { describeMachine } from './machine.ts'
import { formatRow, HEADING, type Row } from './row.ts'
import type { Workload } from './workload.ts'
import { commit } from './workloads/commit.ts'
import { failover } from './workloads/failover.ts'
import { forward } from './workloads/forward.ts'
import { litefs } from './workloads/litefs.ts'
import { memory } from './workloads/memory.ts'
import { open } from './workloads/open.ts'
import { read } from './workloads/read.ts'
import { replicate } from './workloads/replicate.ts'
import { snapshot } from './workloads/snapshot.ts'

const WORKLOADS: readonly Workload[] = [read, commit, forward, replicate, snapshot, open, memory, failover, litefs]
const USAGE = `usage: bench [name…] [--quick] [--json FILE]
names: ${WORKLOADS.map((workload) => workload.name).join(', ')}`

async function runWorkload(workload: Workload, quick: boolean): Promise<readonly Row[]> {
  const directory = mkdtempSync(path.join(tmpdir(), `litefleet-bench-${workload.name}-`))
  try {
    return await workload.run({ quick, directory, sliceMs: quick ? 1_000 : 4_000, rounds: quick ? 3 : 5 })
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

async function main(): Promise<number> {
  let options: BenchOptions
  try {
    options = parseBenchOptions(
      process.argv.slice(2),
      WORKLOADS.map((workload) => workload.name),
    )
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : String(error)}\n${USAGE}`)
    return 2
  }
  const machine = describeMachine(tmpdir())
  console.log(
    `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGb} GB, ${machine.kernel}, ` +
      `fdatasync ${machine.fdatasyncMs} ms, node ${machine.node}, SQLite ${machine.sqlite}\n`,
  )
  console.log(HEADING)
  const rows: Row[] = []
  const failures: string[] = []
  for (const workload of WORKLOADS) {
    if (options.names.length > 0 && !options.names.includes(workload.name)) continue
    try {
      for (const row of await runWorkload(workload, options.quick)) {
        rows.push(row)
        console.log(formatRow(row))
      }
    } catch (error) {
      // The others still run; the exit code tells.
      failures.push(workload.name)
      console.error(`${workload.name}: ${error instanceof Error ? error.stack : String(error)}`)
    }
  }
  const results = path.join(import.meta.dirname, 'results')
  mkdirSync(results, { recursive: true })
  const date = new Date().toISOString().slice(0, 10)
  const file = path.join(results, `${date}-${options.quick ? 'quick' : 'full'}.json`)
  const toText = (all: readonly Row[]): string => `${JSON.stringify({ machine, rows: all }, null, 2)}\n`
  writeFileSync(file, toText([...rowsOf(file).filter(({ name }) => rows.every((row) => row.name !== name)), ...rows]))
  if (options.json !== undefined) writeFileSync(options.json, toText(rows))
  if (failures.length > 0) console.error(`failed: ${failures.join(', ')}`)
  return failures.length === 0 ? 0 : 1
}

function rowsOf(file: string): readonly Row[] {
  if (!existsSync(file)) return []
  return (JSON.parse(readFileSync(file, 'utf8')) as { readonly rows: readonly Row[] }).rows
}

process.exitCode = await main()
