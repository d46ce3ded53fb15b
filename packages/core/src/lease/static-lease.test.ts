import { afterEach, describe, expect, it } from 'vitest'
import { systemClock } from '../base/clock.ts'
import { type Epoch, epoch } from '../position/epoch.ts'
import { until } from '../stream/test-support/until.ts'
import type { LeaseHolder } from './lease-holder.ts'
import type { Lease } from './lease.ts'
import { createStaticLease } from './static-lease.ts'
import { leaseConformance } from './test-support/lease-conformance.ts'

const holder = (name: string, grpcAddress = '127.0.0.1:1'): LeaseHolder => ({
  hostname: name,
  advertiseUrl: 'http://127.0.0.1:2',
  name,
  nodeId: name,
  grpcAddress,
  region: '',
  protocol: 1,
})
const leases: Lease[] = []

afterEach(async () => {
  for (const lease of leases.splice(0)) await lease.close()
})

function primaryLease() {
  let last = 0
  const lease = createStaticLease({
    primary: true,
    clock: systemClock,
    epochs: { next: (above: Epoch) => Promise.resolve(epoch((last = Math.max(last, above) + 1))) },
    probe: () => Promise.reject(new Error('nobody asks')),
    random: () => 0.5,
  })
  leases.push(lease)
  return lease
}

function replicaLease(probe: (url: string) => Promise<LeaseHolder>, recheckMs = 5) {
  const lease = createStaticLease({
    primary: { url: 'http://p:1' },
    clock: systemClock,
    epochs: { next: () => Promise.reject(new Error('no epochs here')) },
    probe,
    random: () => 0.5,
    recheckMs,
  })
  leases.push(lease)
  return lease
}

const request = { self: holder('me'), epochAbove: epoch(0), signal: new AbortController().signal }

/** The first that joins is the primary; the others ask it who it is. */
leaseConformance(
  'static',
  () => {
    const primary = primaryLease()
    let found: LeaseHolder | undefined
    primary.observe((known) => (found = known))
    const answer = () => (found === undefined ? Promise.reject(new Error('down')) : Promise.resolve(found))
    const waiting = [primary]
    return Promise.resolve({
      join: () => waiting.shift() ?? replicaLease(answer),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    })
  },
  { candidates: 'first' },
)

describe('a static lease on the primary', () => {
  it('is held from the first attempt on, with an epoch above everything seen', async () => {
    const lease = primaryLease()
    const outcome = await lease.acquire({ ...request, epochAbove: epoch(41) })
    if (outcome.kind !== 'held') throw new Error('not held')
    expect(outcome.lease.epoch).toBe(42)
    expect(outcome.lease.isHeld(1e12)).toBe(true)
    expect((await lease.acquire(request)).kind).toBe('taken')
  })

  it('tells its own node who holds it, and when nobody does', async () => {
    const lease = primaryLease()
    const seen: (string | undefined)[] = []
    lease.observe((found) => seen.push(found?.name))
    const outcome = await lease.acquire(request)
    if (outcome.kind !== 'held') throw new Error('not held')
    await outcome.lease.release()
    await outcome.lease.release()
    expect(seen).toEqual([undefined, 'me', undefined])
    expect(outcome.lease.isHeld(0)).toBe(false)
    expect(outcome.lease.lost.aborted).toBe(true)
  })

  it('can be acquired again after its release, with a larger epoch, and the old one stays lost', async () => {
    const lease = primaryLease()
    const first = await lease.acquire(request)
    if (first.kind !== 'held') throw new Error('not held')
    await first.lease.release()
    const second = await lease.acquire(request)
    if (second.kind !== 'held') throw new Error('not held')
    expect(second.lease.epoch).toBeGreaterThan(first.lease.epoch)
    expect(first.lease.isHeld(0)).toBe(false)
    await lease.close()
    expect(second.lease.lost.aborted).toBe(true)
  })

  it('is not held when the epoch could not be made durable, and can be tried again', async () => {
    let failures = 1
    const lease = createStaticLease({
      primary: true,
      clock: systemClock,
      epochs: { next: () => (failures-- > 0 ? Promise.reject(new Error('disk full')) : Promise.resolve(epoch(1))) },
      probe: () => Promise.reject(new Error('nobody asks')),
      random: () => 0.5,
    })
    await expect(lease.acquire(request)).rejects.toThrow('disk full')
    expect((await lease.acquire(request)).kind).toBe('held')
  })
})

describe('a static lease on a replica', () => {
  it('is never held', async () => {
    const lease = replicaLease(() => Promise.resolve(holder('p')))
    expect(lease.isCandidate).toBe(false)
    expect((await lease.acquire(request)).kind).toBe('taken')
  })

  it('finds the primary when it answers, and again when it moved, and is told each once', async () => {
    const answers: (() => Promise<LeaseHolder>)[] = [
      () => Promise.reject(new Error('down')),
      () => Promise.resolve(holder('p', 'a:1')),
      () => Promise.resolve(holder('p', 'a:1')),
      () => Promise.reject(new Error('down')),
      () => Promise.resolve(holder('p', 'a:2')),
    ]
    let probes = 0
    const lease = replicaLease((url) => {
      expect(url).toBe('http://p:1')
      probes++
      return (answers.shift() ?? (() => Promise.resolve(holder('p', 'a:2'))))()
    })
    const seen: (string | undefined)[] = []
    lease.observe((found) => seen.push(found?.grpcAddress))
    await until(() => probes > 6)
    expect(seen).toEqual([undefined, 'a:1', 'a:2'])
  })

  it('looks again at once when asked to', async () => {
    let probes = 0
    const lease = replicaLease(() => (probes++, Promise.resolve(holder('p'))), 3_600_000)
    const observation = lease.observe(() => undefined)
    await until(() => probes === 1)
    await new Promise((resolve) => setImmediate(resolve))
    observation.refresh()
    await until(() => probes === 2)
  })

  it('stops asking when it is closed', async () => {
    let probes = 0
    const lease = replicaLease(() => (probes++, Promise.resolve(holder('p'))), 1)
    lease.observe(() => undefined)
    await until(() => probes > 1)
    await lease.close()
    const before = probes
    await new Promise((resolve) => setTimeout(resolve, 120))
    expect(probes).toBe(before)
  })
})
