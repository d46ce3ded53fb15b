import { afterEach, describe, expect, it } from 'vitest'
import { systemClock } from '../base/clock.ts'
import { epoch, NO_EPOCH } from '../position/epoch.ts'
import { until } from '../stream/test-support/until.ts'
import type { LeaseHolder } from '../lease/lease-holder.ts'
import type { AcquireOutcome, HeldLease, Lease } from '../lease/lease.ts'
import { Leadership, type LeadershipParts } from './leadership.ts'

const holder = (name: string): LeaseHolder => ({
  hostname: name,
  name,
  advertiseUrl: '',
  grpcAddress: `${name}:1`,
  nodeId: name,
  region: '',
  protocol: 1,
})

/** A lease the test gives and takes. */
class TestLease implements Lease {
  readonly kind = 'static'
  readonly ttlMs = 0
  readonly isCandidate: boolean
  readonly #listeners = new Set<(found: LeaseHolder | undefined) => void>()
  isFree = true
  remainingMs = 1e9
  acquisitions = 0
  releases = 0
  refreshes = 0
  #lost: AbortController | undefined

  constructor(isCandidate = true) {
    this.isCandidate = isCandidate
  }

  acquire(): Promise<AcquireOutcome> {
    if (!this.isFree) return Promise.resolve({ kind: 'taken', holder: undefined })
    this.isFree = false
    this.acquisitions++
    const lost = new AbortController()
    this.#lost = lost
    const lease: HeldLease = {
      epoch: epoch(this.acquisitions),
      lastOffice: NO_EPOCH,
      recordOffice: () => Promise.resolve(),
      lost: lost.signal,
      isHeld: (marginMs) => !lost.signal.aborted && this.remainingMs > marginMs,
      release: () => {
        this.releases++
        lost.abort()
        this.isFree = true
        return Promise.resolve()
      },
    }
    return Promise.resolve({ kind: 'held', lease })
  }

