/**
 * `pnpm storm [--seed N] [--minutes M] [--nodes 3] [--keep] [--json FILE]`: real nodes under writes while faults happen to them, and a
 * check at the end that nothing acknowledged was lost, doubled or seen in a state that never was.
 *
 * Prints a line for each event, the counts, and `storm: ok`, or `storm: FAILED` with what repeats it and where its files are.
 */
import { writeFileSync } from 'node:fs'
import { drawSchedule } from './schedule.ts'
import { describeFault } from './fault-event.ts'
import { runStorm } from './run-storm.ts'
import { commandOf, parseStormOptions, type StormOptions, USAGE } from './storm-options.ts'
import { formatResult } from './storm-result.ts'

async function main(): Promise<number> {
  let options: StormOptions
  try {
    options = parseStormOptions(process.argv.slice(2))
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : String(error)}\n${USAGE}`)
    return 2
  }
  const { seed, seconds, nodes, json } = options
  console.log(commandOf(options))
  for (const event of drawSchedule(seed, nodes, seconds * 1000).events) {
    console.log(`  planned ${(event.atMs / 1000).toFixed(3).padStart(9)}  ${describeFault(event)}`)
  }
  const interruption = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => interruption.abort())
  const result = await runStorm({ ...options, print: (line) => console.log(line), interrupted: interruption.signal })
  console.log(`\n${formatResult(result)}\n`)
  if (json !== undefined) writeFileSync(json, `${JSON.stringify(result, null, 2)}\n`)
  if (result.directory !== undefined) console.log(`files: ${result.directory}`)
  if (result.findings.length === 0) {
    console.log(`storm: ok (seed ${seed})`)
    return 0
  }
  for (const finding of result.findings) console.log(`FOUND  ${finding}`)
  console.log(`storm: FAILED. Again: ${commandOf(options)}`)
  return 1
}

// At once: what the ended processes and readers left open must not keep this one.
process.exit(await main())
