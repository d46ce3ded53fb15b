/**
 * Forwarding between nodes over loopback. The primary here is a ledger and no database: it remembers ids and answers.
 */
import * as fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { systemClock } from '../base/clock.ts'
import { ClusterError, isClusterError } from '../errors/cluster-error.ts'
import { checksum } from '../position/checksum.ts'
import { epoch } from '../position/epoch.ts'
import { txid } from '../position/txid.ts'
import { makeSqliteError } from '../sqlite/sqlite-error.ts'
import { until } from '../stream/test-support/until.ts'
import { plainValues } from './test-support/generated-values.ts'
import { TcpLink } from './test-support/tcp-link.ts'
import { TestLedger } from './test-support/test-ledger.ts'
import { echo, primaryAt, procedureCall, TestNode, type TestNodeOptions, writeCall } from './test-support/test-node.ts'
import { TestNodes } from './test-support/test-nodes.ts'
import type { ExecuteHere, WriteAnswer, WriteCall, WriteContext } from './write-call.ts'

const nodes = new TestNodes()

afterEach(() => nodes.close())

const code = (expected: string) => expect.objectContaining({ code: expected })
const valueOf = (answer: WriteAnswer): unknown => answer.result.kind === 'procedure' && answer.result.value
const POSITION = { txid: txid(9n), checksum: checksum((1n << 63n) | 9n) }

describe('a forwarded write', () => {
  it('gets its own answer, however many are under way and in whatever order they are answered', async () => {
    let seed = 1
    const execute: ExecuteHere = async (call) => {
      seed = (seed * 48_271) % 2_147_483_647
      for (let turns = seed % 4; turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve))
      return echo(call)
    }
    const { replica } = await nodes.pair({ execute })
    const inputs = Array.from({ length: 5_000 }, (_, i) => ({ i }))
    const answers = await Promise.all(
      inputs.map((input) => replica.forwarder.write(procedureCall(input, { timeoutMs: 25_000 }))),
    )
    expect(answers.map(valueOf)).toEqual(inputs)
  })

  it('carries every value exactly', async () => {
    const { replica } = await nodes.pair()
    await fc.assert(
      fc.asyncProperty(plainValues, async (value) => {
        expect(valueOf(await replica.forwarder.write(procedureCall(value, { timeoutMs: 20_000 })))).toStrictEqual(value)
      }),
    )
  })

  it('has an id of its own, keeps one it was given, and a local one needs none', async () => {
    const ledger = new TestLedger()
    const { primary, replica } = await nodes.pair({ execute: ledger.execute })
    const [a, b] = await Promise.all([1, 2].map((value) => replica.forwarder.write(procedureCall(value))))
    expect(a?.requestId).toMatch(/^[0-9a-f]{32}$/)
    expect(a?.requestId).not.toBe(b?.requestId)
    const given = a?.requestId
    expect(await replica.forwarder.write(procedureCall(1, { requestId: given }))).toMatchObject({
      requestId: given,
      replayed: true,
    })
    expect((await primary.forwarder.write(procedureCall(3))).requestId).toBeUndefined()
  })

  it('tells the primary who asks, the level and the key, and leaves it less time than the caller has', async () => {
    const seen: { call: WriteCall; context: WriteContext; leftMs: number }[] = []
    const execute: ExecuteHere = (call, context) => {
      seen.push({ call, context, leftMs: context.deadlineMs - systemClock.monotonicMs() })
      return Promise.resolve(echo(call))
    }
    const { replica } = await nodes.pair({ execute }, { region: 'gru' })
    await replica.forwarder.write(procedureCall(1, { timeoutMs: 60_000, await: { replicas: 2 }, idempotencyKey: 'k' }))
    await replica.forwarder.write(procedureCall(1, { timeoutMs: 1_000 }))
    expect(seen[0]?.context.origin).toMatchObject({ kind: 'peer', nodeName: 'replica', region: 'gru' })
    expect(seen[0]?.call).toMatchObject({ await: { replicas: 2 }, idempotencyKey: 'k' })
    expect(seen[0]?.leftMs).toBeLessThanOrEqual(59_750)
    expect(seen[1]?.leftMs).toBeLessThanOrEqual(900)
    expect(seen[1]?.call.timeoutMs).toBeLessThanOrEqual(900)
  })

  it('meets the same errors as a local one', async () => {
    const thrown: unknown[] = [
      makeSqliteError('SQLITE_CONSTRAINT_CHECK', 'CHECK constraint failed: cents'),
      Object.assign(new RangeError('too much'), { code: 'LIMIT' }),
      new ClusterError('WRITE_QUEUE_FULL', 'full', { details: { retryAfterMs: 5 }, hint: 'Later.' }),
      new ClusterError('ANSWER_DROPPED', 'gone'),
    ]
    const { primary, replica } = await nodes.pair({
      execute: (call) => Promise.reject(thrown[Number(valueOf(echo(call)))]),
    })
    for (const i of thrown.keys()) {
      const local: unknown = await primary.forwarder.write(procedureCall(i)).catch((error: unknown) => error)
      const remote: unknown = await replica.forwarder.write(procedureCall(i)).catch((error: unknown) => error)
      // Only what left its node has an id.
      const requestId = (remote as Partial<ClusterError>).details?.['requestId']
      expect(remote).toStrictEqual(isClusterError(local) ? local.withDetails({ requestId }) : local)
      expect((remote as Error).constructor).toBe((local as Error).constructor)
    }
  })

  it('with a value that cannot cross is refused before it is sent', async () => {
    const { replica } = await nodes.pair()
    await expect(replica.forwarder.write(procedureCall(new Map()))).rejects.toThrow(code('INVALID_REQUEST'))
  })

  it('whose answer is too large for a channel is reported as applied', async () => {
    const execute: ExecuteHere = (call) => {
      const value = 'x'.repeat(Number(valueOf(echo(call))))
      return Promise.resolve({ ...echo(call), result: { kind: 'procedure', value } })
    }
    const { replica } = await nodes.pair({ execute, peer: { messageBytesMax: 10_000 } })
    await expect(replica.forwarder.write(procedureCall(20_000))).rejects.toMatchObject({
      code: 'ANSWER_DROPPED',
      outcome: 'applied',
    })
    await expect(replica.forwarder.write(procedureCall(9_000))).resolves.toBeDefined()
  })
})

