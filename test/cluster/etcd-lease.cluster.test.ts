/**
 * The lease in etcd: at most one node has it, whatever becomes of etcd, of the way to it, and of the process that has it.
 *
 * Real: etcd, killed, stopped and started again; processes that are stopped and killed; connections that are cut. Its time to live is the shortest one.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../packages/core/src/base/clock.ts'
import { EtcdLease, type EtcdLeaseParts } from '../../packages/core/src/lease/etcd-lease.ts'
import type { Lease } from '../../packages/core/src/lease/lease.ts'
import { type LeaseFleet, leaseConformance } from '../../packages/core/src/lease/test-support/lease-conformance.ts'
import { holderOf, take, tryToTake } from '../../packages/core/src/lease/test-support/take-lease.ts'
import { until } from '../../packages/core/src/stream/test-support/until.ts'
import { NO_EPOCH } from '../../packages/core/src/position/epoch.ts'
import { EtcdServer } from '../support/etcd.ts'
import { freePort } from '../support/free-port.ts'
import { Wire } from '../support/link.ts'

const TTL_MS = 2_000
const HOLDER = path.join(import.meta.dirname, '../support/etcd-holder.ts')

let etcd: EtcdServer
let keys = 0
const leases: EtcdLease[] = []
const children: ChildProcess[] = []

beforeAll(async () => {
  etcd = await EtcdServer.start()
})
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  await Promise.all(leases.splice(0).map((lease) => lease.close()))
})
afterAll(() => etcd.close())

function nextKey(): string {
  return `test/${keys++}/primary`
}

function leaseOf(key: string, more: Partial<EtcdLeaseParts> = {}): EtcdLease {
  const lease = new EtcdLease({
    endpoints: [etcd.url],
    key,
    ttlMs: TTL_MS,
    clock: systemClock,
    random: Math.random,
    route: (address) => address,
    ...more,
  })
  leases.push(lease)
  return lease
}

/** Each node has a way of its own to etcd. */
async function startFleet(): Promise<LeaseFleet> {
  const key = nextKey()
  const spare = await Promise.all(Array.from({ length: 8 }, () => Wire.open({ host: '127.0.0.1', port: etcd.port })))
  const wires = [...spare]
  const ways = new Map<Lease, Wire>()
  return {
    join: (options = {}) => {
      const wire = spare.pop()!
      const lease = leaseOf(key, { ...options, route: () => wire.address })
      ways.set(lease, wire)
      return lease
    },
    expire: () => etcd.revokeLeases(),
    cutOff: (lease) => ways.get(lease)?.drop(),
    heal: () => wires.forEach((wire) => wire.heal()),
    [Symbol.asyncDispose]: async () => {
      for (const lease of ways.keys()) await lease.close()
      await Promise.all(wires.map((wire) => wire.close()))
    },
  }
}

leaseConformance('etcd', startFleet, { ttlMs: TTL_MS, canExpire: true, canBeCutOff: true })

