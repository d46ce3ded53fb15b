/**
 * What becomes of a write whose answer got lost: the question, the sealing before a late failure is believed, and how far a
 * write had come when it failed. Nodes over loopback; the primary is a ledger and no database.
 */
import { afterEach, describe, expect, it } from 'vitest'
import { InvariantError } from '../base/assert.ts'
import { ClusterError, isClusterError } from '../errors/cluster-error.ts'
import type { FailurePhase } from '../errors/failure-phase.ts'
import { checksum } from '../position/checksum.ts'
import { epoch, NO_EPOCH } from '../position/epoch.ts'
import { ZERO_POSITION } from '../position/position.ts'
import { txid } from '../position/txid.ts'
import { parseRequestId, type RequestId } from '../request/request-id.ts'
import { makeSqliteError } from '../sqlite/sqlite-error.ts'
import { until } from '../stream/test-support/until.ts'
import { TcpLink } from './test-support/tcp-link.ts'
import { TestLedger } from './test-support/test-ledger.ts'
import {
  echo,
  primaryAt,
  procedureCall,
  TEST_DATABASE,
  TestNode,
  type TestNodeOptions,
} from './test-support/test-node.ts'
import { TestNodes } from './test-support/test-nodes.ts'
import type { ExecuteHere, ResolveAnswer, ResolveHere } from './write-call.ts'

const nodes = new TestNodes()

afterEach(() => nodes.close())

async function pair(primaryOptions: Partial<TestNodeOptions> = {}, replicaOptions: Partial<TestNodeOptions> = {}) {
  const both = await nodes.pair(primaryOptions, replicaOptions)
  await connected(both.replica, both.primary.address)
  return both
}

/** The replica's way to the primary, to be cut. */
async function linkBetween(replica: TestNode, primary: TestNode): Promise<TcpLink> {
  const link = await TcpLink.open(primary.address)
  nodes.onClose(() => link.close())
  replica.leadership.set(primaryAt(link.address, 'primary'))
  await connected(replica, link.address)
  return link
}

/** So that a short deadline is that of the request, not of the connection. */
function connected(node: TestNode, address: string): Promise<void> {
  const client = node.peers.client(address)
  return until(() => client.state.kind === 'connected')
}

const ID = parseRequestId('0192aabbccdd11223344556600000001') as RequestId
const POSITION = { txid: txid(9n), checksum: checksum((1n << 63n) | 9n) }
const question = (timeoutMs = 5_000) => ({ database: TEST_DATABASE, requestId: ID, timeoutMs })
const caught = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => 'it resolved',
    (error: unknown) => error,
  )
const unknown = new ClusterError('WRITE_OUTCOME_UNKNOWN', 'the log failed after the commit')
const constraint = makeSqliteError('SQLITE_CONSTRAINT', 'no')

