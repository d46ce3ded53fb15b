/** Every input that was a finding once, against the target it was found in. New ones come from `pnpm fuzz --keep`. */
import { expect, test } from 'vitest'
import { AllocationMeter } from './allocation.ts'
import { judge } from './finding.ts'
import { keptInputs } from './findings.ts'
import { targetNamed } from './targets/all.ts'

const meter = new AllocationMeter()

test.for(keptInputs().map((kept) => [`${kept.target}/${kept.name}`, kept] as const))(
  'the kept input %s is no finding any more',
  async ([, { target, input }]) => {
    expect(await judge(targetNamed(target), input, meter)).toBeTypeOf('string')
  },
)

test('inputs were kept', () => {
  expect(keptInputs().length).toBeGreaterThan(10)
})