describe('visibility on the calling node', () => {
  const atPosition: ExecuteHere = (call) => Promise.resolve({ ...echo(call), position: POSITION, epoch: epoch(3) })

  it('is awaited for every level but "none", at the position of the answer', async () => {
    const awaited: unknown[] = []
    const awaitLocal: TestNodeOptions['awaitLocal'] = (database, { position, epoch }) => (
      awaited.push([database, position, epoch]), Promise.resolve()
    )
    const { replica } = await nodes.pair({ execute: atPosition }, { awaitLocal })
    await replica.forwarder.write(procedureCall(1, { await: 'none' }))
    expect(awaited).toEqual([])
    expect((await replica.forwarder.write(procedureCall(1, { await: 'local' }))).level).toBe('local')
    expect((await replica.forwarder.write(procedureCall(1, { await: 'all' }))).level).toBe('none')
    expect(awaited).toEqual([
      ['app.db', POSITION, 3],
      ['app.db', POSITION, 3],
    ])
  })

  it('that does not come in time is NOT_YET_VISIBLE with result and position, and nothing runs again', async () => {
    const ledger = new TestLedger()
    const execute: ExecuteHere = async (call, context) => ({
      ...(await ledger.execute(call, context)),
      position: POSITION,
      epoch: epoch(3),
    })
    const awaitLocal = () => Promise.reject(new ClusterError('WAIT_TIMEOUT', 'late'))
    const { replica } = await nodes.pair({ execute }, { awaitLocal })
    const error = await replica.forwarder
      .write(procedureCall('v', { await: 'local' }))
      .catch((reason: unknown) => reason)
    expect(error).toMatchObject({
      code: 'NOT_YET_VISIBLE',
      outcome: 'applied',
      details: {
        result: { kind: 'procedure', value: 'v' },
        position: POSITION,
        epoch: 3,
        level: 'none',
        requestId: ledger.calls[0]?.requestId,
      },
    })
    expect(ledger.calls.length).toBe(1)
  })

  it('is not awaited by the primary itself', async () => {
    const { primary } = await nodes.pair({
      execute: atPosition,
      awaitLocal: () => Promise.reject(new Error('nobody waits here')),
    })
    await expect(primary.forwarder.write(procedureCall(1, { await: 'local' }))).resolves.toBeDefined()
  })
})