describe('the question what became of a write', () => {
  it('is answered on the primary and on every other node', async () => {
    const ledger = new TestLedger()
    const { primary, replica } = await pair(ledger)
    await replica.forwarder.write(procedureCall('v', { requestId: ID }))
    for (const node of [primary, replica]) {
      expect(await node.forwarder.resolve(question())).toMatchObject({
        outcome: 'applied',
        result: { kind: 'procedure', value: 'v' },
      })
    }
    const other = parseRequestId('0192aabbccdd11223344556600000002') as RequestId
    expect(await replica.forwarder.resolve({ ...question(), requestId: other })).toMatchObject({
      outcome: 'not-applied',
    })
    expect(await caught(replica.forwarder.write(procedureCall('v', { requestId: other })))).toMatchObject({
      code: 'REQUEST_ABANDONED',
      outcome: 'not-applied',
      details: { requestId: other, phase: 'before-commit' },
    })
  })

  it('follows the hint of a node that is not the primary any more', async () => {
    const { primary } = await pair()
    const old = (await nodes.start({ name: 'old' })).follow(primary)
    const asker = (await nodes.start({ name: 'asker' })).follow(old)
    expect(await asker.forwarder.resolve(question())).toMatchObject({ outcome: 'not-applied' })
  })

  it('is asked again when the channel breaks or the answer cannot be read', async () => {
    let asked = 0
    let cut = (): void => undefined
    const resolve: ResolveHere = () => {
      asked++
      if (asked === 1) cut()
      const position = asked === 2 ? { ...POSITION, checksum: checksum(0n) } : POSITION
      const answer = { outcome: 'not-applied', position, epoch: asked === 2 ? -1 : epoch(1) } as ResolveAnswer
      return Promise.resolve(answer)
    }
    const { primary, replica } = await pair({ resolve })
    const link = await linkBetween(replica, primary)
    cut = () => link.cut()
    expect(await replica.forwarder.resolve(question(20_000))).toMatchObject({
      outcome: 'not-applied',
      position: POSITION,
    })
    expect(asked).toBe(3)
  })

  it('waits in vain for a primary: the outcome stays open, whatever the reason says of itself', async () => {
    const { replica } = await pair()
    replica.leadership.set(undefined)
    expect(await caught(replica.forwarder.resolve(question(50)))).toMatchObject({
      code: 'WRITE_OUTCOME_UNKNOWN',
      outcome: 'unknown',
      details: { requestId: ID, lastError: 'NO_PRIMARY' },
    })
    await replica.close()
    expect(await caught(replica.forwarder.resolve(question()))).toMatchObject({
      code: 'WRITE_OUTCOME_UNKNOWN',
      details: { lastError: 'CLOSED' },
    })
  })

  it.each([
    ['DATABASE_STOPPED', 'WRITE_OUTCOME_UNKNOWN'],
    ['UNKNOWN_DATABASE', 'WRITE_OUTCOME_UNKNOWN'],
    ['CORRUPT_DATA', 'WRITE_OUTCOME_UNKNOWN'],
    ['REQUEST_TOO_OLD', 'REQUEST_TOO_OLD'],
    ['INVALID_REQUEST', 'INVALID_REQUEST'],
  ] as const)('that the primary refuses with %s rejects with %s', async (code, told) => {
    const { primary, replica } = await pair({ resolve: () => Promise.reject(new ClusterError(code, 'no')) })
    for (const node of [primary, replica]) {
      expect(await caught(node.forwarder.resolve(question(1_500)))).toMatchObject({
        code: told,
        details: { requestId: ID, ...(told === 'WRITE_OUTCOME_UNKNOWN' ? { lastError: code } : {}) },
      })
    }
  })

  it("that fails with SQLite's error leaves the outcome open", async () => {
    const { replica } = await pair({ resolve: () => Promise.reject(makeSqliteError('SQLITE_FULL', 'full')) })
    expect(await caught(replica.forwarder.resolve(question()))).toMatchObject({ code: 'WRITE_OUTCOME_UNKNOWN' })
  })

  it('is answered only when this node shows what was applied', async () => {
    const resolve: ResolveHere = () =>
      Promise.resolve({ outcome: 'applied', result: undefined, position: POSITION, epoch: epoch(3) })
    const awaited: unknown[] = []
    let failure: Error | undefined
    const { replica } = await pair(
      { resolve },
      {
        awaitLocal: (_, { position }) => {
          awaited.push(position)
          return failure === undefined ? Promise.resolve() : Promise.reject(failure)
        },
      },
    )
    expect(await replica.forwarder.resolve(question())).toMatchObject({ outcome: 'applied' })
    failure = new ClusterError('WAIT_TIMEOUT', 'late')
    expect(await caught(replica.forwarder.resolve(question()))).toMatchObject({
      code: 'NOT_YET_VISIBLE',
      outcome: 'applied',
      details: { requestId: ID, position: POSITION },
    })
    expect(awaited).toEqual([POSITION, POSITION])
  })

  it('leaves out an answer that no channel carries', async () => {
    const result = { kind: 'procedure', value: 'x'.repeat(20_000) } as const
    const resolve: ResolveHere = () =>
      Promise.resolve({ outcome: 'applied', result, position: ZERO_POSITION, epoch: NO_EPOCH })
    const { primary, replica } = await pair({ resolve, peer: { messageBytesMax: 10_000 } })
    expect(await primary.forwarder.resolve(question())).toMatchObject({ outcome: 'applied', result })
    expect(await replica.forwarder.resolve(question())).toMatchObject({ outcome: 'applied', result: undefined })
  })
})

