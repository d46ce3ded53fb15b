import { describe, expect, it } from 'vitest'
import { ManualClock } from '../base/test-support/manual-clock.ts'
import { type Checksum, checksum } from './checksum.ts'
import { epoch } from './epoch.ts'
import type { Position } from './position.ts'
import { PositionTracker, type TrackedPosition } from './position-tracker.ts'
import { txid } from './txid.ts'

const at = (number: number): Position => ({ txid: txid(BigInt(number)), checksum: checksumOf(number) })
const checksumOf = (number: number): Checksum => checksum((1n << 63n) | BigInt(number * 7))
const tracked = (number: number): TrackedPosition => ({ position: at(number), epoch: epoch(1) })

function start(options: { readonly initial?: number; readonly waitersMax?: number } = {}) {
  const clock = new ManualClock()
  const tracker = new PositionTracker({
    database: 'app.db',
    clock,
    initial: tracked(options.initial ?? 5),
    epochAt: () => epoch(1),
    checksumAt: (asked) => (asked >= 3n ? checksumOf(Number(asked)) : undefined),
    waitersMax: options.waitersMax,
  })
  return { clock, tracker }
}

describe('PositionTracker', () => {
  it('answers at once for a position that was passed', async () => {
    await expect(start().tracker.waitFor(at(4), 0)).resolves.toBeUndefined()
  })

  it('wakes exactly the waiters that an advance passed, in whatever order they came', async () => {
    const { tracker } = start()
    const woken: number[] = []
    const waits = [9, 6, 8, 7].map((number) => tracker.waitFor(at(number), 1000).then(() => woken.push(number)))
    tracker.advance([tracked(6), tracked(7)])
    await Promise.all([waits[1], waits[3]])
    expect(woken.toSorted((a, b) => a - b)).toEqual([6, 7])
    tracker.advance([tracked(8), tracked(9)])
    await Promise.all(waits)
    expect(woken).toHaveLength(4)
  })

  it('tells a waiter that history parted, whether it waits or asks late', async () => {
    const { tracker } = start()
    const other: Position = { txid: txid(7n), checksum: checksumOf(99) }
    const waiting = tracker.waitFor(other, 1000)
    tracker.advance([tracked(6), tracked(7), tracked(8)])
    await expect(waiting).rejects.toMatchObject({ code: 'POSITION_DIVERGED' })
    await expect(tracker.waitFor(other, 1000)).rejects.toMatchObject({ code: 'POSITION_DIVERGED' })
  })

  it('accepts a position older than the log remembers', async () => {
    await expect(start().tracker.waitFor({ txid: txid(1n), checksum: checksumOf(50) }, 0)).resolves.toBeUndefined()
  })

  it('does not take a position of another epoch for its own, though the log has forgotten its own there', async () => {
    const { tracker } = start()
    const old: Position = { txid: txid(1n), checksum: checksumOf(50) }
    await expect(tracker.waitFor(old, 0, epoch(2))).rejects.toMatchObject({ code: 'POSITION_DIVERGED' })
    await expect(tracker.waitFor(old, 0, epoch(1))).resolves.toBeUndefined()
  })

  it('ends each wait at its own deadline', async () => {
    const { clock, tracker } = start()
    const now = clock.monotonicMs()
    const late = tracker.waitFor(at(9), now + 300)
    const soon = tracker.waitFor(at(8), now + 100)
    clock.advance(150)
    await expect(soon).rejects.toMatchObject({ code: 'WAIT_TIMEOUT', details: { current: expect.any(String) } })
    tracker.advance([tracked(9)])
    await expect(late).resolves.toBeUndefined()
  })

  it('refuses one waiter too many', async () => {
    const { tracker } = start({ waitersMax: 1 })
    const first = tracker.waitFor(at(6), 1000)
    await expect(tracker.waitFor(at(6), 1000)).rejects.toMatchObject({ code: 'WAIT_TIMEOUT' })
    tracker.advance([tracked(6)])
    await first
  })

  it('the next advance ends nextAdvance, and closing ends everything', async () => {
    const { tracker } = start()
    const next = tracker.nextAdvance(1000)
    tracker.advance([tracked(6)])
    await expect(next).resolves.toBeUndefined()
    const waiting = tracker.waitFor(at(9), 1000)
    tracker.close()
    await expect(waiting).rejects.toMatchObject({ code: 'CLOSED' })
    await expect(tracker.waitFor(at(6), 1000)).rejects.toMatchObject({ code: 'CLOSED' })
  })

  it('tells listeners every position, until they stop', () => {
    const { tracker } = start()
    const heard: bigint[] = []
    const stop = tracker.onAdvance((positions) => heard.push(...positions.map(({ position }) => position.txid)))
    tracker.advance([tracked(6), tracked(7)])
    stop()
    tracker.advance([tracked(8)])
    expect(heard).toEqual([6n, 7n])
  })
})
