/**
 * Fuzzes targets in a child process and watches it: for an input that never ends or that ends the process, which the child could
 * not report itself.
 *
 * Promises: the child is gone when this resolves; it has at most `HEAP_MIB` of heap. After a hang or a crash the guilty input is
 * a finding, and the rest of the runs goes on in a new child.
 */
import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import type { Finding, FindingKind } from './finding.ts'
import { readProgress } from './progress.ts'
import type { FuzzTarget } from './target.ts'
import type { WorkerLine } from './worker.ts'

const WORKER = path.join(import.meta.dirname, 'worker.ts')
const HEAP_MIB = 768
/** A run that is still the same one after this long hangs. Far above what a busy machine makes of a slow run. */
const HANG_MS = 20_000
const LOOK_MS = 500

export interface FuzzPlan {
  readonly targets: readonly FuzzTarget[]
  /** Of all targets together; each gets its share by weight, at least one. */
  readonly runs: number
  readonly seed: number
  /** After so many findings a target is left. */
  readonly findingsMax: number
  /** Default: 20,000. */
  readonly hangMs?: number | undefined
}

export interface FoundInput extends Finding {
  readonly target: string
  readonly run: number
  readonly input: Buffer
}

export interface FuzzReport {
  readonly findings: readonly FoundInput[]
  readonly done: readonly TargetDone[]
}

export type TargetDone = Omit<Extract<WorkerLine, { event: 'done' }>, 'event'>

interface Share {
  readonly name: string
  firstRun: number
  readonly runs: number
}

/** @param tell one line for each target that is done and each finding */
export async function runFuzz(plan: FuzzPlan, tell: (line: string) => void): Promise<FuzzReport> {
  const directory = await mkdtemp(path.join(tmpdir(), 'litefleet-fuzz-'))
  const findings: FoundInput[] = []
  const done: TargetDone[] = []
  const progressFile = path.join(directory, 'progress')
  try {
    for (let left = shares(plan); left.length > 0; ) {
      const child = new Child(plan, left, progressFile, directory)
      const death = await child.finish((line) => {
        if (line.event === 'done') {
          const { target, runs, accepted, ms } = line
          done.push({ target, runs, accepted, ms })
          tell(`${target}: ${runs} runs, ${accepted} accepted, ${(ms / 1000).toFixed(1)} s`)
        } else {
          const input = Buffer.from(line.input, 'base64')
          const { target, run, reason } = line
          findings.push({ target, run, kind: line.kind as FindingKind, reason, input })
          tell(`FINDING ${target} run ${run}: ${reason}`)
        }
      })
      if (death === undefined) break
      const at = readProgress(progressFile)
      if (at === undefined) throw new Error(`the fuzzing process ended before its first run: ${death.reason}`)
      const share = left[at.target]!
      findings.push({ ...death, target: share.name, run: at.run, input: Buffer.from(at.input) })
      tell(`FINDING ${share.name} run ${at.run}: ${death.reason}`)
      share.firstRun = at.run + 1
      const isSpent = findings.filter(({ target }) => target === share.name).length >= plan.findingsMax
      left = left.slice(isSpent ? at.target + 1 : at.target)
    }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
  return { findings, done }
}

function shares({ targets, runs }: FuzzPlan): Share[] {
  const weights = targets.reduce((sum, target) => sum + target.weight, 0)
  return targets.map(({ name, weight }) => ({
    name,
    firstRun: 0,
    runs: Math.max(1, Math.round((runs * weight) / weights)),
  }))
}

class Child {
  readonly #process
  readonly #progressFile: string
  readonly #hangMs: number
  #isHanging = false

  constructor(plan: FuzzPlan, left: readonly Share[], progressFile: string, directory: string) {
    this.#progressFile = progressFile
    this.#hangMs = plan.hangMs ?? HANG_MS
    const work = left.map(({ name, firstRun, runs }) => `${name}:${firstRun}:${runs}`)
    const node = [
      '--disable-warning=ExperimentalWarning',
      `--max-old-space-size=${HEAP_MIB}`,
      '--max-semi-space-size=64',
    ]
    const args = [...node, WORKER, progressFile, String(plan.seed), String(plan.findingsMax), ...work]
    // Targets that write files find their temporary directory by this.
    const env = { ...process.env, TMPDIR: directory }
    this.#process = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'], env })
  }

  /** Resolves when the child is gone: `undefined` when it did all its work. */
  async finish(take: (line: WorkerLine) => void): Promise<Finding | undefined> {
    const child = this.#process
    createInterface({ input: child.stdout }).on('line', (line) => take(JSON.parse(line) as WorkerLine))
    let errors = ''
    child.stderr.on('data', (piece: Buffer) => {
      errors = (errors + piece.toString()).slice(-4000)
    })
    const timer = this.#watch()
    const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
      child.once('error', reject)
      child.once('close', (...end) => resolve(end))
    })
    clearInterval(timer)
    if (code === 0) return undefined
    if (this.#isHanging) return { kind: 'hang', reason: `no end within ${this.#hangMs / 1000} s` }
    return { kind: 'crash', reason: `the process ended with ${signal ?? `code ${code}`}: ${errors}` }
  }

  /** Kills the child when one run takes too long. */
  #watch(): NodeJS.Timeout {
    let last = ''
    let sinceMs = performance.now()
    return setInterval(() => {
      const progress = readProgress(this.#progressFile)
      const now = `${progress?.target} ${progress?.run}`
      if (now !== last) {
        last = now
        sinceMs = performance.now()
      } else if (performance.now() - sinceMs > this.#hangMs) {
        this.#isHanging = true
        this.#process.kill('SIGKILL')
      }
    }, LOOK_MS)
  }
}
