import { describe, expect, it } from 'vitest'
import { ManualClock } from '../base/test-support/manual-clock.ts'
import { FunctionRunner } from './function-runner.ts'
import { FunctionTable } from './function-table.ts'

function setup() {
  const clock = new ManualClock()
  const table = new FunctionTable()
  const aborted: unknown[] = []
  table.register('add', (input) => Number(input) + 1)
  table.register('later', (input) => Promise.resolve(input))
  table.register('hang', (_, { signal }) => {
    signal.addEventListener('abort', () => aborted.push(signal.reason))
    return new Promise<null>(() => undefined)
  })
  return { clock, table, aborted, runner: new FunctionRunner(table, clock) }
}

const code = (expected: string) => expect.objectContaining({ code: expected })

describe('FunctionRunner', () => {
  it('answers what the function answers, at once or later', async () => {
    const { clock, runner } = setup()
    expect(await runner.run('add', 1, 'me', 100)).toBe(2)
    expect(await runner.run('later', 'x', 'me', 100)).toBe('x')
    clock.advance(1_000)
    expect(clock.timerCount).toBe(0)
  })

  it('gives up at the deadline and tells the function', async () => {
    const { clock, aborted, runner } = setup()
    const run = runner.run('hang', null, 'me', 50).catch((error: unknown) => error)
    clock.advance(100)
    expect(await run).toMatchObject({ code: 'CALL_OUTCOME_UNKNOWN' })
    expect(aborted).toEqual([code('CALL_OUTCOME_UNKNOWN')])
  })

  it('does not start after the deadline, nor what nobody registered', async () => {
    const { clock, runner } = setup()
    clock.advance(100)
    await expect(runner.run('add', 1, 'me', 100)).rejects.toThrow(code('DEADLINE_EXCEEDED'))
    await expect(runner.run('subtract', 1, 'me', 200)).rejects.toThrow(code('UNKNOWN_PROCEDURE'))
  })

  it('fails what is running when it is closed', async () => {
    const { aborted, runner } = setup()
    const run = runner.run('hang', null, 'me', 50).catch((error: unknown) => error)
    runner.close()
    expect(await run).toMatchObject({ code: 'CALL_OUTCOME_UNKNOWN' })
    expect(aborted.length).toBe(1)
  })
})

describe('FunctionTable', () => {
  it('has one function for a name', () => {
    const { table } = setup()
    expect(() => table.register('add', () => null)).toThrow(code('INVALID_OPTION'))
  })
})
