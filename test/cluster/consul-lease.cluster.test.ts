/**
 * The lease in Consul: at most one node has it, whatever becomes of Consul, of the way to it, and of the process that has it; and keys and sessions
 * are those of LiteFS 0.5.14, so that both may stand in one election.
 *
 * Real: Consul (1.14), killed and started again; processes that are stopped; connections that are cut. Its time to live is the shortest one that Consul
 * takes, 10 s. What LiteFS writes is written by hand here; the real one takes part in test/interop.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../packages/core/src/base/clock.ts'
import { ConsulLease, type ConsulLeaseParts } from '../../packages/core/src/lease/consul-lease.ts'
import { parseConsulUrl } from '../../packages/core/src/lease/consul-url.ts'
import type { HeldLease, Lease } from '../../packages/core/src/lease/lease.ts'
import { NO_EPOCH } from '../../packages/core/src/position/epoch.ts'
import { type LeaseFleet, leaseConformance } from '../../packages/core/src/lease/test-support/lease-conformance.ts'
import { holderOf, take, tryToTake } from '../../packages/core/src/lease/test-support/take-lease.ts'
import { until } from '../../packages/core/src/stream/test-support/until.ts'
import { ConsulServer } from '../support/consul.ts'
import { CONSUL, isBuilt } from '../support/go-programs.ts'
import { Wire } from '../support/link.ts'

const TTL_MS = 10_000
const HOLDER = path.join(import.meta.dirname, '../support/consul-holder.ts')
const LITEFS_HOLDER = '{"hostname":"fly-1","advertise-url":"http://fly-1:20202"}'

let consul: ConsulServer
let keys = 0
const leases: ConsulLease[] = []
const children: ChildProcess[] = []

beforeAll(async () => {
  if (isBuilt(CONSUL)) consul = await ConsulServer.start()
})
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  await Promise.all(leases.splice(0).map((lease) => lease.close()))
})
afterAll(() => consul?.close())

function nextKey(): string {
  return `test/${keys++}/primary`
}

function leaseOf(key: string, more: Partial<ConsulLeaseParts> = {}, url = consul.url): ConsulLease {
  const lease = new ConsulLease({
    address: parseConsulUrl(url, 'test', 'url'),
    key,
    ttlMs: TTL_MS,
    lockDelayMs: 0,
    clock: systemClock,
    random: Math.random,
    route: (address) => address,
    ...more,
  })
  leases.push(lease)
  return lease
}

/** Each node has a way of its own to Consul. */
async function startFleet(): Promise<LeaseFleet> {
  const key = nextKey()
  const spare = await Promise.all(Array.from({ length: 8 }, () => Wire.open({ host: '127.0.0.1', port: consul.port })))
  const wires = [...spare]
  const ways = new Map<Lease, Wire>()
  return {
    join: (options = {}) => {
      const wire = spare.pop()!
      const lease = leaseOf(key, { ...options, route: () => wire.address })
      ways.set(lease, wire)
      return lease
    },
    expire: () => consul.destroySessions(),
    cutOff: (lease) => ways.get(lease)?.drop(),
    heal: () => wires.forEach((wire) => wire.heal()),
    [Symbol.asyncDispose]: async () => {
      for (const lease of ways.keys()) await lease.close()
      await Promise.all(wires.map((wire) => wire.close()))
    },
  }
}

