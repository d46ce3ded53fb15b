/**
 * The contract of a lease (lease.ts), asked of a backend that can be held by one node after another. A fleet makes leases that
 * compete for the same office, each as a node of its own would have it.
 */
import { expect, test } from 'vitest'
import { epoch } from '../../position/epoch.ts'
import { until } from '../../stream/test-support/until.ts'
import type { Lease } from '../lease.ts'
import { holderOf, take, tryToTake } from './take-lease.ts'

export interface LeaseFleet extends AsyncDisposable {
  /** A lease of one more node. */
  join(options?: { readonly isCandidate?: boolean }): Lease
}

export function leaseConformance(start: () => Promise<LeaseFleet>): void {
  test('one node has it, the others are told who', async () => {
    await using fleet = await start()
    const [a, b, c] = [fleet.join(), fleet.join(), fleet.join()]
    const held = await take(a, 'a')
    expect(held.isHeld(0)).toBe(true)
    expect(held.lost.aborted).toBe(false)
    for (const other of [b, c])
      expect(await tryToTake(other, 'other')).toEqual({ kind: 'taken', holder: holderOf('a') })
    expect((await tryToTake(a, 'a')).kind).toBe('taken')
    expect(held.isHeld(0)).toBe(true)
  })

  test('of many that try at once exactly one gets it', async () => {
    await using fleet = await start()
    const leases = Array.from({ length: 8 }, () => fleet.join())
    const outcomes = await Promise.all(leases.map((lease, i) => tryToTake(lease, `n${i}`)))
    expect(outcomes.filter(({ kind }) => kind === 'held')).toHaveLength(1)
  })

  test('released, it is lost at once, once, and another node may have it', async () => {
    await using fleet = await start()
    const [a, b] = [fleet.join(), fleet.join()]
    const held = await take(a, 'a')
    const heldWhenTold: boolean[] = []
    held.lost.addEventListener('abort', () => heldWhenTold.push(held.isHeld(0)))
    await held.release()
    expect((await tryToTake(b, 'b')).kind).toBe('held')
    await held.release()
    expect(heldWhenTold).toEqual([false])
    expect(held.isHeld(0)).toBe(false)
    expect((await tryToTake(a, 'a')).kind).toBe('taken')
  })

  test('each time in office has a larger epoch than all before, whoever it is, and than all it has seen', async () => {
    await using fleet = await start()
    const leases = [fleet.join(), fleet.join()]
    let newest = 0
    for (let i = 0; i < 6; i++) {
      const above = epoch(i === 3 ? newest + 1_000_000 : 0)
      const held = await take(leases[i % 2]!, `n${i % 2}`, above)
      expect(held.epoch).toBeGreaterThan(Math.max(newest, above))
      newest = held.epoch
      await held.release()
    }
  })

  test('who watches is told what is known at once, and then of changes only, the holder too', async () => {
    await using fleet = await start()
    const [a, b] = [fleet.join(), fleet.join({ isCandidate: false })]
    const told: (string | undefined)[][] = [[], []]
    const observations = [a, b].map((lease, i) => lease.observe((holder) => told[i]!.push(holder?.name)))
    const all = (...names: (string | undefined)[]) =>
      until(() => JSON.stringify(told) === JSON.stringify([names, names]))
    await all(undefined)
    const first = await take(a, 'a')
    for (const observation of observations) observation.refresh()
    await all(undefined, 'a')
    await first.release()
    await all(undefined, 'a', undefined)
    await take(a, 'a again')
    await all(undefined, 'a', undefined, 'a again')
    for (const observation of observations) {
      observation.refresh()
      observation.stop()
    }
    await a.close()
    expect(told[1]).toEqual([undefined, 'a', undefined, 'a again'])
  })

  test('a node that is no candidate never has it', async () => {
    await using fleet = await start()
    const watcher = fleet.join({ isCandidate: false })
    expect(watcher.isCandidate).toBe(false)
    expect((await tryToTake(watcher, 'watcher')).kind).toBe('taken')
  })

  test('closing gives it back', async () => {
    await using fleet = await start()
    const [a, b] = [fleet.join(), fleet.join()]
    const held = await take(a, 'a')
    await a.close()
    await a.close()
    expect(held.lost.aborted).toBe(true)
    expect(held.isHeld(0)).toBe(false)
    await take(b, 'b')
  })
}