  observe(listener: (found: LeaseHolder | undefined) => void) {
    this.#listeners.add(listener)
    listener(undefined)
    return { refresh: () => void this.refreshes++, stop: () => void this.#listeners.delete(listener) }
  }

  tell(found: LeaseHolder | undefined): void {
    for (const listener of this.#listeners) listener(found)
  }

  take(): void {
    this.#lost?.abort()
  }

  close(): Promise<void> {
    return Promise.resolve()
  }
}

const open: Leadership[] = []

afterEach(async () => {
  for (const leadership of open.splice(0)) await leadership.close()
})

function setup(lease = new TestLease(), more: Partial<LeadershipParts> = {}) {
  const log: string[] = []
  const failures: unknown[] = []
  const leadership = new Leadership({
    lease,
    clock: systemClock,
    options: { marginMs: 500, retryMinMs: 2, retryMaxMs: 10 },
    random: () => 0.5,
    self: () => holder('me'),
    newestEpoch: () => epoch(0),
    takeOffice: () => (log.push('take'), Promise.resolve()),
    leaveOffice: () => (log.push('leave'), Promise.resolve()),
    onFailure: (error) => failures.push(error),
    ...more,
  })
  open.push(leadership)
  leadership.onChange((role) => log.push(role.kind))
  return { lease, leadership, log, failures }
}

const soon = (): number => systemClock.monotonicMs() + 30
const later = (): number => systemClock.monotonicMs() + 60_000
const code = (expected: string) => expect.objectContaining({ code: expected })

describe('on the way up', () => {
  it('a candidate that wins the lease prepares, then takes office', async () => {
    const { leadership, log } = setup()
    expect(leadership.role).toEqual({ kind: 'detached', reason: 'starting' })
    leadership.open()
    await until(() => leadership.isPrimary)
    expect(log).toEqual(['candidate', 'take', 'primary'])
    leadership.requirePrimary()
    expect(leadership.epoch).toBe(1)
    expect(leadership.primary()).toMatchObject({ name: 'me', isSelf: true })
  })

  it('is not primary before the preparation is done', async () => {
    const prepared = Promise.withResolvers<void>()
    const { leadership } = setup(undefined, { takeOffice: () => prepared.promise })
    leadership.open()
    await until(() => leadership.role.kind === 'candidate')
    expect(leadership.isPrimary).toBe(false)
    expect(() => leadership.requirePrimary()).toThrow(code('NOT_PRIMARY'))
    expect(leadership.primary()).toBeUndefined()
    prepared.resolve()
    await until(() => leadership.isPrimary)
  })

  it('tells who waits for a primary in vain what keeps this node from being one, as long as it does', async () => {
    let isFull = true
    const { leadership } = setup(undefined, {
      takeOffice: () => (isFull ? Promise.reject(new Error('the disk is full')) : Promise.resolve()),
    })
    leadership.open()
    await expect(leadership.waitForPrimary(soon())).rejects.toThrow(/NO_PRIMARY.*the disk is full/)
    isFull = false
    await leadership.waitForPrimary(later())
  })

  it('gives the lease back when the preparation fails, and tries again', async () => {
    let attempts = 0
    const { lease, leadership, log, failures } = setup(undefined, {
      takeOffice: () => (++attempts < 3 ? Promise.reject(new Error('not ready')) : Promise.resolve()),
    })
    leadership.open()
    await until(() => leadership.isPrimary)
    expect([lease.releases, failures.length]).toEqual([2, 2])
    expect(log.slice(0, 3)).toEqual(['candidate', 'detached', 'leave'])
  })

  it('does not take office when the lease is lost while it prepares', async () => {
    const prepared = Promise.withResolvers<void>()
    let aborted = false
    const { lease, leadership, log } = setup(undefined, {
      takeOffice: (_, signal) => {
        signal.addEventListener('abort', () => {
          aborted = true
        })
        return prepared.promise
      },
    })
    leadership.open()
    await until(() => leadership.role.kind === 'candidate')
    lease.isFree = false
    lease.take()
    expect(leadership.role).toEqual({ kind: 'detached', reason: 'lease-lost' })
    expect(aborted).toBe(true)
    prepared.resolve()
    await until(() => log.includes('leave'))
    expect(log).not.toContain('primary')
  })

  it('stands again when a lease that another node had becomes free', async () => {
    const lease = new TestLease()
    lease.isFree = false
    const { leadership, failures } = setup(lease)
    leadership.open()
    lease.tell(holder('other'))
    expect(leadership.role.kind).toBe('replica')
    lease.isFree = true
    lease.tell(undefined)
    await until(() => leadership.isPrimary)
    expect(failures).toEqual([])
  })
})

describe('on the way down', () => {
  it('nothing is admitted from the moment the lease ends within the margin, noticed or not', async () => {
    const { lease, leadership } = setup()
    leadership.open()
    await until(() => leadership.isPrimary)
    lease.remainingMs = 500
    expect(leadership.isPrimary).toBe(false)
    expect(() => leadership.requirePrimary()).toThrow(
      expect.objectContaining({
        code: 'NOT_PRIMARY',
        details: { node: 'me', reason: 'lease-lost', primary: undefined },
      }),
    )
    expect(leadership.primary()).toBeUndefined()
  })

  it('the role changes first, then work ends, then the lease is given back', async () => {
    const order: string[] = []
    const left = Promise.withResolvers<void>()
    const lease = new TestLease()
    const { leadership } = setup(lease, { leaveOffice: () => (order.push('leave'), left.promise) })
    leadership.onChange((role) => order.push(role.kind))
    leadership.open()
    await until(() => leadership.isPrimary)
    const closing = leadership.close()
    expect(leadership.role.kind).toBe('closed')
    await until(() => order.includes('leave'))
    expect(order).toEqual(['candidate', 'primary', 'closed', 'leave'])
    expect(lease.releases).toBe(0)
    left.resolve()
    await closing
    expect(lease.releases).toBe(1)
    await leadership.close()
  })

  it('ends with the lease, with another primary, and with a diverged history', async () => {
    const { lease, leadership, log } = setup()
    leadership.open()
    await until(() => leadership.isPrimary)
    lease.take()
    expect(leadership.role).toEqual({ kind: 'detached', reason: 'lease-lost' })
    await until(() => leadership.isPrimary)
    leadership.historyDiverged()
    expect(leadership.role).toEqual({ kind: 'detached', reason: 'history-diverged' })
    await until(() => leadership.isPrimary)
    lease.tell(holder('other'))
    expect(leadership.role).toMatchObject({ kind: 'replica', primary: { name: 'other', isSelf: false } })
    await until(() => log.filter((entry) => entry === 'leave').length === 3)
  })
})

describe('handing off', () => {
  const inOffice = async () => {
    const parts = setup()
    parts.leadership.open()
    await until(() => parts.leadership.isPrimary)
    parts.log.splice(0)
    return parts
  }

  it('admits nothing, goes on committing until the other one is ready, leaves office, and resolves with who is next', async () => {
    const { lease, leadership, log } = await inOffice()
    const ready = Promise.withResolvers<void>()
    const handing = leadership.handOff('other', () => ready.promise, 5_000)
    expect(leadership.role).toMatchObject({ kind: 'handing-off', to: 'other' })
    expect([leadership.isPrimary, leadership.isInOffice, leadership.epoch]).toEqual([false, true, 1])
    expect(() => leadership.requirePrimary()).toThrow(
      expect.objectContaining({ code: 'NOT_PRIMARY', details: expect.objectContaining({ reason: 'handing-off' }) }),
    )
    leadership.requireOffice()
    expect(lease.releases).toBe(0)
    ready.resolve()
    await until(() => lease.releases === 1)
    expect(log).toEqual(['handing-off', 'detached', 'leave'])
    expect(leadership.role).toEqual({ kind: 'detached', reason: 'handed-off' })
    lease.isFree = false
    lease.tell(holder('other'))
    expect((await handing).name).toBe('other')
  })

  it('leaves the lease to the other one, also when that is slow', async () => {
    const { lease, leadership } = await inOffice()
    const handing = leadership.handOff('other', () => Promise.resolve(), 150)
    await until(() => lease.releases === 1)
    lease.tell(undefined)
    await new Promise((resolve) => setTimeout(resolve, 60))
    expect(lease.acquisitions).toBe(1)
    // Nobody took it: this node stands again.
    await expect(handing).rejects.toThrow(/NO_PRIMARY|HANDOFF_FAILED.*"other" did not take it/)
    await until(() => leadership.isPrimary)
    expect(leadership.epoch).toBe(2)
  })

  it('stays in the same office when the other one cannot', async () => {
    const { lease, leadership, log } = await inOffice()
    const failing = leadership.handOff('other', () => Promise.reject(new Error('too slow')), 5_000)
    await expect(failing).rejects.toThrow('too slow')
    expect([leadership.isPrimary, leadership.epoch, lease.releases]).toEqual([true, 1, 0])
    expect(log).toEqual(['handing-off', 'primary'])
  })

  it('does not take the office back when the lease was lost meanwhile', async () => {
    const { lease, leadership } = await inOffice()
    const failing = leadership.handOff('other', () => (lease.take(), Promise.reject(new Error('too slow'))), 5_000)
    await expect(failing).rejects.toThrow('too slow')
    expect(leadership.role).toEqual({ kind: 'detached', reason: 'handed-off' })
  })

  it('is refused by a node that is not the primary', async () => {
    const { leadership } = setup(new TestLease(false))
    leadership.open()
    await expect(leadership.handOff('other', () => Promise.resolve(), 100)).rejects.toThrow(code('NOT_PRIMARY'))
  })

  it('others leave the lease alone for a while, and no longer than until somebody has it', async () => {
    const lease = new TestLease()
    lease.isFree = false
    const { leadership } = setup(lease)
    leadership.open()
    lease.tell(holder('a'))
    await new Promise((resolve) => setTimeout(resolve, 5))
    leadership.standBack(60_000)
    lease.isFree = true
    lease.tell(undefined)
    await new Promise((resolve) => setTimeout(resolve, 40))
    expect(lease.acquisitions).toBe(0)
    lease.tell(holder('b'))
    lease.tell(undefined)
    await until(() => leadership.isPrimary)
  })

  it('whoever is asked to stand does so at once', async () => {
    const lease = new TestLease()
    lease.isFree = false
    const { leadership } = setup(lease, { options: { marginMs: 500, retryMinMs: 60_000, retryMaxMs: 60_000 } })
    leadership.open()
    leadership.standBack(60_000)
    await new Promise((resolve) => setTimeout(resolve, 10))
    lease.isFree = true
    leadership.standNow()
    await until(() => leadership.isPrimary)
  })
})

describe('a lease that a LiteFS primary hands over', () => {
  const offer = { leaseId: 'session-1', from: 'http://litefs:20202' }

  class OfferedLease extends TestLease {
    readonly taken: string[] = []

    takeOver(leaseId: string): Promise<AcquireOutcome> {
      this.taken.push(leaseId)
      return this.acquire()
    }
  }

  it('is taken over at once, though its giver is still named as the primary', async () => {
    const lease = new OfferedLease()
    lease.isFree = false
    const terms: unknown[] = []
    const { leadership, log } = setup(lease, { takeOffice: ({ givenBy }) => (terms.push(givenBy), Promise.resolve()) })
    leadership.open()
    lease.tell(holder('litefs'))
    await until(() => leadership.role.kind === 'replica')
    lease.isFree = true
    leadership.takeOver(offer)
    await until(() => leadership.isPrimary)
    expect(log).toEqual(['replica', 'candidate', 'primary'])
    expect(lease.taken).toEqual(['session-1'])
    expect(terms).toEqual([offer.from])
  })

  it('is good for one attempt', async () => {
    const lease = new OfferedLease()
    lease.isFree = false
    const { leadership } = setup(lease)
    leadership.open()
    leadership.takeOver(offer)
    await until(() => lease.taken.length === 1)
    lease.isFree = true
    leadership.standNow()
    await until(() => leadership.isPrimary)
    expect(lease.taken).toEqual(['session-1'])
  })
})

describe('superseded by a candidate with a newer lease', () => {
  it('an older office ends, and that is awaited', async () => {
    const left = Promise.withResolvers<void>()
    const { lease, leadership } = setup(undefined, { leaveOffice: () => left.promise })
    leadership.open()
    await until(() => leadership.isPrimary)
    lease.isFree = false
    let isOver = false
    const superseded = leadership.supersede(epoch(2)).then(() => (isOver = true))
    expect(leadership.role).toEqual({ kind: 'detached', reason: 'lease-lost' })
    await new Promise((resolve) => setTimeout(resolve, 5))
    expect(isOver).toBe(false)
    left.resolve()
    await superseded
  })

  it('a newer one goes on', async () => {
    const { leadership } = setup()
    leadership.open()
    await until(() => leadership.isPrimary)
    await leadership.supersede(epoch(1))
    expect(leadership.isPrimary).toBe(true)
  })

  it('a candidate that prepares is stopped', async () => {
    const { lease, leadership } = setup(undefined, {
      takeOffice: (_, signal) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => reject(new Error('stopped')))
        }),
    })
    leadership.open()
    await until(() => leadership.role.kind === 'candidate')
    lease.isFree = false
    await leadership.supersede(epoch(2))
    expect(leadership.role.kind).toBe('detached')
  })
})

