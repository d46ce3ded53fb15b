/** What a storm is asked for, from its command line. */
import { parseArgs } from 'node:util'
import { LEASE_KINDS, type LeaseKind } from './storm-lease.ts'

export interface StormOptions {
  readonly seed: number
  readonly seconds: number
  readonly nodes: number
  readonly lease: LeaseKind
  /** The directory of the run stays. It does so after a finding in any case. */
  readonly keep: boolean
  /** Where the counts go as JSON. */
  readonly json: string | undefined
}

export const USAGE = `usage: storm [--seed N] [--minutes M | --seconds S] [--nodes 2…5] [--lease static|host|etcd|consul] [--keep] [--json FILE]
The seed decides which faults happen when and to whom. The shorter of two storms of one seed is the beginning of the longer one.`

const MINUTES = 5
const NODES = 3
const SEED_END = 2 ** 32

/** Throws an error to print with the usage. */
export function parseStormOptions(args: readonly string[]): StormOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      seed: { type: 'string' },
      minutes: { type: 'string' },
      seconds: { type: 'string' },
      nodes: { type: 'string' },
      lease: { type: 'string', default: 'static' },
      keep: { type: 'boolean' },
      json: { type: 'string' },
    },
  })
  const number = (name: 'seed' | 'minutes' | 'seconds' | 'nodes', min: number, max: number): number | undefined => {
    const text = values[name]
    if (text === undefined) return undefined
    const value = Number(text)
    if (text !== '' && value >= min && value <= max) return value
    throw new Error(`--${name} is a number from ${min} to ${max}, not ${text}`)
  }
  const lease = LEASE_KINDS.find((kind) => kind === values.lease)
  if (lease === undefined) throw new Error(`--lease is one of ${LEASE_KINDS.join(', ')}, not ${values.lease}`)
  const seconds = number('seconds', 1, 36_000) ?? (number('minutes', 0.1, 600) ?? MINUTES) * 60
  return {
    seed: Math.floor(number('seed', 0, SEED_END - 1) ?? Math.random() * SEED_END),
    seconds,
    nodes: Math.floor(number('nodes', 2, 5) ?? NODES),
    lease,
    keep: values.keep ?? false,
    json: values.json,
  }
}

/** What repeats this storm. */
export function commandOf(
  options: Pick<StormOptions, 'seed' | 'seconds' | 'nodes'> & Partial<Pick<StormOptions, 'lease'>>,
): string {
  const { seed, seconds, nodes, lease = 'static' } = options
  const duration = seconds % 6 === 0 ? `--minutes ${seconds / 60}` : `--seconds ${seconds}`
  return `pnpm storm --seed ${seed} ${duration} --nodes ${nodes}${lease === 'static' ? '' : ` --lease ${lease}`}`
}
