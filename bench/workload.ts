/** What a workload is given and what it answers. */
import type { Row } from './row.ts'

export interface BenchContext {
  /** Figures good enough to see a regression of a third; the whole bench in about two minutes. */
  readonly quick: boolean
  /** A fresh directory of this workload, removed afterwards. */
  readonly directory: string
  /** How long one measurement lasts, in ms. */
  readonly sliceMs: number
  /** How often measurement and baseline alternate, so that both meet the same moods of the machine. */
  readonly rounds: number
}

export interface Workload {
  readonly name: string
  run(context: BenchContext): Promise<readonly Row[]>
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

export interface Alternated {
  readonly value: number
  readonly baseline: number
}

/** Measures both in turn, `rounds` times, and answers the medians. */
export async function alternate(
  rounds: number,
  measure: () => number | Promise<number>,
  baseline: () => number | Promise<number>,
): Promise<Alternated> {
  const values: number[] = []
  const baselines: number[] = []
  for (let i = 0; i < rounds; i++) {
    baselines.push(await baseline())
    values.push(await measure())
  }
  return { value: median(values), baseline: median(baselines) }
}

/** Calls `once` again and again for `sliceMs` and answers calls per second. `once` is synchronous. */
export function ratePerSecond(sliceMs: number, once: () => void): number {
  const startedMs = performance.now()
  let count = 0
  let elapsedMs = 0
  while (elapsedMs < sliceMs) {
    // The clock is read once in a hundred calls: a read takes as long as a tenth of what is measured.
    for (let i = 0; i < 100; i++) once()
    count += 100
    elapsedMs = performance.now() - startedMs
  }
  return (count / elapsedMs) * 1000
}

/** Keeps `callers` calls of `once` under way for `sliceMs` and answers calls per second. */
export async function rateInFlight(callers: number, sliceMs: number, once: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now()
  const endMs = startedMs + sliceMs
  let count = 0
  const caller = async (): Promise<void> => {
    while (performance.now() < endMs) {
      await once()
      count++
    }
  }
  await Promise.all(Array.from({ length: callers }, caller))
  return (count / (performance.now() - startedMs)) * 1000
}
