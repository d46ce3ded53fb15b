import { expect, it } from 'vitest'
import { ManualClock } from './test-support/manual-clock.ts'
import { RunLoop } from './run-loop.ts'

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

function start(task: (signal: AbortSignal, progress: () => void) => Promise<void>) {
  const clock = new ManualClock()
  const delays: number[] = []
  const loop = new RunLoop({
    clock,
    minDelayMs: 100,
    maxDelayMs: 400,
    random: () => 1,
    task,
    onFailure: (_, delayMs) => delays.push(delayMs),
  })
  loop.start()
  return { clock, delays, loop }
}

it('waits longer after each failure, up to the maximum, and starts over after progress', async () => {
  let makesProgress = false
  const { clock, delays, loop } = start(async (_signal, progress) => {
    if (makesProgress) progress()
    throw new Error('no')
  })
  for (let i = 0; i < 5; i++) {
    await turn()
    clock.advance(400)
  }
  await turn()
  makesProgress = true
  clock.advance(400)
  await turn()
  expect(delays).toEqual([100, 200, 400, 400, 400, 400, 100])
  await loop.stop()
})

it('never runs again after stop, which waits for the task', async () => {
  let running = 0
  let runs = 0
  const { clock, loop } = start(
    (signal) =>
      new Promise((resolve) => {
        running++
        runs++
        signal.addEventListener('abort', () => {
          running--
          resolve()
        })
      }),
  )
  await turn()
  expect(running).toBe(1)
  await loop.stop()
  expect(running).toBe(0)
  clock.advance(10_000)
  await turn()
  expect(runs).toBe(1)
})

it('wake ends a wait at once', async () => {
  let runs = 0
  const { loop } = start(() => {
    runs++
    return Promise.resolve()
  })
  await turn()
  loop.wake()
  await turn()
  expect(runs).toBe(2)
  await loop.stop()
})