describe('etcd', () => {
  test('killed and started again within the time to live, it costs nothing', async () => {
    const key = nextKey()
    const ttlMs = 6_000
    const held = await take(leaseOf(key, { ttlMs }), 'a')
    const other = leaseOf(key, { ttlMs })
    await etcd.kill()
    await expect(tryToTake(other, 'b')).rejects.toMatchObject({ code: 'LEASE_UNAVAILABLE' })
    await etcd.start()
    // Without the renewals after its return the time would be over by then.
    const endMs = performance.now() + ttlMs + 2_000
    while (performance.now() < endMs) {
      expect(held.isHeld(0)).toBe(true)
      expect(await tryToTake(other, 'b')).toEqual({ kind: 'taken', holder: holderOf('a') })
      await sleep(200)
    }
    expect(held.lost.aborted).toBe(false)
  })

  test('away for longer, it costs the office, and the next one has a larger epoch', async () => {
    const key = nextKey()
    const held = await take(leaseOf(key), 'a')
    await etcd.kill()
    await until(() => held.lost.aborted)
    expect(held.isHeld(0)).toBe(false)
    expect(held.lost.reason).toBe('its time is over')
    await etcd.start()
    const next = await take(leaseOf(key), 'b')
    expect(next.epoch).toBeGreaterThan(held.epoch)
    expect([held.isHeld(0), next.isHeld(0)]).toEqual([false, true])
  })

  test('that stands still answers nobody in time, and the lease ends', async () => {
    const key = nextKey()
    const held = await take(leaseOf(key), 'a')
    etcd.pause()
    try {
      const failure = await tryToTake(leaseOf(key), 'b').catch((error: unknown) => error)
      expect(failure).toMatchObject({ code: 'LEASE_UNAVAILABLE' })
      expect(String(failure)).toContain('no answer within')
      await until(() => held.lost.aborted)
      expect(held.isHeld(0)).toBe(false)
    } finally {
      etcd.resume()
    }
    await take(leaseOf(key), 'b')
  })

  test('whose key is deleted by hand: the node that had it loses it, and watches tell so', async () => {
    const key = nextKey()
    const held = await take(leaseOf(key), 'a')
    const told: (string | undefined)[] = []
    leaseOf(key).observe((holder) => told.push(holder?.name))
    await until(() => told.at(-1) === 'a')
    await etcd.delete(key)
    await until(() => held.lost.aborted)
    expect(held.lost.reason).toBe('its key was deleted')
    expect(held.isHeld(0)).toBe(false)
    await until(() => told.at(-1) === undefined)
  })

  test('whose key for the epoch holds something else is refused by name, and nothing is left behind', async () => {
    const key = nextKey()
    await etcd.put(`${key}/epoch`, 'seven')
    await expect(tryToTake(leaseOf(key), 'a')).rejects.toMatchObject({
      code: 'CORRUPT_DATA',
      details: { key: `${key}/epoch` },
    })
    await etcd.put(`${key}/epoch`, '9000000000')
    expect((await take(leaseOf(key), 'a')).epoch).toBe(9_000_000_001)
  })
})

describe('a node that does not get it leaves nothing behind in etcd', () => {
  test('when others are faster', async () => {
    await etcd.revokeLeases()
    const key = nextKey()
    const rivals = Array.from({ length: 6 }, (_value, i) => tryToTake(leaseOf(key), `n${i}`))
    expect((await Promise.all(rivals)).filter(({ kind }) => kind === 'held')).toHaveLength(1)
    expect(await etcd.leases()).toHaveLength(1)
  })

  test('when the answer is lost that it got it', async () => {
    const wires = [0, 1].map(() => Wire.open({ host: '127.0.0.1', port: etcd.port }))
    const [stale, fresh] = (await Promise.all(wires)) as [Wire, Wire]
    let route = stale.address
    const key = nextKey()
    const lease = leaseOf(key, { ttlMs: 600_000, route: () => route })
    // Read when the transaction is made.
    const self = {
      ...holderOf('a'),
      get hostname() {
        stale.hang('in')
        route = fresh.address
        return 'a'
      },
    }
    const signal = new AbortController().signal
    await expect(lease.acquire({ self, epochAbove: NO_EPOCH, signal })).rejects.toThrow('no answer within')
    expect(await etcd.read(`${key}/epoch`)).toMatch(/^\d+$/)
    expect((await tryToTake(leaseOf(key), 'b')).kind).toBe('held')
    await lease.close()
    await Promise.all([stale.close(), fresh.close()])
  })
})

describe('a process that has it', () => {
  async function startHolder(key: string) {
    const child = fork(HOLDER, [etcd.url, key, String(TTL_MS)], { execArgv: [] })
    children.push(child)
    const [message] = (await once(child, 'message')) as [{ epoch: number }]
    return { child, epoch: message.epoch }
  }

  test('and stood still for longer than its time sees at its first look that it has it no more', async () => {
    const key = nextKey()
    const { child, epoch } = await startHolder(key)
    const answer = once(child, 'message')
    child.send('stop yourself')
    const next = await take(leaseOf(key), 'b')
    expect(next.epoch).toBeGreaterThan(epoch)
    child.kill('SIGCONT')
    expect((await answer)[0]).toEqual({ before: true, after: false })
    expect(next.isHeld(0)).toBe(true)
  })

  test('and is killed is replaced when its time is over', async () => {
    const key = nextKey()
    const { child, epoch } = await startHolder(key)
    const exit = once(child, 'exit')
    child.kill('SIGKILL')
    await exit
    expect(await tryToTake(leaseOf(key), 'b')).toEqual({ kind: 'taken', holder: holderOf('holder') })
    expect((await take(leaseOf(key), 'b')).epoch).toBeGreaterThan(epoch)
  })
})

