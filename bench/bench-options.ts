/** The flags of the bench. */
import { parseArgs } from 'node:util'

export interface BenchOptions {
  /** Workloads or rows to run; empty: all. */
  readonly names: readonly string[]
  readonly quick: boolean
  /** Where the results go as JSON, besides `bench/results/`. */
  readonly json: string | undefined
}

/** Throws an `Error` whose message is for the user. `known` are the names of workloads. */
export function parseBenchOptions(args: readonly string[], known: readonly string[]): BenchOptions {
  const { values, positionals } = parseArgs({
    // `pnpm bench -- read` passes the dashes on.
    args: args.filter((arg) => arg !== '--'),
    allowPositionals: true,
    options: { quick: { type: 'boolean', default: false }, json: { type: 'string' } },
  })
  // `commit.64` runs the workload it belongs to.
  const names = positionals.map((name) => name.split('.')[0] ?? name)
  const unknown = names.find((name) => !known.includes(name))
  if (unknown !== undefined) throw new Error(`no workload is called "${unknown}"; there are: ${known.join(', ')}`)
  return { names, quick: values.quick, json: values.json }
}
