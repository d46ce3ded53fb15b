/** The flags of the demo. */
import { parseArgs } from 'node:util'

export interface DemoOptions {
  /** How long the load runs. */
  readonly seconds: number
  /** Nodes in all, the primary included. */
  readonly nodes: number
  /** The nodes elect their primary, which is killed in the middle; a majority has every write before it is answered. */
  readonly failover: boolean
  /** Stay up after the checks, until Ctrl-C. */
  readonly keep: boolean
  /** Where the summary goes as JSON. */
  readonly json: string | undefined
}

/** Region and name of each node, in order; the first is the primary. */
export const REGIONS = ['gru', 'lhr', 'nrt', 'iad', 'fra', 'syd', 'jnb', 'sin', 'sea'] as const

export const USAGE = `usage: demo [--seconds N] [--nodes N] [--failover] [--keep] [--json FILE]
  --seconds N   how long the load runs, 1 to 3600 (default 15)
  --nodes N     how many nodes, 2 to ${REGIONS.length} (default 3)
  --failover    kill the primary in the middle; writes wait for a majority of at least 3 nodes
  --keep        stay up after the checks, until Ctrl-C
  --json FILE   write the summary as JSON`

/** Throws an `Error` whose message is for the user. */
export function parseDemoOptions(args: readonly string[]): DemoOptions {
  const { values } = parseArgs({
    // `pnpm demo -- --seconds 5` passes the dashes on.
    args: args.filter((arg) => arg !== '--'),
    options: {
      seconds: { type: 'string', default: '15' },
      nodes: { type: 'string', default: '3' },
      failover: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
      json: { type: 'string' },
    },
  })
  const { failover } = values
  return {
    seconds: wholeNumber('--seconds', values.seconds, failover ? 4 : 1, 3_600),
    // One of two is no majority.
    nodes: wholeNumber('--nodes', values.nodes, failover ? 3 : 2, REGIONS.length),
    failover,
    keep: values.keep,
    json: values.json,
  }
}

function wholeNumber(flag: string, text: string, min: number, max: number): number {
  const value = Number(text)
  if (/^\d+$/.test(text) && value >= min && value <= max) return value
  throw new Error(`${flag} is "${text}"; it accepts ${min} to ${max}`)
}