describe('a way to etcd', () => {
  test('that hangs is given up for a new one, and the lease is kept', async () => {
    const wires = [0, 1].map(() => Wire.open({ host: '127.0.0.1', port: etcd.port }))
    const [stale, fresh] = (await Promise.all(wires)) as [Wire, Wire]
    const ttlMs = 6_000
    let route = stale.address
    const held = await take(leaseOf(nextKey(), { ttlMs, route: () => route }), 'a')
    stale.hang('both')
    route = fresh.address
    const endMs = performance.now() + ttlMs + 1_000
    while (performance.now() < endMs) {
      expect(held.isHeld(0)).toBe(true)
      await sleep(50)
    }
    expect(fresh.connections).toBeGreaterThan(0)
    await Promise.all(leases.splice(0).map((lease) => lease.close()))
    await Promise.all([stale.close(), fresh.close()])
  })

  test('that leads nowhere is left for the next endpoint; when all do, the error names one and what to check', async () => {
    const nobody = `http://127.0.0.1:${await freePort()}`
    const key = nextKey()
    const held = await take(leaseOf(key, { endpoints: [nobody, etcd.url] }), 'a')
    expect(held.isHeld(0)).toBe(true)
    const failure = await tryToTake(leaseOf(key, { endpoints: [nobody] }), 'b').catch((error: unknown) => error)
    expect(failure).toMatchObject({ code: 'LEASE_UNAVAILABLE', details: { endpoint: nobody } })
    expect(String(failure)).toContain('lease.endpoints')
  })

  test('through TLS needs the authority of its certificate', async () => {
    await using secure = await EtcdServer.start({ tls: true })
    const endpoints = [secure.url]
    const key = nextKey()
    expect((await take(leaseOf(key, { endpoints, ca: secure.ca }), 'a')).isHeld(0)).toBe(true)
    const failure = await tryToTake(leaseOf(key, { endpoints }), 'b').catch((error: unknown) => error)
    expect(failure).toMatchObject({ code: 'LEASE_UNAVAILABLE' })
    expect(String(failure)).toContain('lease.caFile')
    await Promise.all(leases.splice(0).map((lease) => lease.close()))
  })

  test('with a name and a password: a wrong one is told, and a new token is asked for when the old one counts no more', async () => {
    await using guarded = await EtcdServer.start()
    const key = nextKey()
    await guarded.enableAuth('fleet', 'fleet-password', key)
    const user = { endpoints: [guarded.url], username: 'fleet', ttlMs: 10_000 }
    for (const wrong of [{ ...user, password: 'not-the-password' }, { endpoints: [guarded.url] }]) {
      const failure = await tryToTake(leaseOf(key, wrong), 'a').catch((error: unknown) => error)
      expect(failure).toMatchObject({ code: 'LEASE_UNAVAILABLE' })
      expect(String(failure)).toContain('lease.password')
      expect(String(failure)).not.toContain('not-the-password')
    }
    const password = 'fleet-password'
    await expect(tryToTake(leaseOf('elsewhere/primary', { ...user, password }), 'a')).rejects.toThrow(
      '"elsewhere/primary"',
    )
    const lease = leaseOf(key, { ...user, password })
    const held = await take(lease, 'a')
    await guarded.ask('auth/user/changepw', { name: 'fleet', password })
    await held.release()
    expect((await tryToTake(lease, 'a')).kind).toBe('held')
    await Promise.all(leases.splice(0).map((open) => open.close()))
  })
})