describe('finding the primary', () => {
  it('waits for one until the deadline', async () => {
    const { primary, replica } = await nodes.pair()
    replica.leadership.set(undefined)
    await expect(replica.forwarder.write(procedureCall(1, { timeoutMs: 30 }))).rejects.toMatchObject({
      code: 'NO_PRIMARY',
      outcome: 'not-applied',
    })
    const write = replica.forwarder.write(procedureCall(1))
    replica.follow(primary)
    expect(valueOf(await write)).toBe(1)
  })

  it('waits for one that cannot be reached, then says NO_PRIMARY, not applied', async () => {
    const { replica } = await nodes.pair()
    replica.leadership.set(primaryAt('127.0.0.1:1', 'ghost'))
    await expect(replica.forwarder.write(procedureCall(1, { timeoutMs: 100 }))).rejects.toMatchObject({
      code: 'NO_PRIMARY',
      outcome: 'not-applied',
    })
    expect(replica.leadership.refreshes).toBeGreaterThan(0)
  })

  it('follows the hint of a node that is not the primary any more', async () => {
    const ledger = new TestLedger()
    const { primary } = await nodes.pair({ execute: ledger.execute })
    const old = (await nodes.start({ name: 'old' })).follow(primary)
    const replica = (await nodes.start({ name: 'asker' })).follow(old)
    expect(valueOf(await replica.forwarder.write(procedureCall(1)))).toBe(1)
    expect(ledger.calls.length).toBe(1)
  })

  it('does not pass a request on, and asks again while two nodes name each other', async () => {
    const a = await nodes.start({ name: 'a' })
    const b = (await nodes.start({ name: 'b' })).follow(a)
    a.follow(b)
    const replica = (await nodes.start({ name: 'asker' })).follow(a)
    const write = replica.forwarder.write(procedureCall(1, { timeoutMs: 20_000 }))
    await until(() => replica.leadership.refreshes > 2)
    expect(a.peers.peek(b.address)).toBeUndefined()
    expect(b.peers.peek(a.address)).toBeUndefined()
    a.leadership.set('primary')
    expect(valueOf(await write)).toBe(1)
  })

  it('goes to the new primary when the old one lost its office, this node included', async () => {
    const ledger = new TestLedger()
    const { primary, replica } = await nodes.pair({}, { execute: ledger.execute })
    primary.leadership.set(undefined)
    const write = replica.forwarder.write(procedureCall(7))
    await until(() => replica.leadership.refreshes > 0)
    replica.leadership.set('primary')
    expect(valueOf(await write)).toBe(7)
    expect(ledger.calls[0]?.requestId).toBeDefined()
  })

  it('forwards a local write whose node lost the office before it began', async () => {
    const { primary } = await nodes.pair()
    const loser: TestNode = await nodes.start({
      name: 'loser',
      execute: () => {
        loser.follow(primary)
        return Promise.reject(loser.leadership.notPrimary())
      },
    })
    loser.leadership.set('primary')
    expect(await loser.forwarder.write(procedureCall(5))).toMatchObject({
      result: { value: 5 },
      requestId: expect.any(String),
    })
  })

  it('says when the primary is a LiteFS node', async () => {
    const { replica } = await nodes.pair()
    replica.leadership.set({ ...primaryAt('', 'litefs'), grpcAddress: undefined })
    await expect(replica.forwarder.write(procedureCall(1))).rejects.toMatchObject({
      code: 'PRIMARY_IS_LITEFS',
      outcome: 'not-applied',
    })
  })
})

