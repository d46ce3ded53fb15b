import { describe, expect, it } from 'vitest'
import { ManualClock } from '../base/test-support/manual-clock.ts'
import { Liveness } from './liveness.ts'

function setup() {
  const clock = new ManualClock()
  const pings: number[] = []
  const deaths: number[] = []
  const liveness = new Liveness({
    clock,
    keepaliveMs: 100,
    silenceMs: 400,
    ping: (nonce) => pings.push(nonce),
    dead: (silentMs) => deaths.push(silentMs),
  })
  return { clock, pings, deaths, liveness }
}

describe('Liveness', () => {
  it('calls a connection dead once, after the silence', () => {
    const { clock, pings, deaths } = setup()
    clock.advance(399)
    expect(deaths).toEqual([])
    expect(pings.length).toBe(3)
    clock.advance(1_000)
    expect(deaths).toEqual([400])
    expect(clock.timerCount).toBe(0)
  })

  it('keeps a connection on which anything arrives', () => {
    const { clock, deaths, liveness } = setup()
    for (let i = 0; i < 20; i++) {
      clock.advance(150)
      liveness.heard()
    }
    expect(deaths).toEqual([])
    liveness.stop()
    expect(clock.timerCount).toBe(0)
  })

  it('does not take a pause of this process for a silence of the other side', () => {
    const clock = new ManualClock()
    const deaths: number[] = []
    let tick: () => void = () => undefined
    // A process that did not run: its timers fire late, all of them, before anything can be read.
    const late = {
      nowMs: () => 0,
      monotonicMs: () => clock.monotonicMs(),
      setTimer: (_: number, action: () => void) => ((tick = action), { cancel() {} }),
    }
    const liveness = new Liveness({
      clock: late,
      keepaliveMs: 100,
      silenceMs: 400,
      ping: () => undefined,
      dead: (ms) => deaths.push(ms),
    })
    clock.advance(10_000)
    tick()
    expect(deaths).toEqual([])
    clock.advance(100)
    tick()
    expect(deaths).toEqual([10_100])
    liveness.stop()
  })

  it('measures a round trip by the answer to the last ping only', () => {
    const { clock, pings, liveness } = setup()
    liveness.measure()
    clock.advance(30)
    liveness.pong((pings.at(-1) as number) + 1)
    expect(liveness.rttMs).toBeUndefined()
    liveness.pong(pings.at(-1) as number)
    expect(liveness.rttMs).toBe(30)
    liveness.stop()
  })
})
