/**
 * I1, I3, I7, I9, I10 in a storm: real nodes under a bank and an append workload while faults happen to processes, disks, links, clocks and to
 * who is the primary, drawn from a seed.
 *
 * Real, modelled, and what may legally be lost: run-storm.ts and lost-histories.ts. A failing seed is printed with the command that
 * repeats it; it belongs into kept-seeds.json.
 */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import { seedOfRun } from '../support/random.ts'
import type { Fleet } from './fleet.ts'
import { runStorm } from './run-storm.ts'
import { drawSchedule } from './schedule.ts'
import { commandOf } from './storm-options.ts'
import type { StormResult } from './storm-result.ts'
import { DATABASE } from './storm-schema.ts'

interface KeptSeed {
  readonly seed: number
  readonly seconds: number
  /** What it once found. */
  readonly found: string
}

/** The newest ones are run. */
const KEPT_MAX = 6
const FRESH_SECONDS = 45
const NODES = 3

async function storm(seed: number, seconds: number, meddle?: (fleet: Fleet) => Promise<void>): Promise<StormResult> {
  const lines: string[] = []
  const result = await runStorm({
    seed,
    seconds,
    nodes: NODES,
    keep: false,
    print: (line) => void lines.push(line),
    interrupted: new AbortController().signal,
    ...(meddle === undefined ? {} : { meddle }),
  })
  if (result.findings.length > 0 && meddle === undefined)
    console.log([commandOf({ seed, seconds, nodes: NODES }), ...lines, `files: ${result.directory}`].join('\n'))
  return result
}

test('a schedule is that of its seed, and a shorter one is the beginning of a longer one', () => {
  const long = drawSchedule(77, NODES, 60_000)
  expect(drawSchedule(77, NODES, 60_000)).toEqual(long)
  const short = drawSchedule(77, NODES, 20_000)
  expect(short.events).toEqual(long.events.slice(0, short.events.length))
  expect(long.events.length).toBeGreaterThan(short.events.length)
  expect(drawSchedule(78, NODES, 60_000).events).not.toEqual(long.events)
})

test('a fresh storm loses nothing, doubles nothing, and nobody sees a state that never was', async () => {
  const result = await storm(seedOfRun('storm'), FRESH_SECONDS)
  expect(result.findings).toEqual([])
  expect(result.faults.reduce((sum, { happened }) => sum + happened, 0)).toBeGreaterThan(10)
  expect(result.writes.reduce((sum, { acknowledged }) => sum + acknowledged, 0)).toBeGreaterThan(100)
})

const keptSeeds = JSON.parse(readFileSync(path.join(import.meta.dirname, 'kept-seeds.json'), 'utf8')) as KeptSeed[]
describe('a seed that once found something', () => {
  test.each(keptSeeds.slice(-KEPT_MAX))('finds it no more: $seed ($found)', async ({ seed, seconds }) => {
    expect((await storm(seed, seconds)).findings).toEqual([])
  })
})

describe('a storm notices', () => {
  test.each<[string, string, RegExp]>([
    ['that an acknowledged write is gone', 'DELETE FROM entry WHERE id = (SELECT max(id) FROM entry)', /is lost/],
    ['that a write took effect twice', 'INSERT INTO entry SELECT * FROM entry LIMIT 1', /took effect twice/],
    ['a write that nobody made', 'INSERT INTO entry VALUES (1000000, 0)', /made by nobody/],
    ['that a book rule is broken', 'UPDATE pair SET a = a + 1', /a reader of node/],
  ])('%s', async (_, sql, found) => {
    const result = await storm(5, 3, async (fleet) => {
      await fleet.cluster.primary.run(DATABASE, sql, undefined, { await: 'all' })
      await fleet.settle(fleet.replicas, 30_000)
      // A reader looks at it.
      await new Promise((resolve) => setTimeout(resolve, 3_000))
    })
    expect(result.findings.join('\n')).toMatch(found)
  })
})