describe.skipIf(!isBuilt(CONSUL))('with a real Consul', () => {
  leaseConformance('consul', startFleet, { ttlMs: TTL_MS, canExpire: true, canBeCutOff: true })

  describe('in one election with LiteFS', () => {
    test('key, value and session are as LiteFS has them', async () => {
      const held = await take(leaseOf('litefs/primary', { lockDelayMs: 1_000 }), 'gru')
      const key = await consul.get('litefs/primary')
      expect(JSON.parse(key!.text)).toMatchObject({
        hostname: 'gru',
        'advertise-url': 'http://gru:4200',
        grpc: 'gru:4201',
      })
      const session = (await consul.sessions()).find(({ ID }) => ID === key?.Session)
      expect(session).toMatchObject({
        Name: 'litefs',
        Behavior: 'delete',
        TTL: '10s',
        LockDelay: 1_000_000_000,
        Node: 'test',
      })
      expect(session!['NodeChecks'] ?? []).toEqual([])
      await held.release()
      // LiteFS takes an empty value for nobody.
      expect((await consul.get('litefs/primary'))?.text ?? '').toBe('')
      expect(await consul.sessions()).toEqual([])
    })

    test('a LiteFS node that has it is seen, with what it says; nobody else gets it', async () => {
      const key = nextKey()
      const { ID } = (await consul.ask(
        'PUT',
        'session/create',
        '{"Name":"litefs","TTL":"10s","Behavior":"delete","NodeChecks":[]}',
      )) as { ID: string }
      await consul.ask('PUT', `kv/${key}?acquire=${ID}`, LITEFS_HOLDER)
      const lease = leaseOf(key)
      const seen: unknown[] = []
      lease.observe((holder) => seen.push(holder))
      await until(() => seen.length === 2)
      const holder = { hostname: 'fly-1', advertiseUrl: 'http://fly-1:20202', grpcAddress: undefined, name: 'fly-1' }
      expect(seen[1]).toMatchObject(holder)
      expect(await tryToTake(lease, 'gru')).toMatchObject({ kind: 'taken', holder })
      await consul.ask('PUT', `kv/${key}?release=${ID}`, '')
      await consul.ask('PUT', `session/destroy/${ID}`)
      expect((await take(lease, 'gru')).epoch).toBeGreaterThan(0)
    })

    /** A session as LiteFS has it, with the key. */
    async function liteFsHolds(key: string, ttl = '10s'): Promise<string> {
      const request = { Name: 'litefs', TTL: ttl, Behavior: 'delete', LockDelay: '1s', NodeChecks: [] }
      const { ID } = (await consul.ask('PUT', 'session/create', JSON.stringify(request))) as { ID: string }
      await consul.ask('PUT', `kv/${key}?acquire=${ID}`, LITEFS_HOLDER)
      return ID
    }

    function takeOver(lease: ConsulLease, session: string): ReturnType<ConsulLease['takeOver']> {
      return lease.takeOver(session, {
        self: holderOf('gru'),
        epochAbove: NO_EPOCH,
        signal: new AbortController().signal,
      })
    }

    test('the session of a LiteFS primary is gone on with, under a new epoch; its time to live counts', async () => {
      const key = nextKey()
      const before = await take(leaseOf(key), 'a')
      await before.release()
      const session = await liteFsHolds(key)
      const outcome = await takeOver(leaseOf(key, { ttlMs: 600_000 }), session)
      if (outcome.kind !== 'held') throw new Error('not held')
      expect(outcome.lease.epoch).toBeGreaterThan(before.epoch)
      expect(outcome.lease.isHeld(9_000)).toBe(true)
      expect(outcome.lease.isHeld(10_000)).toBe(false)
      const found = await consul.get(key)
      expect(found).toMatchObject({ Session: session, text: expect.stringContaining('"hostname":"gru"') })
      await outcome.lease.release()
      expect((await consul.get(key))?.Session).toBeUndefined()
    })

    test('a session that is over, or does not have the key, is not gone on with', async () => {
      const key = nextKey()
      const over = await liteFsHolds(key)
      await consul.ask('PUT', `session/destroy/${over}`)
      expect(await takeOver(leaseOf(key), over)).toEqual({ kind: 'taken', holder: undefined })
      const elsewhere = await liteFsHolds(nextKey())
      const held = await take(leaseOf(key), 'a')
      expect(await takeOver(leaseOf(key), elsewhere)).toMatchObject({ kind: 'taken', holder: { name: 'a' } })
      expect(held.isHeld(0)).toBe(true)
    })

    test('one that is declined is anybody’s at once', async () => {
      const key = nextKey()
      const lease = leaseOf(key)
      await lease.decline(await liteFsHolds(key))
      expect(await tryToTake(leaseOf(key), 'b')).toMatchObject({ kind: 'held' })
    })

    test('a lease that is handed over to LiteFS stays when this node lets go of it, and does not when nobody took it', async () => {
      const key = nextKey()
      const held = await take(leaseOf(key), 'a')
      expect(await held.handOver?.(() => false)).toBe(false)
      let session = ''
      expect(await held.handOver?.((id) => ((session = id), true))).toBe(true)
      await held.release()
      expect(held.isHeld(0)).toBe(false)
      expect((await consul.get(key))?.Session).toBe(session)
      const other = await take(leaseOf(nextKey()), 'b')
      await other.handOver?.(() => false)
      await other.release()
      await expect(other.handOver!(() => true)).rejects.toMatchObject({ code: 'NOT_PRIMARY' })
    })

    test('the cluster id of LiteFS is read, and never replaced', async () => {
      const key = nextKey()
      await consul.put(`${key}/clusterid`, 'LFSC0123456789ABCDEF\n')
      const { signal } = new AbortController()
      const { clusterId } = leaseOf(key)
      expect(await clusterId.read(signal)).toBe('LFSC0123456789ABCDEF')
      expect(await clusterId.found('LFSC00000000000000AA', signal)).toBe('LFSC0123456789ABCDEF')
    })

    test('with a prefix, keys stand below it and sessions belong to a node of its own', async () => {
      const held = await take(leaseOf('primary', {}, `${consul.url}/app-7`), 'gru')
      const key = await consul.get('app-7/primary')
      expect(key?.text).toContain('"hostname":"gru"')
      const session = (await consul.sessions()).find(({ ID }) => ID === key?.Session)
      expect(session).toMatchObject({ Node: 'app-7/litefs' })
      expect(await consul.ask('GET', 'catalog/nodes')).toEqual(
        expect.arrayContaining([expect.objectContaining({ Node: 'app-7/litefs', Address: 'localhost' })]),
      )
      await held.release()
    })
  })

  describe('a holder that does not renew any more', () => {
    async function cutOff(key: string): Promise<{ held: HeldLease; wire: Wire }> {
      const wire = await Wire.open({ host: '127.0.0.1', port: consul.port })
      const held = await take(leaseOf(key, { route: () => wire.address }), 'a')
      wire.drop()
      return { held, wire }
    }

    test('is replaced by a candidate that watches it when its own time is over, long before Consul would', async () => {
      const [watched, unwatched] = [await cutOff(nextKey()), await cutOff(nextKey())]
      const unwatchedKey = `test/${keys - 1}/primary`
      const candidate = leaseOf(`test/${keys - 2}/primary`, { lockDelayMs: 15_000 })
      const told: (string | undefined)[] = []
      candidate.observe((holder) => told.push(holder?.name))
      // The lock delay, too, is for those that Consul ends.
      const next = await take(candidate, 'b')
      expect(watched.held.isHeld(0)).toBe(false)
      expect(next.epoch).toBeGreaterThan(watched.held.epoch)
      expect(told.slice(0, 3)).toEqual([undefined, 'a', undefined])
      expect(await consul.get(unwatchedKey)).toMatchObject({ text: expect.stringContaining('"a"') })
      await Promise.all([watched.wire.close(), unwatched.wire.close()])
    })

    test('is left to Consul when it is a LiteFS node, though it goes on with a session of ours', async () => {
      const key = nextKey()
      const held = await take(leaseOf(key), 'a')
      let session = ''
      await held.handOver?.((id) => ((session = id), true))
      await held.release()
      await consul.ask('PUT', `kv/${key}?acquire=${session}`, LITEFS_HOLDER)
      leaseOf(key).observe(() => undefined)
      for (let second = 0; second < 12; second++) {
        await sleep(1_000)
        await consul.ask('PUT', `session/renew/${session}`)
      }
      expect(await consul.get(key)).toMatchObject({ Session: session, text: LITEFS_HOLDER })
    })
  })

  describe('Consul', () => {
    test('killed and started again within the time to live, it costs nothing', async () => {
      const key = nextKey()
      const held = await take(leaseOf(key), 'a')
      const other = leaseOf(key)
      await consul.kill()
      await expect(tryToTake(other, 'b')).rejects.toMatchObject({ code: 'LEASE_UNAVAILABLE' })
      await consul.start()
      // Without the renewals after its return the time would be over by then.
      const endMs = performance.now() + TTL_MS + 2_000
      while (performance.now() < endMs) {
        expect(held.isHeld(0)).toBe(true)
        await sleep(200)
      }
      expect(await tryToTake(other, 'b')).toMatchObject({ kind: 'taken' })
    })

    test('away for longer, it costs the office', async () => {
      const held = await take(leaseOf(nextKey()), 'a')
      await consul.kill()
      try {
        await until(() => held.lost.aborted)
        expect(held.isHeld(0)).toBe(false)
        expect(held.lost.reason).toBe('its time is over')
      } finally {
        await consul.start()
      }
    })

    test('whose key is deleted by hand: the node that had it loses it, and watches tell so', async () => {
      const key = nextKey()
      const held = await take(leaseOf(key), 'a')
      const told: (string | undefined)[] = []
      leaseOf(key).observe((holder) => told.push(holder?.name))
      await until(() => told.at(-1) === 'a')
      await consul.delete(key)
      await until(() => held.lost.aborted)
      expect(held.isHeld(0)).toBe(false)
      await until(() => told.at(-1) === undefined)
    })

    test('whose key for the epoch holds something else is refused by name, and nothing is left behind', async () => {
      await consul.destroySessions()
      const key = nextKey()
      await consul.put(`${key}/epoch`, 'seven')
      const refused = tryToTake(leaseOf(key), 'a')
      await expect(refused).rejects.toMatchObject({ code: 'CORRUPT_DATA', details: { key: `${key}/epoch` } })
      expect(await consul.sessions()).toEqual([])
      await consul.put(`${key}/epoch`, '9000000000')
      expect((await take(leaseOf(key), 'a')).epoch).toBe(9_000_000_001)
    })

    test('leaves the key alone for the lock delay after a holder died, and no longer', async () => {
      const key = nextKey()
      const held = await take(leaseOf(key, { lockDelayMs: 1_500 }), 'a')
      await consul.destroySessions()
      await until(() => held.lost.aborted)
      const next = leaseOf(key, { lockDelayMs: 300 })
      expect(await tryToTake(next, 'b')).toEqual({ kind: 'taken', holder: undefined })
      await take(next, 'b')
      expect((await consul.sessions()).length).toBe(1)
    })

    test('that asks for a token refuses a wrong one by what is missing, without showing it', async () => {
      await using guarded = await ConsulServer.start({ rootToken: '11111111-2222-3333-4444-555555555555' })
      const wrong = guarded.url.replace('//', '//:a-wrong-secret@')
      const failure = await tryToTake(leaseOf(nextKey(), {}, wrong), 'a').catch((error: unknown) => error)
      expect(failure).toMatchObject({ code: 'LEASE_UNAVAILABLE', details: { status: 403 } })
      expect(String(failure)).toContain('Give the token of lease.url write')
      expect(JSON.stringify(failure) + String(failure)).not.toContain('a-wrong-secret')
      // A token that may read, and open sessions, and not write the key: that is no lost race.
      const rules =
        'key_prefix "" { policy = "read" } session_prefix "" { policy = "write" } node_prefix "" { policy = "read" }'
      await guarded.ask('PUT', 'acl/policy', JSON.stringify({ Name: 'reader', Rules: rules }))
      const made = await guarded.ask('PUT', 'acl/token', JSON.stringify({ Policies: [{ Name: 'reader' }] }))
      const reader = guarded.url.replace('//', `//:${(made as { SecretID: string }).SecretID}@`)
      await expect(tryToTake(leaseOf(nextKey(), {}, reader), 'a')).rejects.toMatchObject({
        code: 'LEASE_UNAVAILABLE',
        details: { status: 403 },
      })
      const right = guarded.url.replace('//', '//:11111111-2222-3333-4444-555555555555@')
      await take(leaseOf(nextKey(), {}, right), 'a')
    })
  })

  test('a process that has it and stood still for longer than its time sees at its first look that it has it no more', async () => {
    const key = nextKey()
    const child = fork(HOLDER, [consul.url, key], { execArgv: [] })
    children.push(child)
    const [{ epoch }] = (await once(child, 'message')) as [{ epoch: number }]
    const answer = once(child, 'message')
    child.send('stop yourself')
    // Consul lets it live up to twice as long as it promised.
    const next = await take(leaseOf(key), 'b')
    expect(next.epoch).toBeGreaterThan(epoch)
    child.kill('SIGCONT')
    expect((await answer)[0]).toEqual({ before: true, after: false })
    expect(next.isHeld(0)).toBe(true)
  })

  test('the holder of another node is told by name', async () => {
    const key = nextKey()
    await take(leaseOf(key), 'a')
    expect(await tryToTake(leaseOf(key), 'b')).toEqual({ kind: 'taken', holder: holderOf('a') })
  })
})