describe('following', () => {
  it('a node that cannot be primary follows who is, and never stands', () => {
    const { lease, leadership, log } = setup(new TestLease(false))
    leadership.open()
    lease.tell(holder('a'))
    lease.tell(holder('a'))
    lease.tell(holder('b'))
    lease.tell(undefined)
    expect(log).toEqual(['replica', 'replica', 'detached'])
    expect(leadership.role).toEqual({ kind: 'detached', reason: 'no-primary' })
    expect(lease.acquisitions).toBe(0)
  })

  it('says who is primary and why this node is not', () => {
    const { lease, leadership } = setup(new TestLease(false))
    leadership.open()
    lease.tell(holder('a'))
    expect(leadership.notPrimary()).toMatchObject({
      code: 'NOT_PRIMARY',
      details: { reason: 'moved', primary: { name: 'a', grpcAddress: 'a:1' } },
    })
  })

  it('does not take news about itself for another primary', async () => {
    const { lease, leadership } = setup()
    leadership.open()
    await until(() => leadership.isPrimary)
    lease.tell(holder('me'))
    expect(leadership.isPrimary).toBe(true)
  })

  it('does not follow itself while a lease of its earlier process runs out', () => {
    const { lease, leadership } = setup(new TestLease(false))
    leadership.open()
    lease.tell(holder('other'))
    lease.tell({ ...holder('me'), nodeId: 'the process before' })
    expect(leadership.role).toEqual({ kind: 'detached', reason: 'no-primary' })
  })

  it('passes a doubt on to the lease', () => {
    const { lease, leadership } = setup(new TestLease(false))
    leadership.open()
    leadership.refresh()
    expect(lease.refreshes).toBe(1)
  })
})

