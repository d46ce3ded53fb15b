import { expect, test } from 'vitest'
import { SharedFlush } from './shared-flush.ts'

/** A flush whose runs end when the test says so. */
class ManualFlush {
  version = 0
  readonly runs: PromiseWithResolvers<void>[] = []
  readonly flush = new SharedFlush(
    () => {
      const run = Promise.withResolvers<void>()
      this.runs.push(run)
      return run.promise
    },
    () => this.version,
  )
}

test('callers with nothing new join the running flush; with something new, the next one', async () => {
  const { flush, runs } = new ManualFlush()
  const first = [flush.run(), flush.run()]
  expect(runs.length).toBe(1)
  runs[0]!.resolve()
  await Promise.all(first)
  expect(runs.length).toBe(1)
})

test('however many callers come meanwhile, one more flush follows', async () => {
  const manual = new ManualFlush()
  const first = manual.flush.run()
  manual.version++
  const later = [manual.flush.run(), manual.flush.run()]
  manual.version++
  later.push(manual.flush.run())
  expect(manual.runs.length).toBe(1)
  manual.runs[0]!.resolve()
  await first
  await Promise.resolve()
  expect(manual.runs.length).toBe(2)
  manual.runs[1]!.resolve()
  await Promise.all(later)
  expect(manual.runs.length).toBe(2)
})

test('a failure reaches those who shared the flush, and the next flush runs', async () => {
  const manual = new ManualFlush()
  const first = manual.flush.run()
  manual.version++
  const second = manual.flush.run()
  const error = new Error('disk')
  manual.runs[0]!.reject(error)
  await expect(first).rejects.toBe(error)
  await Promise.resolve()
  manual.runs[1]!.resolve()
  await expect(second).resolves.toBeUndefined()
})

test('idle waits for running and waiting flushes, failed ones too', async () => {
  const manual = new ManualFlush()
  let isIdle = false
  const outcomes = [manual.flush.run()]
  manual.version++
  outcomes.push(manual.flush.run())
  const settled = Promise.allSettled(outcomes)
  const idle = manual.flush.idle().then(() => (isIdle = true))
  manual.runs[0]!.reject(new Error('disk'))
  await outcomes[0]!.catch(() => {})
  await new Promise((resolve) => setImmediate(resolve))
  expect(isIdle).toBe(false)
  manual.runs[1]!.resolve()
  await idle
  await settled
})
