/**
 * `pnpm fuzz [--runs N] [--seed N] [--target name] [--findings N] [--keep]`: feeds mutated and random bytes to every decoder.
 * What is fuzzed and what counts as a finding: `target.ts`. `--target` may be repeated and may be the start of a name.
 * `--keep` stores the inputs of findings for the replay. Exit code 1 when there was a finding.
 */
import { parseArgs } from 'node:util'
import { keepInput } from './findings.ts'
import { runFuzz } from './run-fuzz.ts'
import { TARGETS } from './targets/all.ts'

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '100000' },
    seed: { type: 'string' },
    target: { type: 'string', multiple: true, default: [] },
    findings: { type: 'string', default: '3' },
    keep: { type: 'boolean', default: false },
  },
})
const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 32) : Number(values.seed)
const targets = TARGETS.filter(
  ({ name }) => values.target.length === 0 || values.target.some((wanted) => name.startsWith(wanted)),
)
if (targets.length === 0) throw new Error(`no such target; there are: ${TARGETS.map(({ name }) => name).join(', ')}`)

console.log(`fuzz: --seed ${seed} --runs ${values.runs}, ${targets.length} targets`)
const startMs = performance.now()
const { findings, done } = await runFuzz(
  { targets, runs: Number(values.runs), seed, findingsMax: Number(values.findings) },
  (line) => console.log(line),
)
const runs = done.reduce((sum, share) => sum + share.runs, 0)
for (const { target, kind, input } of findings) if (values.keep) console.log(`kept ${keepInput(target, kind, input)}`)
console.log(`${runs} runs in ${Math.round((performance.now() - startMs) / 1000)} s, ${findings.length} findings`)
process.exitCode = findings.length === 0 ? 0 : 1
