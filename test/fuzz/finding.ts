/** Feeds one input to a target and judges what came of it. Used by the fuzzer and by the replay of kept inputs alike. */
import { isClusterError } from '../../packages/core/src/errors/cluster-error.ts'
import type { AllocationMeter } from './allocation.ts'
import type { FuzzTarget } from './target.ts'

export type FindingKind = 'error' | 'allocation' | 'slow' | 'hang' | 'crash'

export interface Finding {
  readonly kind: FindingKind
  readonly reason: string
}

/** One run longer than this is a finding, also when it ends: the inputs are small. */
export const SLOW_MS = 3_000

/** `accepted`: a value; `refused`: an error of the documented classes; both within the bounds. */
export type Outcome = 'accepted' | 'refused' | Finding

export async function judge(target: FuzzTarget, input: Buffer, meter: AllocationMeter): Promise<Outcome> {
  // The target may keep or change its bytes.
  const outcome = await attempt(target, Buffer.from(input), meter)
  if (typeof outcome === 'string' || outcome.kind === 'error') return outcome
  meter.settle()
  // A compilation or a lazily made table is counted with the run that it falls into; damage repeats.
  return await attempt(target, Buffer.from(input), meter)
}

async function attempt(target: FuzzTarget, input: Buffer, meter: AllocationMeter): Promise<Outcome> {
  const most = input.length * target.bound.perByte + target.bound.constant
  const startMs = performance.now()
  meter.begin()
  let thrown: { readonly error: unknown } | undefined
  try {
    // Most targets are synchronous, and a turn of the event loop for each would cost more than they do.
    const pending = target.run(input)
    if (pending !== undefined) await pending
  } catch (error) {
    thrown = { error }
  }
  const allocated = meter.end()
  const tookMs = performance.now() - startMs
  if (thrown !== undefined && !(isClusterError(thrown.error) && target.codes.includes(thrown.error.code)))
    return { kind: 'error', reason: describe(thrown.error) }
  if (allocated > most)
    return {
      kind: 'allocation',
      reason: `${allocated} bytes allocated for ${input.length} bytes of input, bound ${most}`,
    }
  if (tookMs > SLOW_MS) return { kind: 'slow', reason: `${Math.round(tookMs)} ms for ${input.length} bytes of input` }
  return thrown === undefined ? 'accepted' : 'refused'
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return `threw ${String(error)}`
  return error.stack ?? `${error.name}: ${error.message}`
}
