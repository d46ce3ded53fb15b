import { expect, test } from 'vitest'
import { parseBenchOptions } from './bench-options.ts'
import { lagsMs, percentile } from './lag.ts'
import { atRate } from './open-loop.ts'
import { formatRow, row } from './row.ts'
import { alternate, median, rateInFlight } from './workload.ts'

test('a row carries its ratio, and none without a baseline', () => {
  expect(row('read.get', 'reads/s', 98, 100)).toEqual({
    name: 'read.get',
    unit: 'reads/s',
    value: 98,
    baseline: 100,
    ratio: 0.98,
  })
  expect(row('replicate.lag.p50', 'ms', 1.23456, null)).toMatchObject({ value: 1.235, baseline: null, ratio: null })
})

test('a figure that misses its target says so beside it', () => {
  expect(formatRow(row('read.get', 'reads/s', 98, 100))).toMatch(/98\.0 .*0\.98x +>= 0\.97x$/)
  expect(formatRow(row('read.get', 'reads/s', 90, 100))).toMatch(/not reached$/)
  expect(formatRow(row('forward.64', 'writes/s', 14_999, null))).toMatch(/>= 15000 {2}not reached$/)
})

test('names are workloads or rows of them; others are refused with those there are', () => {
  const known = ['read', 'commit']
  expect(parseBenchOptions(['commit.64', '--quick', '--json', 'f'], known)).toEqual({
    names: ['commit'],
    quick: true,
    json: 'f',
  })
  expect(() => parseBenchOptions(['reed'], known)).toThrow('no workload is called "reed"; there are: read, commit')
  expect(() => parseBenchOptions(['--fast'], known)).toThrow()
})

test('baseline and measurement alternate, and the medians count', async () => {
  const order: string[] = []
  const values = [1, 100, 2]
  const result = await alternate(
    3,
    () => {
      order.push('ours')
      return values.shift() ?? 0
    },
    () => {
      order.push('baseline')
      return 4
    },
  )
  expect(result).toEqual({ value: 2, baseline: 4 })
  expect(order).toEqual(['baseline', 'ours', 'baseline', 'ours', 'baseline', 'ours'])
  expect(median([4, 1, 2, 3])).toBe(2.5)
})

test('an open loop starts everything it owes and waits for all of it', async () => {
  let done = 0
  const count = await atRate(1_000, 50, async () => {
    await new Promise((resolve) => setTimeout(resolve, 20))
    done++
  })
  expect([count, done]).toEqual([50, 50])
})

test('no more calls are in flight than there are callers', async () => {
  let running = 0
  let most = 0
  await rateInFlight(4, 20, async () => {
    most = Math.max(most, ++running)
    await new Promise((resolve) => setImmediate(resolve))
    running--
  })
  expect(most).toBe(4)
})

test('a lag ends at the first moment at or beyond the TXID; what a replica never showed is left out', () => {
  const announced = [
    [1, 10],
    [2, 11],
    [4, 20],
    [5, 30],
  ] as const
  const shown = [
    [2, 13],
    [4, 21],
  ] as const
  expect(lagsMs(announced, shown)).toEqual([3, 2, 1])
  expect(percentile([5, 1, 3], 50)).toBe(3)
  expect(percentile([5, 1, 3], 99)).toBe(5)
})
