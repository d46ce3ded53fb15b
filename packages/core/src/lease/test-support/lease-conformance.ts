/**
 * The contract of a lease (lease.ts), asked of a backend. A fleet makes leases that compete for the same office, each as a node of
 * its own would have it. What backends differ in are traits; a promise that a backend cannot make is not asked of it.
 */
import { describe, expect, test } from 'vitest'
import { epoch, NO_EPOCH } from '../../position/epoch.ts'
import { settle, until } from '../../stream/test-support/until.ts'
import type { HeldLease, Lease } from '../lease.ts'
import { holderOf, take, tryToTake } from './take-lease.ts'

export interface LeaseFleet extends AsyncDisposable {
  /** A lease of one more node. */
  join(options?: { readonly isCandidate?: boolean }): Lease
  /** Ends the holder's time at the backend, which tells it no earlier than it tells others. Needed with `canExpire`. */
  expire?(): Promise<void>
  /** The node of this lease cannot reach the backend until `heal`. Needed with `canBeCutOff`. */
  cutOff?(lease: Lease): void
  heal?(): void
}

export interface LeaseTraits {
  /** Who may hold it. `first`: the first that joins, and no other, whatever it does. Default: any. */
  readonly candidates?: 'any' | 'first'
  /** It runs out by itself after this time. Default: it never does. */
  readonly ttlMs?: number
  readonly canExpire?: boolean
  readonly canBeCutOff?: boolean
}

/** Registers the tests of a backend. */
export function leaseConformance(name: string, start: () => Promise<LeaseFleet>, traits: LeaseTraits = {}): void {
  describe(`${name} keeps the contract of a lease:`, () => {
    oneHolder(start, traits)
    if (traits.candidates !== 'first') severalCandidates(start)
    if (traits.canExpire === true) expiry(start)
    if (traits.canBeCutOff === true) lostContact(start)
  })
}

/** What is true of every backend. */
function oneHolder(start: () => Promise<LeaseFleet>, { ttlMs }: LeaseTraits): void {
  test('its own node cannot have it twice', async () => {
    await using fleet = await start()
    const a = fleet.join()
    const held = await take(a, 'a')
    expect(held.isHeld(0)).toBe(true)
    expect(held.lost.aborted).toBe(false)
    expect((await tryToTake(a, 'a')).kind).toBe('taken')
    expect(held.isHeld(0)).toBe(true)
  })

  test('a margin counts where time does', async () => {
    await using fleet = await start()
    const held = await take(fleet.join(), 'a')
    expect(held.isHeld(ttlMs ?? Number.MAX_SAFE_INTEGER)).toBe(ttlMs === undefined)
  })

  test('released, it is lost at once and once, and not held when that is told', async () => {
    await using fleet = await start()
    const a = fleet.join()
    const held = await take(a, 'a')
    const told = heldWhenLost(held)
    await held.release()
    await held.release()
    expect(told).toEqual([false])
    const again = await take(a, 'a')
    expect(again.epoch).toBeGreaterThan(held.epoch)
    await held.release()
    expect([held.isHeld(0), again.isHeld(0)]).toEqual([false, true])
  })

  test('who watches is told what is known at once and then of the holder once, however often it asks; its own node too', async () => {
    await using fleet = await start()
    const leases = [fleet.join(), fleet.join({ isCandidate: false })]
    const watched = watch(leases)
    expect(watched.told).toEqual([[undefined], [undefined]])
    await take(leases[0]!, 'a')
    await watched.until([undefined, 'a'])
    for (let i = 0; i < 200; i++) watched.refresh()
    await settle()
    watched.expect([undefined, 'a'])
    const late = watch([leases[1]!])
    await until(() => late.told[0]!.at(-1) === 'a')
    expect(late.told[0]!.filter((name) => name === 'a')).toHaveLength(1)
  })

  test('a node that is no candidate never has it', async () => {
    await using fleet = await start()
    fleet.join()
    const watcher = fleet.join({ isCandidate: false })
    expect(watcher.isCandidate).toBe(false)
    expect((await tryToTake(watcher, 'watcher')).kind).toBe('taken')
  })

  test('closing ends what is held, and all observations', async () => {
    await using fleet = await start()
    const a = fleet.join()
    const watched = watch([a])
    const held = await take(a, 'a')
    const told = heldWhenLost(held)
    await a.close()
    await a.close()
    expect(told).toEqual([false])
    expect(held.isHeld(0)).toBe(false)
    const known = watched.told[0]!.length
    watched.refresh()
    await settle()
    expect(watched.told[0]).toHaveLength(known)
    watched.stop()
  })
}

