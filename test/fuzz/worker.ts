/**
 * The process that fuzzes: one target after the other, each for its number of runs, started and watched by `run-fuzz.ts`.
 *
 * Arguments: the progress file, the seed, the most findings for one target, then `name:firstRun:runs` for each target.
 * Run n of a target has the same input whatever ran before it. Standard output: one JSON line for each finding and each
 * target that is done.
 */
import { AllocationMeter } from './allocation.ts'
import { judge } from './finding.ts'
import { makeInput } from './mutate.ts'
import { ProgressFile } from './progress.ts'
import { Random } from '../support/random.ts'
import type { FuzzTarget } from './target.ts'
import { targetNamed } from './targets/all.ts'

export type WorkerLine =
  | {
      readonly event: 'finding'
      readonly target: string
      readonly run: number
      readonly kind: string
      readonly reason: string
      readonly input: string
    }
  | {
      readonly event: 'done'
      readonly target: string
      readonly runs: number
      /** Runs that ended with a value: they got past every check. */
      readonly accepted: number
      readonly ms: number
    }

/** Young garbage of so many runs fits into the semi-space that the process is started with. */
const RUNS_PER_COLLECTION = 64

async function fuzz(target: FuzzTarget, index: number, firstRun: number, runs: number): Promise<void> {
  const corpus = target.corpus()
  const startMs = performance.now()
  const targetSeed = seedOf(target.name)
  const reasons = new Set<string>()
  let accepted = 0
  for (let run = firstRun; run < runs && reasons.size < findingsMax; run++) {
    const random = new Random((seed ^ targetSeed) + Math.imul(run, 0x9e3779b1))
    let input = makeInput(random, corpus, target.tokens ?? [])
    if (target.repair !== undefined && random.next() < 0.5) input = target.repair(input, random)
    progress.write(index, run, input)
    if (run % RUNS_PER_COLLECTION === 0) meter.settle()
    const outcome = await judge(target, input, meter)
    if (outcome === 'accepted') accepted++
    if (typeof outcome === 'string') continue
    const reason = withoutNumbers(outcome.reason)
    if (reasons.has(reason)) continue
    reasons.add(reason)
    report({ event: 'finding', target: target.name, run, ...outcome, input: input.toString('base64') })
  }
  const ms = Math.round(performance.now() - startMs)
  report({ event: 'done', target: target.name, runs: runs - firstRun, accepted, ms })
}

/** One defect is told once, whatever values it met: by what it says and where it was. */
function withoutNumbers(reason: string): string {
  return reason
    .split('\n', 3)
    .join(' ')
    .replace(/(?<![:\w])[0-9a-f]+/g, '#')
}

function seedOf(name: string): number {
  let hash = 0x811c9dc5
  for (const letter of name) hash = Math.imul(hash ^ letter.charCodeAt(0), 0x01000193)
  return hash >>> 0
}

function report(line: WorkerLine): void {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

const [progressFile = '', seedText = '0', findingsMaxText = '1', ...plan] = process.argv.slice(2)
const seed = Number(seedText)
const findingsMax = Number(findingsMaxText)
const progress = new ProgressFile(progressFile)
const meter = new AllocationMeter()
for (const [index, entry] of plan.entries()) {
  const [name = '', firstRun = '0', runs = '0'] = entry.split(':')
  await fuzz(targetNamed(name), index, Number(firstRun), Number(runs))
}
progress.close()
