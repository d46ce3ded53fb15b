/**
 * The crash points of what a node just did: each named operation that changes its disk or makes it durable, at the moments that matter.
 *
 * A run visits each operation at one moment, drawn from the seed; `FAULT_POINTS=all` in the environment visits every moment.
 */
import {
  CHANGING,
  type CrashMoment,
  crashMoments,
  type DiskMethod,
  type FaultRule,
  type SeenOperation,
  SYNCING,
} from './fault-disk.ts'
import type { Random } from './random.ts'

export interface CrashPoint {
  readonly operation: string
  readonly method: DiskMethod
  readonly when: CrashMoment
  /** From when on it is watched for, counted from 1. */
  readonly occurrence: number
}

/** @param occurrencesMax a later occurrence than this is not waited for */
export function crashPointsOf(
  seen: readonly SeenOperation[],
  random: Random,
  occurrencesMax: number,
): readonly CrashPoint[] {
  return seen
    .filter(({ method }) => CHANGING.includes(method) || SYNCING.includes(method))
    .flatMap(({ operation, method, count }) => {
      const moments = crashMoments(method)
      return (isAll() ? moments : [random.pick(moments)]).map((when) => ({
        operation,
        method,
        when,
        occurrence: 1 + random.below(Math.min(count, occurrencesMax)),
      }))
    })
}

/** Some of them, in their order; all with `FAULT_POINTS=all`. */
export function drawn<T>(all: readonly T[], random: Random, most: number): readonly T[] {
  if (isAll()) return all
  const left = all.map((one, index) => ({ one, index, rank: random.next() })).toSorted((a, b) => a.rank - b.rank)
  return left
    .slice(0, most)
    .toSorted((a, b) => a.index - b.index)
    .map(({ one }) => one)
}

function isAll(): boolean {
  return process.env['FAULT_POINTS'] === 'all'
}

export function crashRule({ operation, method, when, occurrence }: CrashPoint): FaultRule {
  return { operation, methods: [method], occurrence, effect: { kind: 'crash', when } }
}

export function nameOf({ operation, method, when, occurrence }: CrashPoint): string {
  return `${when} ${operation} (${method} ${occurrence})`
}

/** Operations of several lists, each once, with its largest count. */
export function merged(...lists: readonly (readonly SeenOperation[])[]): readonly SeenOperation[] {
  const all = new Map<string, SeenOperation>()
  for (const seen of lists.flat()) {
    const key = `${seen.operation} ${seen.method}`
    const known = all.get(key)
    if (known === undefined || known.count < seen.count) all.set(key, seen)
  }
  return [...all.values()]
}