function severalCandidates(start: () => Promise<LeaseFleet>): void {
  test('one node has it, the others are told who', async () => {
    await using fleet = await start()
    const [a, b, c] = [fleet.join(), fleet.join(), fleet.join({ isCandidate: false })]
    const held = await take(a, 'a')
    for (const other of [b, c])
      expect(await tryToTake(other, 'other')).toEqual({ kind: 'taken', holder: holderOf('a') })
    expect(held.isHeld(0)).toBe(true)
  })

  test('of many that try at once exactly one gets it', async () => {
    await using fleet = await start()
    const leases = Array.from({ length: 8 }, () => fleet.join())
    for (let round = 0; round < 3; round++) {
      const outcomes = await Promise.all(leases.map((lease, i) => tryToTake(lease, `n${i}`)))
      const held = outcomes.flatMap((outcome) => (outcome.kind === 'held' ? [outcome.lease] : []))
      expect(held).toHaveLength(1)
      await held[0]!.release()
    }
  })

  test('released or closed, another node may have it at once', async () => {
    await using fleet = await start()
    const [a, b, c] = [fleet.join(), fleet.join(), fleet.join()]
    const held = await take(a, 'a')
    await held.release()
    expect((await tryToTake(b, 'b')).kind).toBe('held')
    await held.release()
    expect((await tryToTake(a, 'a')).kind).toBe('taken')
    await b.close()
    expect((await tryToTake(c, 'c')).kind).toBe('held')
  })

  test('who is closed while it tries does not keep it', async () => {
    await using fleet = await start()
    const [a, b] = [fleet.join(), fleet.join()]
    const trying = tryToTake(a, 'a').catch(() => undefined)
    await a.close()
    const outcome = await trying
    if (outcome?.kind === 'held') expect(outcome.lease.isHeld(0)).toBe(false)
    await take(b, 'b')
  })

  test('each time in office has a larger epoch than all before, whoever it is, and than all it has seen', async () => {
    await using fleet = await start()
    const leases = [fleet.join(), fleet.join()]
    let newest = 0
    for (let i = 0; i < 6; i++) {
      // The third comes from a cluster whose epochs were the wall clock.
      const above = epoch(i === 3 ? newest + 1_700_000_000_000 : 0)
      const held = await take(leases[i % 2]!, `n${i % 2}`, above)
      expect(held.epoch).toBeGreaterThan(Math.max(newest, above))
      newest = held.epoch
      await held.release()
    }
  })

  test('who has it knows who was in office last, not who only had it', async () => {
    await using fleet = await start()
    const leases = [fleet.join(), fleet.join()]
    let office = NO_EPOCH
    for (let i = 0; i < 6; i++) {
      const held = await take(leases[i % 2]!, `n${i % 2}`)
      expect(held.lastOffice).toBe(office)
      if (i % 3 !== 1) {
        await held.recordOffice()
        office = held.epoch
      }
      await held.release()
      await expect(held.recordOffice()).rejects.toMatchObject({ code: 'NOT_PRIMARY' })
    }
  })

  test('which cluster it is is said once, and the same to all', async () => {
    await using fleet = await start()
    const [a, b] = [fleet.join(), fleet.join()]
    const { signal } = new AbortController()
    const [first, second] = ['LFSC00000000000000AA', 'LFSC00000000000000BB']
    expect(await a.clusterId?.read(signal)).toBeUndefined()
    expect(await a.clusterId?.found(first, signal)).toBe(first)
    expect(await b.clusterId?.found(second, signal)).toBe(first)
    expect(await b.clusterId?.read(signal)).toBe(first)
  })

  test('who watches is told of each change, never twice the same in a row', async () => {
    await using fleet = await start()
    const [a, b] = [fleet.join(), fleet.join({ isCandidate: false })]
    const watched = watch([a, b])
    const first = await take(a, 'a')
    watched.refresh()
    await watched.until([undefined, 'a'])
    await first.release()
    await watched.until([undefined, 'a', undefined])
    await take(a, 'a again')
    await watched.until([undefined, 'a', undefined, 'a again'])
    watched.stop()
    await a.close()
    await settle()
    watched.expect([undefined, 'a', undefined, 'a again'])
  })
}