describe('waiting for a primary', () => {
  it('ends when there is one, whoever it is', async () => {
    const { lease, leadership } = setup(new TestLease(false))
    leadership.open()
    const waiting = [
      leadership.waitForPrimary(later()),
      leadership.waitForPrimary(later(), new AbortController().signal),
    ]
    lease.tell(holder('a'))
    expect((await Promise.all(waiting)).map((primary) => primary.name)).toEqual(['a', 'a'])
    expect((await leadership.waitForPrimary(0)).name).toBe('a')
    const { leadership: candidate } = setup()
    candidate.open()
    expect((await candidate.waitForPrimary(later())).isSelf).toBe(true)
  })

  it('ends at the deadline, with the signal, and at the close', async () => {
    const { leadership } = setup(new TestLease(false))
    leadership.open()
    await expect(leadership.waitForPrimary(soon())).rejects.toThrow(code('NO_PRIMARY'))
    await expect(leadership.waitForPrimary(0)).rejects.toThrow(code('NO_PRIMARY'))
    const abort = new AbortController()
    const waiting = [leadership.waitForPrimary(later(), abort.signal), leadership.waitForPrimary(later())].map((wait) =>
      wait.catch((error: unknown) => error),
    )
    abort.abort()
    expect(await waiting[0]).toMatchObject({ code: 'CLOSED' })
    await expect(leadership.waitForPrimary(later(), abort.signal)).rejects.toThrow(code('CLOSED'))
    await leadership.close()
    expect(await waiting[1]).toMatchObject({ code: 'CLOSED' })
    await expect(leadership.waitForPrimary(later())).rejects.toThrow(code('CLOSED'))
  })
})
