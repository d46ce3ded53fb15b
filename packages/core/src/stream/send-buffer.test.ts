import { Writable } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { SendBuffer } from './send-buffer.ts'
import { ManualClock } from '../base/test-support/manual-clock.ts'
import { settle } from './test-support/until.ts'

/** A body that takes a write only when told to. */
function open(bytesMax = 100): {
  output: SendBuffer
  clock: ManualClock
  take: () => void
  body: Writable
  resets: number[]
} {
  const waiting: (() => void)[] = []
  const body = new Writable({ highWaterMark: 1, write: (_chunk, _encoding, done) => void waiting.push(done) })
  const clock = new ManualClock()
  const resets: number[] = []
  const reset = (): void => {
    resets.push(clock.monotonicMs())
    body.destroy()
  }
  const output = new SendBuffer({ body, reset, bytesMax, stallTimeoutMs: 60_000, clock })
  return { output, clock, take: () => waiting.shift()?.(), body, resets }
}

test('there is room until the bound, then when enough was taken', async () => {
  const { output, take } = open()
  expect(output.room(60)).toBeUndefined()
  output.write(Buffer.alloc(60))
  expect(output.room(40)).toBeUndefined()
  output.write(Buffer.alloc(40))
  let hasRoom = false
  const room = Promise.resolve(output.room(70)).then(() => {
    hasRoom = true
  })
  take()
  await settle()
  expect([hasRoom, output.unsentBytes]).toEqual([false, 40])
  take()
  await room
  expect([output.unsentBytes, output.mostUnsentBytes, output.sentBytes]).toEqual([0, 100, 100])
})

test('one piece beyond the bound goes out alone', () => {
  const { output } = open()
  expect(output.room(500)).toBeUndefined()
  output.write(Buffer.alloc(500))
  expect(output.room(1)).toBeInstanceOf(Promise)
})

describe('a peer that takes nothing', () => {
  test('is cut off after the stall timeout, and the waiting sender told', async () => {
    const { output, clock, resets } = open()
    output.write(Buffer.alloc(100))
    const room = expect(output.room(1)).rejects.toMatchObject({ code: 'STREAM_FAILED' })
    clock.advance(60_000)
    await room
    expect(resets).toEqual([60_000])
    expect(() => output.write(Buffer.alloc(1))).toThrow()
    expect(output.closed.aborted).toBe(true)
  })

  test('is not cut off as long as it takes something now and then', async () => {
    const { output, clock, take, resets } = open()
    for (let i = 0; i < 5; i++) output.write(Buffer.alloc(10))
    for (let i = 0; i < 4; i++) {
      clock.advance(50_000)
      take()
      await settle()
    }
    expect(resets).toEqual([])
    clock.advance(60_000)
    expect(resets).toEqual([260_000])
  })

  test('is not cut off when nothing waits for it', async () => {
    const { output, clock, take, resets } = open()
    output.write(Buffer.alloc(10))
    take()
    await settle()
    clock.advance(600_000)
    output.write(Buffer.alloc(10))
    clock.advance(59_000)
    expect(resets).toEqual([])
    clock.advance(1000)
    expect(resets).toHaveLength(1)
  })

  test('is cut off although the body was ended', async () => {
    const { output, clock, resets } = open()
    output.end(Buffer.alloc(4))
    clock.advance(60_000)
    expect(resets).toHaveLength(1)
  })
})

test('a peer that leaves wakes the sender and stops the timer', async () => {
  const { output, clock, body } = open()
  output.write(Buffer.alloc(100))
  const room = expect(output.room(1)).rejects.toMatchObject({ code: 'STREAM_FAILED' })
  body.destroy()
  await room
  expect(clock.timerCount).toBe(0)
  output.end(Buffer.alloc(4)) // too late, and harmless
  expect(() => output.room(1)).toThrow()
})
