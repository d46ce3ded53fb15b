/** The fuzzer itself: what it must notice, shown with targets that misbehave on purpose. */
import { expect, test } from 'vitest'
import { Random } from '../support/random.ts'
import { AllocationMeter } from './allocation.ts'
import { judge } from './finding.ts'
import { INPUT_BYTES_MAX, makeInput } from './mutate.ts'
import type { FuzzTarget } from './target.ts'
import { TARGETS } from './targets/all.ts'

const meter = new AllocationMeter()
const KEPT: unknown[] = []

function targetThat(run: FuzzTarget['run']): FuzzTarget {
  return {
    name: 'bad',
    codes: ['CORRUPT_DATA'],
    bound: { perByte: 4, constant: 1024 * 1024 },
    weight: 1,
    corpus: () => [],
    run,
  }
}

test.for<[string, FuzzTarget['run'], string]>([
  [
    'an error that is not ours',
    () => {
      throw new TypeError('no')
    },
    'error',
  ],
  ['a promise that rejects with one', () => Promise.reject(new RangeError('no')), 'error'],
  ['a buffer that is too large, although nobody keeps it', () => void Buffer.allocUnsafeSlow(8 << 20), 'allocation'],
  ['typed arrays that are too large', () => void KEPT.push(new Uint32Array(4 << 20)), 'allocation'],
  ['many small objects', () => void KEPT.push(Array.from({ length: 200_000 }, (_, i) => ({ i }))), 'allocation'],
])('%s is a finding', async ([, run, kind]) => {
  meter.settle()
  expect(await judge(targetThat(run), Buffer.alloc(100), meter)).toMatchObject({ kind })
})

test('a value is no finding', async () => {
  const target = targetThat(() => undefined)
  expect(await judge(target, Buffer.alloc(100), meter)).toBe('accepted')
})

test('the same seed makes the same input, and none is longer than the bound', () => {
  const corpus = [Buffer.alloc(1000, 1), Buffer.from('abc')]
  for (let seed = 0; seed < 500; seed++) {
    const input = makeInput(new Random(seed), corpus, [Buffer.from('token')])
    expect(makeInput(new Random(seed), corpus, [Buffer.from('token')]).equals(input)).toBe(true)
    expect(input.length).toBeLessThanOrEqual(INPUT_BYTES_MAX)
  }
})

test.for(TARGETS.map((target) => [target.name, target] as const))(
  'the inputs to start from are valid for %s',
  async ([, target]) => {
    const outcomes = await Promise.all(target.corpus().map((input) => judge(target, input, meter)))
    expect(outcomes).toContain('accepted')
    for (const outcome of outcomes) expect(outcome).toBeTypeOf('string')
  },
)

test('names of targets are unique', () => {
  expect(new Set(TARGETS.map(({ name }) => name)).size).toBe(TARGETS.length)
})