describe('a channel that breaks', () => {
  it('makes the write ask again with the same id, and it takes effect once', async () => {
    const ledger = new TestLedger()
    let cut: () => void = () => undefined
    let broken = 0
    const execute: ExecuteHere = async (call, context) => {
      const answer = await ledger.execute(call, context)
      // After the effect, before the answer.
      if (broken < 5 && ledger.calls.length % 40 === 0) {
        broken++
        cut()
      }
      return answer
    }
    const { primary, replica } = await nodes.pair({ execute })
    const path = await TcpLink.open(primary.address)
    nodes.onClose(() => path.close())
    cut = () => path.cut()
    replica.leadership.set(primaryAt(path.address, 'primary'))
    const inputs = Array.from({ length: 400 }, (_, i) => i)
    const writers = Array.from({ length: 8 }, async (_, writer) => {
      const answers: WriteAnswer[] = []
      for (const input of inputs.filter((i) => i % 8 === writer))
        answers.push(await replica.forwarder.write(procedureCall(input, { timeoutMs: 20_000 })))
      return answers
    })
    const answers = (await Promise.all(writers)).flat()
    expect(answers.map(valueOf).toSorted((a, b) => Number(a) - Number(b))).toEqual(inputs)
    expect(ledger.applied.size).toBe(inputs.length)
    expect(broken).toBe(5)
    expect(ledger.calls.length).toBeGreaterThan(inputs.length)
    expect(answers.some((answer) => answer.replayed)).toBe(true)
  })

  it('leaves the outcome unknown when no primary is found again, and names the id', async () => {
    const ledger = new TestLedger()
    let cut: () => Promise<void> = () => Promise.resolve()
    const { primary, replica } = await nodes.pair({
      execute: async (call, context) => (await ledger.execute(call, context), await cut(), echo(call)),
    })
    const path = await TcpLink.open(primary.address)
    cut = () => path.close()
    replica.leadership.set(primaryAt(path.address, 'primary'))
    const error: unknown = await replica.forwarder
      .write(procedureCall(1, { timeoutMs: 400 }))
      .catch((reason: unknown) => reason)
    expect(ledger.calls.length).toBe(1)
    expect(error).toMatchObject({
      code: 'WRITE_OUTCOME_UNKNOWN',
      outcome: 'unknown',
      details: { requestId: ledger.calls[0]?.requestId },
    })
  })
})

describe('after an attempt that may have been seen', () => {
  const unknown = new ClusterError('WRITE_OUTCOME_UNKNOWN', 'the log failed after the commit')

  const refusals = [
    ['a database that is stopped', new ClusterError('DATABASE_STOPPED', 'stopped')],
    ['a full queue', new ClusterError('WRITE_QUEUE_FULL', 'full')],
    ['a node that is not the primary', new ClusterError('NOT_PRIMARY', 'not me')],
  ] as const

  it.each(refusals)('the refusal of %s is not believed: it asks again with the same id', async (_, refusal) => {
    const ids: unknown[] = []
    const execute: ExecuteHere = (call) => {
      ids.push(call.requestId)
      const error = [unknown, refusal, refusal][ids.length - 1]
      return error === undefined ? Promise.resolve(echo(call)) : Promise.reject(error)
    }
    const { replica } = await nodes.pair({ execute })
    expect(valueOf(await replica.forwarder.write(procedureCall(1, { timeoutMs: 20_000 })))).toBe(1)
    expect(ids.length).toBe(4)
    expect(new Set(ids).size).toBe(1)
  })

  it.each(refusals)('the refusal of %s leaves the outcome unknown at the end', async (_, refusal) => {
    const ids: unknown[] = []
    const { replica } = await nodes.pair({
      execute: (call) => (ids.push(call.requestId), Promise.reject(ids.length === 1 ? unknown : refusal)),
    })
    const error: unknown = await replica.forwarder
      .write(procedureCall(1, { timeoutMs: 250 }))
      .catch((reason: unknown) => reason)
    expect(error).toMatchObject({ code: 'WRITE_OUTCOME_UNKNOWN', outcome: 'unknown', details: { requestId: ids[0] } })
  })

  it.each([
    ["SQLite's own error", makeSqliteError('SQLITE_CONSTRAINT', 'no')],
    ['an error that says it was applied', new ClusterError('ANSWER_DROPPED', 'gone')],
    ['a request too old for the ledger', new ClusterError('REQUEST_TOO_OLD', 'old')],
  ])('%s is the answer', async (_, answer) => {
    let attempts = 0
    const { replica } = await nodes.pair({ execute: () => Promise.reject(attempts++ === 0 ? unknown : answer) })
    await expect(replica.forwarder.write(procedureCall(1))).rejects.toMatchObject({
      code: (answer as { code?: string }).code,
    })
    expect(attempts).toBe(2)
  })

  it('a primary that has applied it and refuses to say what it answered is asked twice, not for ever', async () => {
    const refusal = new ClusterError('INVALID_REQUEST', 'no')
    let attempts = 0
    let asked = 0
    const { replica } = await nodes.pair({
      execute: () => Promise.reject(attempts++ === 0 ? unknown : refusal),
      resolve: () => (
        asked++, Promise.resolve({ outcome: 'applied', result: undefined, position: POSITION, epoch: epoch(1) })
      ),
    })
    await expect(replica.forwarder.write(procedureCall(1))).rejects.toMatchObject({
      code: 'WRITE_OUTCOME_UNKNOWN',
      details: { lastError: 'INVALID_REQUEST' },
    })
    expect([attempts, asked]).toEqual([3, 1])
  })

  it('the first answer is the answer', async () => {
    const ledger = new TestLedger()
    const { replica } = await nodes.pair({
      execute: async (call, context) => {
        const answer = await ledger.execute(call, context)
        if (ledger.calls.length === 1) throw unknown
        return answer
      },
    })
    expect(await replica.forwarder.write(procedureCall('v'))).toMatchObject({ replayed: true, result: { value: 'v' } })
  })
})