describe('a failure after an attempt that may have been seen', () => {
  it.each([
    ["SQLite's own", constraint, 'SQLITE_CONSTRAINT'],
    ["the procedure's", Object.assign(new Error('mine'), { code: 'MINE' }), 'MINE'],
    ['a refusal for good', new ClusterError('UNKNOWN_PROCEDURE', 'who?'), 'UNKNOWN_PROCEDURE'],
  ])('%s, is believed once the earlier attempt cannot run any more', async (_, failure, code) => {
    const ledger = new TestLedger()
    const late = Promise.withResolvers<void>()
    let cut = (): void => undefined
    let attempts = 0
    let first: Promise<unknown> = Promise.resolve()
    const execute: ExecuteHere = (call, context) => {
      if (attempts++ > 0) return Promise.reject(failure)
      // As if it were still on its way: it looks at the ledger long after the second one failed.
      const run = late.promise.then(() => ledger.execute(call, context))
      first = caught(run)
      cut()
      return run
    }
    const { primary, replica } = await pair({ execute, resolve: ledger.resolve })
    const link = await linkBetween(replica, primary)
    cut = () => link.cut()
    expect(await caught(replica.forwarder.write(procedureCall(1, { timeoutMs: 20_000 })))).toMatchObject({ code })
    expect(attempts).toBe(2)
    late.resolve()
    expect(await first).toMatchObject({ code: 'REQUEST_ABANDONED' })
    expect(ledger.applied.size).toBe(0)
  })

  it('is not believed when the earlier attempt was applied: the write gets its first answer', async () => {
    const ledger = new TestLedger()
    let attempts = 0
    const execute: ExecuteHere = async (call, context) => {
      attempts++
      if (attempts === 2) throw constraint
      const answer = await ledger.execute(call, context)
      if (attempts === 1) throw unknown
      return answer
    }
    const { replica } = await pair({ execute, resolve: ledger.resolve })
    expect(await replica.forwarder.write(procedureCall('v'))).toMatchObject({ replayed: true, result: { value: 'v' } })
    expect(ledger.questions.length).toBe(1)
  })

  it('leaves the outcome unknown when the question finds no answer', async () => {
    const ids: unknown[] = []
    const execute: ExecuteHere = (call) => (
      ids.push(call.requestId), Promise.reject(ids.length === 1 ? unknown : constraint)
    )
    const { replica } = await pair({
      execute,
      resolve: () => Promise.reject(new ClusterError('DATABASE_STOPPED', 'stopped')),
    })
    expect(await caught(replica.forwarder.write(procedureCall(1, { timeoutMs: 200 })))).toMatchObject({
      code: 'WRITE_OUTCOME_UNKNOWN',
      details: { requestId: ids[0] },
    })
    expect(ids.length).toBe(2)
  })

  it('on the primary itself is asked for again, too, where the write has an id: it gets its first answer', async () => {
    const ledger = new TestLedger()
    const execute: ExecuteHere = async (call, context) => {
      const answer = await ledger.execute(call, context)
      if (ledger.calls.length % 2 === 1) throw unknown
      return answer
    }
    const { primary } = await pair({ execute, resolve: ledger.resolve })
    expect(await primary.forwarder.write(procedureCall('v', { requestId: ID }))).toMatchObject({
      replayed: true,
      result: { value: 'v' },
    })
    // Without one nothing would keep a second attempt from taking effect again.
    const bare = await caught(primary.forwarder.write(procedureCall('v', { idempotencyKey: 'k' })))
    expect(bare).toMatchObject({ code: 'WRITE_OUTCOME_UNKNOWN' })
    expect(ledger.calls.length).toBe(3)
  })

  it('needs no question when nothing was seen before', async () => {
    const ledger = new TestLedger()
    const { replica } = await pair({ execute: () => Promise.reject(constraint), resolve: ledger.resolve })
    expect(await caught(replica.forwarder.write(procedureCall(1)))).toBeInstanceOf(Error)
    expect(ledger.questions).toEqual([])
  })
})

