import { describe, expect, it } from 'vitest'
import { ManualClock } from './test-support/manual-clock.ts'
import { CoarseTimer } from './coarse-timer.ts'

describe('CoarseTimer', () => {
  it('sweeps while there is something to watch, and has no timer otherwise', () => {
    const clock = new ManualClock()
    let left = 3
    const sweptAt: number[] = []
    const timer = new CoarseTimer(clock, 10, (nowMs) => {
      sweptAt.push(nowMs)
      return --left > 0
    })
    expect(clock.timerCount).toBe(0)
    timer.arm()
    timer.arm()
    expect(clock.timerCount).toBe(1)
    clock.advance(100)
    expect(sweptAt).toEqual([10, 20, 30])
    expect(clock.timerCount).toBe(0)
  })

  it('never sweeps after it was stopped', () => {
    const clock = new ManualClock()
    let sweeps = 0
    const timer = new CoarseTimer(clock, 10, () => ++sweeps > 0)
    timer.arm()
    timer.stop()
    timer.arm()
    clock.advance(100)
    expect(sweeps).toBe(0)
  })
})