describe('closing', () => {
  it('fails what waits for a route, and says "unknown" of what was sent', async () => {
    const { replica } = await nodes.pair({ execute: () => new Promise(() => undefined) })
    const sent = replica.forwarder.write(procedureCall(1, { timeoutMs: 60_000 })).catch((error: unknown) => error)
    const client = replica.peers.client(replica.leadership.primary()?.grpcAddress as string)
    await until(() => client.isBusy)
    const unreachable = await nodes.start({ name: 'lost' })
    unreachable.leadership.set(primaryAt('127.0.0.1:1', 'ghost'))
    const waiting = unreachable.forwarder
      .write(procedureCall(1, { timeoutMs: 60_000 }))
      .catch((error: unknown) => error)
    await unreachable.close()
    expect(await waiting).toMatchObject({ outcome: 'not-applied' })
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
    await replica.close()
    expect(await sent).toMatchObject({ code: 'WRITE_OUTCOME_UNKNOWN' })
  })
})

describe('a function call', () => {
  async function trio() {
    const { primary, replica } = await nodes.pair({ region: 'gru' }, { region: 'lhr' })
    const third = (await nodes.start({ name: 'third', region: 'nrt' })).follow(primary)
    const all = [primary, replica, third]
    for (const node of all) {
      node.functions.register('who', (input, { caller }) => `${node.name} for ${caller}: ${Number(input)}`)
      node.members.replace(all.map((member) => member.members.self))
    }
    return { primary, replica, third }
  }

  it('runs on the primary, on a node by name, and on the nearest node of a region', async () => {
    const { primary, replica, third } = await trio()
    const call = (node: TestNode, target: Parameters<typeof node.forwarder.call>[0]) =>
      node.forwarder.call(target, 'who', 1n, 5_000)
    expect(await call(replica, { kind: 'primary' })).toBe('primary for replica: 1')
    expect(await call(primary, { kind: 'primary' })).toBe('primary for primary: 1')
    expect(await call(replica, { kind: 'node', name: 'third' })).toBe('third for replica: 1')
    expect(await call(third, { kind: 'node', name: 'third' })).toBe('third for third: 1')
    expect(await call(third, { kind: 'region', region: 'lhr' })).toBe('replica for third: 1')
    expect(await call(third, { kind: 'region', region: 'nrt' })).toBe('third for third: 1')
  })

  it('names what it did not find', async () => {
    const { replica } = await trio()
    const call = replica.forwarder.call.bind(replica.forwarder)
    await expect(call({ kind: 'node', name: 'fourth' }, 'who', 1, 500)).rejects.toThrow(code('NO_SUCH_NODE'))
    await expect(call({ kind: 'region', region: 'syd' }, 'who', 1, 500)).rejects.toThrow(code('NO_SUCH_NODE'))
    await expect(call({ kind: 'node', name: 'third' }, 'what', 1, 500)).rejects.toMatchObject({
      code: 'UNKNOWN_PROCEDURE',
      details: { known: ['who'] },
    })
    await expect(call({ kind: 'node', name: 'replica' }, 'what', 1, 500)).rejects.toThrow(code('UNKNOWN_PROCEDURE'))
  })

  it('does not run on another node than the one named', async () => {
    const { replica, third } = await trio()
    replica.members.replace([{ ...third.members.self, nodeName: 'moved' }])
    await expect(replica.forwarder.call({ kind: 'node', name: 'moved' }, 'who', 1, 2_000)).rejects.toThrow(
      code('NO_SUCH_NODE'),
    )
  })

  it('takes the next node of a region when one cannot be reached', async () => {
    const { replica, third } = await trio()
    const dead = { ...third.members.self, nodeName: 'a dead one', nodeId: 'dead', grpcAddress: '127.0.0.1:1' }
    replica.members.replace([dead, third.members.self])
    expect(await replica.forwarder.call({ kind: 'region', region: 'nrt' }, 'who', 1, 5_000)).toBe(
      'third for replica: 1',
    )
  })

  it("meets the function's own error, and no answer in time leaves the outcome unknown", async () => {
    const { primary, replica } = await trio()
    let runs = 0
    let aborted = 0
    primary.functions.register('fail', () => {
      throw Object.assign(new TypeError('bad'), { code: 'BAD' })
    })
    primary.functions.register('hang', (_, { signal }) => {
      runs++
      signal.addEventListener('abort', () => aborted++)
      return new Promise<null>(() => undefined)
    })
    const call = (name: string, timeoutMs: number) => replica.forwarder.call({ kind: 'primary' }, name, null, timeoutMs)
    await expect(call('fail', 5_000)).rejects.toMatchObject({ name: 'TypeError', code: 'BAD', message: 'bad' })
    await expect(call('hang', 1_000)).rejects.toMatchObject({ code: 'CALL_OUTCOME_UNKNOWN', outcome: 'unknown' })
    await until(() => aborted === 1)
    expect(runs).toBe(1)
  })

  it('for the primary does not run on a node that is none any more', async () => {
    const { primary, replica } = await trio()
    let runs = 0
    primary.functions.register('count', () => ++runs)
    primary.leadership.set(undefined)
    const call = replica.forwarder.call({ kind: 'primary' }, 'count', null, 20_000)
    await until(() => replica.leadership.refreshes > 2)
    expect(runs).toBe(0)
    primary.leadership.set('primary')
    expect(await call).toBe(1)
  })
})

describe('a batch', () => {
  it('with every kind of parameter and row arrives as it was given', async () => {
    const seen: WriteCall[] = []
    const rows = [{ id: 2n ** 62n, b: Buffer.from([1, 2]), t: 'é', n: null, r: 1.5 }]
    const execute: ExecuteHere = (call) => {
      seen.push(call)
      return Promise.resolve({
        ...echo(call),
        result: { kind: 'batch', results: [{ changes: 2, lastInsertRowid: 5n, rows }] },
      })
    }
    const { replica } = await nodes.pair({ execute })
    const statements = [
      { sql: 'INSERT', params: [1, 1n, 'x', null, Buffer.from('b'), new Uint8Array([7])], safeIntegers: true },
      { sql: 'UPDATE', params: { a: -0, __proto__x: 'y' }, safeIntegers: false },
      { sql: 'DELETE', params: undefined, safeIntegers: false },
    ]
    const answer = await replica.forwarder.write(writeCall({ kind: 'batch', statements }))
    expect(seen[0]?.operation).toStrictEqual({ kind: 'batch', statements })
    expect(answer.result).toStrictEqual({ kind: 'batch', results: [{ changes: 2, lastInsertRowid: 5n, rows }] })
  })
})
