/**
 * A short run over all decoders with a fresh seed, which is printed. `pnpm fuzz --seed N --runs N` does the same again and more.
 * Before that: what the fuzzer must notice, with targets that misbehave on purpose.
 */
import { expect, test } from 'vitest'
import { seedOfRun } from '../support/random.ts'
import { runFuzz } from './run-fuzz.ts'
import { misbehavingTargets } from './targets/misbehaving.ts'
import { TARGETS } from './targets/all.ts'

test('a hang, a death, a wrong error and too much memory are each found, and the runs go on', async () => {
  const plan = { targets: misbehavingTargets, runs: 4_000, seed: 1, findingsMax: 1, hangMs: 1_500 }
  const { findings } = await runFuzz(plan, () => undefined)
  expect(findings.map(({ target, kind }) => `${target}: ${kind}`)).toEqual([
    'hangs: hang',
    'dies: crash',
    'throws: error',
    'leaks: allocation',
  ])
  expect(findings.every(({ input }) => input.length % 16 === 5)).toBe(true)
})

const RUNS = 200_000

test('no decoder falls over any bytes', async () => {
  const report = await runFuzz(
    { targets: TARGETS, runs: RUNS, seed: seedOfRun('fuzz'), findingsMax: 1 },
    () => undefined,
  )
  expect(report.findings.map(({ target, run, reason }) => `${target} run ${run}: ${reason}`)).toEqual([])
  expect(report.done.map(({ target }) => target)).toEqual(TARGETS.map(({ name }) => name))
})