/** The table of docs/unknown-outcomes.md: one row, one test. */
describe('how far a write had come when it failed', () => {
  interface Told {
    readonly code: string
    readonly outcome: string
    readonly phase: FailurePhase
  }

  async function told(node: TestNode, timeoutMs: number, requestId?: RequestId): Promise<Told> {
    const error = await caught(node.forwarder.write(procedureCall(1, { timeoutMs, requestId, await: 'local' })))
    if (!isClusterError(error)) throw new Error(`not a ClusterError: ${String(error)}`)
    const { code, outcome, details, hint } = error
    expect(details['requestId']).toMatch(/^[0-9a-f]{32}$/)
    if (code === 'WRITE_OUTCOME_UNKNOWN') expect(hint).toContain(`resolve("${String(details['requestId'])}")`)
    return { code, outcome, phase: details['phase'] as FailurePhase }
  }

  const notApplied = (code: string): Told => ({ code, outcome: 'not-applied', phase: 'before-commit' })
  const open = (phase: FailurePhase): Told => ({ code: 'WRITE_OUTCOME_UNKNOWN', outcome: 'unknown', phase })

  it('no primary, none that can be reached, a node that is closed: before-commit', async () => {
    const { replica } = await pair()
    replica.leadership.set(undefined)
    expect(await told(replica, 40)).toEqual(notApplied('NO_PRIMARY'))
    replica.leadership.set(primaryAt('127.0.0.1:1', 'ghost'))
    expect(await told(replica, 40)).toEqual(notApplied('NO_PRIMARY'))
    const waiting = told(replica, 60_000)
    await new Promise((resolve) => setImmediate(resolve))
    await replica.close()
    expect((await waiting).outcome).toBe('not-applied')
    expect(await told(replica, 40)).toEqual(notApplied('CLOSED'))
  })

  it('turned away by the primary: before-commit', async () => {
    for (const code of ['WRITE_QUEUE_FULL', 'LEDGER_FULL', 'DATABASE_BUSY', 'REQUEST_ID_REUSED'] as const) {
      const { replica } = await pair({ execute: () => Promise.reject(new ClusterError(code, 'no')) })
      expect(await told(replica, 1_000)).toEqual(notApplied(code))
    }
  })

  it('sent, and the connection broke for good: sending', async () => {
    let close = (): void => undefined
    const { primary, replica } = await pair({ execute: () => (close(), new Promise(() => undefined)) })
    const link = await TcpLink.open(primary.address)
    close = () => void link.close()
    replica.leadership.set(primaryAt(link.address, 'primary'))
    await connected(replica, link.address)
    expect(await told(replica, 300)).toEqual(open('sending'))
  })

  it('sent, and no answer came until the deadline: sending', async () => {
    const { replica } = await pair({ execute: () => new Promise(() => undefined) })
    expect(await told(replica, 400)).toEqual(open('sending'))
  })

  it('sent, and this node was closed: sending', async () => {
    const { replica } = await pair({ execute: () => new Promise(() => undefined) })
    const sent = told(replica, 60_000)
    const client = replica.peers.client(replica.leadership.primary()?.grpcAddress as string)
    await until(() => client.isBusy)
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
    await replica.close()
    expect(await sent).toEqual(open('sending'))
  })

  it('the disk failed during COMMIT, or a defect showed there: commit', async () => {
    const failed = new ClusterError('WRITE_OUTCOME_UNKNOWN', 'disk', { details: { phase: 'commit' } })
    for (const error of [failed, new InvariantError('broken')]) {
      const { replica } = await pair({ execute: () => Promise.reject(error) })
      expect(await told(replica, 400)).toEqual(open('commit'))
    }
  })

  it('committed on the primary, which could not make it known: announcement', async () => {
    const error = new ClusterError('WRITE_OUTCOME_UNKNOWN', 'lease lost', { details: { phase: 'announcement' } })
    const { primary, replica } = await pair({ execute: () => Promise.reject(error) })
    expect(await told(replica, 400)).toEqual(open('announcement'))
    expect(await told(primary, 400, ID)).toEqual(open('announcement'))
  })

  it('an answer that cannot be read: answer, and it was asked for again under the same id', async () => {
    const ids = new Set<unknown>()
    let attempts = 0
    const execute: ExecuteHere = (call) => {
      attempts++
      ids.add(call.requestId)
      return Promise.resolve({ ...echo(call), epoch: -1 as never })
    }
    const { replica } = await pair({ execute })
    expect(await told(replica, 400)).toEqual(open('answer'))
    expect(attempts).toBeGreaterThan(1)
    expect(ids.size).toBe(1)
  })

  it('an answer too large to be kept or sent: answer, applied', async () => {
    const execute: ExecuteHere = (call) =>
      Promise.resolve({ ...echo(call), result: { kind: 'procedure', value: 'x'.repeat(20_000) } })
    const { replica } = await pair({ execute, peer: { messageBytesMax: 10_000 } })
    expect(await told(replica, 1_000)).toEqual({ code: 'ANSWER_DROPPED', outcome: 'applied', phase: 'answer' })
  })

  it('committed, and this node does not show it in time: visibility, applied', async () => {
    const awaitLocal = () => Promise.reject(new ClusterError('WAIT_TIMEOUT', 'late'))
    const { replica } = await pair({}, { awaitLocal })
    expect(await told(replica, 1_000)).toEqual({ code: 'NOT_YET_VISIBLE', outcome: 'applied', phase: 'visibility' })
  })

  it('a write without id and key on the primary itself: the hint says that only the data can tell', async () => {
    const { primary } = await pair({ execute: () => Promise.reject(unknown) })
    const bare = (await caught(primary.forwarder.write(procedureCall(1)))) as ClusterError
    expect(bare.details).not.toHaveProperty('requestId')
    expect(bare.hint).toContain('only the data can tell')
    const keyed = (await caught(primary.forwarder.write(procedureCall(1, { idempotencyKey: 'k' })))) as ClusterError
    expect(keyed.hint).toContain('the same idempotencyKey')
  })
})
