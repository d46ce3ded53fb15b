/** Options of leadership. */
import { invalidOption, rejectUnknownOptions } from '../errors/unknown-option.ts'

export interface LeadershipOptions {
  /**
   * A lease that ends sooner than this counts as lost, in ms. No effect on a lease that cannot run out. Default: 500.
   */
  readonly marginMs?: number | undefined
  /** First and longest wait between two attempts to acquire the lease, in ms. Default: 100 and 2,000. */
  readonly retryMinMs?: number | undefined
  readonly retryMaxMs?: number | undefined
}

export type ResolvedLeadershipOptions = { readonly [K in keyof LeadershipOptions]-?: number }

export const LEADERSHIP_DEFAULTS: ResolvedLeadershipOptions = Object.freeze({
  marginMs: 500,
  retryMinMs: 100,
  retryMaxMs: 2_000,
})

/** @throws INVALID_OPTION */
export function resolveLeadershipOptions(given: LeadershipOptions = {}): ResolvedLeadershipOptions {
  const names = Object.keys(LEADERSHIP_DEFAULTS) as (keyof LeadershipOptions)[]
  rejectUnknownOptions(given, names, 'leadership')
  const resolved = { ...LEADERSHIP_DEFAULTS }
  for (const name of names) {
    const value = given[name] ?? LEADERSHIP_DEFAULTS[name]
    if (!Number.isSafeInteger(value) || value < 1) invalidOption('leadership', name, value, 'a positive integer')
    Object.assign(resolved, { [name]: value })
  }
  return Object.freeze(resolved)
}