function expiry(start: () => Promise<LeaseFleet>): void {
  test('ended by the backend, it is lost once, and the next one has a larger epoch', async () => {
    await using fleet = await start()
    const [a, b] = [fleet.join(), fleet.join()]
    const held = await take(a, 'a')
    const told = heldWhenLost(held)
    await fleet.expire!()
    await until(() => held.lost.aborted)
    const next = await take(b, 'b')
    expect(next.epoch).toBeGreaterThan(held.epoch)
    await held.release()
    expect(told).toEqual([false])
    expect([held.isHeld(0), next.isHeld(0)]).toEqual([false, true])
  })
}

function lostContact(start: () => Promise<LeaseFleet>): void {
  test('without contact it is held until its time is over; then another node has it, and the old one never again', async () => {
    await using fleet = await start()
    const [a, b] = [fleet.join(), fleet.join()]
    const held = await take(a, 'a')
    const told = heldWhenLost(held)
    fleet.cutOff!(a)
    await expect(tryToTake(a, 'a')).resolves.toMatchObject({ kind: 'taken' })
    expect(held.isHeld(0)).toBe(true)
    const next = await take(b, 'b')
    expect(held.isHeld(0)).toBe(false)
    await until(() => held.lost.aborted)
    fleet.heal!()
    expect(next.epoch).toBeGreaterThan(held.epoch)
    await until(() => told.length > 0)
    expect(told).toEqual([false])
    expect([held.isHeld(0), next.isHeld(0)]).toEqual([false, true])
  })

  test('who cannot reach the backend is told so by name, and watches go on when it can', async () => {
    await using fleet = await start()
    const [a, b] = [fleet.join(), fleet.join()]
    const watched = watch([b])
    await take(a, 'a')
    await watched.until([undefined, 'a'])
    fleet.cutOff!(b)
    const refused = tryToTake(b, 'b')
    await expect(refused).rejects.toMatchObject({ code: 'LEASE_UNAVAILABLE' })
    await a.close()
    watched.expect([undefined, 'a'])
    fleet.heal!()
    await watched.until([undefined, 'a', undefined])
    await take(b, 'b')
  })
}

/** What `isHeld` answered each time the loss was told. */
function heldWhenLost(held: HeldLease): readonly boolean[] {
  const told: boolean[] = []
  held.lost.addEventListener('abort', () => told.push(held.isHeld(0)))
  return told
}

/** Names of holders, as they were told to one watcher of each lease. */
function watch(leases: readonly Lease[]) {
  const told: (string | undefined)[][] = leases.map(() => [])
  const observations = leases.map((lease, i) => lease.observe((holder) => told[i]!.push(holder?.name)))
  const all = (names: readonly (string | undefined)[]) => leases.map(() => names)
  return {
    told,
    refresh: () => observations.forEach((observation) => observation.refresh()),
    stop: () => observations.forEach((observation) => observation.stop()),
    expect: (names: readonly (string | undefined)[]) => expect(told).toEqual(all(names)),
    /** The test's own timeout bounds it. */
    until: (names: readonly (string | undefined)[]) => until(() => JSON.stringify(told) === JSON.stringify(all(names))),
  }
}
