import { expect, test } from 'vitest'
import { systemClock } from '../base/clock.ts'
import { LeaseTime, LeaseValidity } from './lease-time.ts'

/** Three clocks that go as they are told. */
function clocks() {
  const at = { monotonicMs: 1_000, uptimeMs: 5_000_000, wallMs: 1_700_000_000_000 }
  const clock = { ...systemClock, monotonicMs: () => at.monotonicMs, nowMs: () => at.wallMs }
  const time = new LeaseTime(clock, () => at.uptimeMs)
  const pass = (ms: number, ...which: (keyof typeof at)[]): void => {
    for (const name of which.length > 0 ? which : (Object.keys(at) as (keyof typeof at)[])) at[name] += ms
  }
  return { time, pass }
}

test('time passes by the clock that says most', () => {
  const { time, pass } = clocks()
  const start = time.now()
  pass(400)
  expect(time.elapsedMs(start)).toBe(400)
  pass(600, 'uptimeMs', 'wallMs') // the machine was suspended
  expect(time.elapsedMs(start)).toBe(1_000)
  pass(5_000, 'wallMs') // somebody set the clock, or only it went on
  expect(time.elapsedMs(start)).toBe(6_000)
  pass(-60_000, 'wallMs')
  expect(time.elapsedMs(start)).toBe(1_000)
})

test('time never goes back before the start', () => {
  const { time, pass } = clocks()
  const start = time.now()
  pass(-10_000, 'wallMs', 'uptimeMs')
  expect(time.elapsedMs(start)).toBe(0)
})

test('a lease is sure until its time is over, counted from before it was asked for', () => {
  const { time, pass } = clocks()
  const asked = time.now()
  pass(300) // the answer took so long
  const validity = new LeaseValidity(time, 10_000, asked)
  expect(validity.leftMs).toBe(9_700)
  expect([validity.isSure(0), validity.isSure(9_699), validity.isSure(9_700)]).toEqual([true, true, false])
  pass(9_700)
  expect(validity.isSure(0)).toBe(false)
  expect(validity.leftMs).toBe(0)
})

test('a renewal counts from before it was asked for, and does not bring back what was over', () => {
  const { time, pass } = clocks()
  const validity = new LeaseValidity(time, 10_000, time.now())
  pass(5_000)
  const asked = time.now()
  pass(2_000)
  validity.renewed(asked)
  expect(validity.leftMs).toBe(8_000)
  const late = time.now()
  pass(9_000, 'uptimeMs') // suspended while the answer was on its way
  validity.renewed(late)
  expect(validity.isSure(0)).toBe(false)
})

test('the clocks of the system are three that go forward', async () => {
  const time = new LeaseTime(systemClock)
  const start = time.now()
  while (time.elapsedMs(start) < 20) await new Promise((resolve) => setTimeout(resolve, 1))
  for (const [name, value] of Object.entries(time.now()))
    expect(value, name).toBeGreaterThanOrEqual(start[name as keyof typeof start])
})
