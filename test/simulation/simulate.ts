/**
 * `pnpm simulate [--seed N] [--runs N] [--steps N] [--quiet] [--digest]`: runs of the simulation, one after the other.
 *
 * One line a run; at the end the faults by kind. With one run and without `--quiet` every event is
 * printed; with `--digest` only the hash over them. The exit code is 1
 * when a promise was broken; then the seed and the last events are printed. Counted are faults that took place.
 */
import { parseArgs } from 'node:util'
import { loadPeerProtocol } from '../../packages/core/src/peer/protocol.ts'
import { FaultCounts } from './fault-counts.ts'
import { type RunResult, simulate } from './simulate-run.ts'

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    runs: { type: 'string', default: '1' },
    steps: { type: 'string' },
    quiet: { type: 'boolean', default: false },
    digest: { type: 'boolean', default: false },
  },
})
const firstSeed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed)
const runs = Number(values.runs)
const protocol = loadPeerProtocol()
const faults = new FaultCounts()
const print = runs === 1 && !values.quiet && !values.digest ? (line: string) => console.log(line) : undefined
const startedMs = performance.now()
const failed: RunResult[] = []
let applied = 0

for (let i = 0; i < runs; i++) {
  const seed = firstSeed + i
  const stepsMax = values.steps === undefined ? undefined : Number(values.steps)
  const ranMs = performance.now()
  const result = await simulate({ seed, protocol, print, stepsMax })
  faults.merge(result.faults)
  applied += result.operations.applied
  if (values.digest) console.log(result.digest)
  else if (!values.quiet || result.violations.length > 0) console.log(summary(result, performance.now() - ranMs))
  if (result.violations.length === 0) continue
  failed.push(result)
  for (const line of print === undefined ? result.context : []) console.log(line)
  for (const { message } of result.violations) console.log(`VIOLATION ${message}`)
  console.log(`again: pnpm simulate --seed ${seed}`)
}

if (!values.digest) printTotals()
if (failed.length > 0) {
  console.log(`failing seeds: ${failed.map(({ seed }) => seed).join(' ')}`)
  // What a run was left with after a violation may go on for ever.
  process.exit(1)
}

function printTotals(): void {
  console.log(`\n| fault | times |\n|---|---:|`)
  for (const [kind, count] of faults.rows()) console.log(`| ${kind} | ${count} |`)
  console.log(
    `\n${runs} runs from seed ${firstSeed}, ${faults.total} faults, ${applied} writes applied, ${failed.length} runs with violations, ${((performance.now() - startedMs) / 1000).toFixed(1)} s`,
  )
}

function summary(result: RunResult, tookMs: number): string {
  const { seed, settings, digest, events, faults: brought, operations, reported, virtualMs } = result
  const { applied: done, refused, unknown } = operations
  return `seed ${seed} ${digest} ${settings.machines.length} ${settings.leadership} ${(virtualMs / 1000).toFixed(0)} s, ${brought.total} faults, ${done} applied (${reported} only reported), ${refused} refused, ${unknown} unknown, ${events} events, ${tookMs.toFixed(0)} ms`
}
