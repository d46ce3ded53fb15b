/** A program that is no node asks one: what it gets, and what it may conclude when it gets nothing. */
import * as fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { ClusterError } from '../errors/cluster-error.ts'
import { checksum } from '../position/checksum.ts'
import { epoch } from '../position/epoch.ts'
import { txid } from '../position/txid.ts'
import { loadPeerProtocol } from '../peer/protocol.ts'
import { OperationHasher } from '../request/operation-hash.ts'
import { makeSqliteError } from '../sqlite/sqlite-error.ts'
import { operations } from './test-support/generated-values.ts'
import { TcpLink } from './test-support/tcp-link.ts'
import { echo, TEST_DATABASE, TestNode, type TestNodeOptions, writeCall } from './test-support/test-node.ts'
import { TestNodes } from './test-support/test-nodes.ts'
import { type RemoteWrite, sendResolve, sendWrite } from './unary-client.ts'
import { decodeOperation, encodeWrite } from './unary-write.ts'
import type { ResolveAnswer, WriteCall } from './write-call.ts'

const KEY = 'the key of this cluster'
const ID = '0192aabbccdd11223344556600000001'
const protocol = loadPeerProtocol()
const nodes = new TestNodes()

afterEach(() => nodes.close())

async function startPrimary(options: Partial<TestNodeOptions> = {}): Promise<TestNode> {
  const node = await new TestNode({ name: 'primary', ...options }).listen()
  nodes.onClose(() => node.close())
  node.leadership.set('primary')
  return node
}

const write = (operation: RemoteWrite['operation'], more: Partial<RemoteWrite> = {}): RemoteWrite => ({
  database: TEST_DATABASE,
  operation,
  ...more,
})
const procedure = (input: unknown): RemoteWrite['operation'] => ({
  kind: 'procedure',
  name: 'p',
  input: input as never,
})
const send = (address: string, what: RemoteWrite, keys: readonly string[] = [], timeoutMs = 5_000) =>
  sendWrite(address, what, { keys, timeoutMs, protocol })

describe('an operation sent from outside', () => {
  it('has the fingerprint it has inside, so that it may be repeated under its request id', () => {
    const { requestSerialize, requestDeserialize } = protocol.peer['Write']!
    const hasher = new OperationHasher()
    fc.assert(
      fc.property(operations, (operation) => {
        fc.pre(isWellFormed(operation) && (operation.kind !== 'batch' || operation.statements.length > 0))
        const arrived = requestDeserialize(requestSerialize(encodeWrite(writeCall(operation)))) as never
        expect(hasher.hash(decodeOperation(arrived))).toBe(hasher.hash(operation))
      }),
    )
  })

  it('is refused before it is sent when its text would arrive as another one', async () => {
    await expect(send('127.0.0.1:1', write(procedure('\ud800')))).rejects.toThrow(/INVALID_REQUEST/)
    await expect(send('127.0.0.1:1', write(procedure(1), { requestId: 'x' }))).rejects.toThrow(/INVALID_REQUEST/)
    await expect(send('127.0.0.1:1', write({ kind: 'batch', statements: [] }))).rejects.toThrow(/INVALID_REQUEST/)
  })
})

describe('a write from outside', () => {
  it('runs at the primary and gets the whole answer', async () => {
    const seen: WriteCall[] = []
    const rows = [{ id: 2n ** 60n, t: 'é', b: Buffer.from('y'), n: null, r: 1.5 }]
    const node = await startPrimary({
      keys: [KEY],
      execute: (call) => {
        seen.push(call)
        return Promise.resolve({
          ...echo(call),
          position: { txid: txid(7n), checksum: checksum(2n ** 63n) },
          epoch: epoch(4),
          level: { replicas: 2 },
          uncounted: ['litefs'],
          replayed: true,
          result: { kind: 'batch', results: [{ changes: 3, lastInsertRowid: 9n, rows }] },
        })
      },
    })
    const statements = [{ sql: 'INSERT', params: [1n, 'x', null, 2.5] }]
    const answer = await send(
      node.address,
      write({ kind: 'batch', statements }, { requestId: ID, idempotencyKey: 'k', await: { replicas: 2 } }),
      [KEY],
    )
    expect(seen[0]).toMatchObject({
      requestId: ID,
      idempotencyKey: 'k',
      await: { replicas: 2 },
      operation: { statements },
    })
    expect(answer).toStrictEqual({
      database: TEST_DATABASE,
      result: { kind: 'batch', results: [{ changes: 3, lastInsertRowid: 9n, rows }] },
      position: { txid: 7n, checksum: 2n ** 63n },
      epoch: 4,
      level: { replicas: 2 },
      uncounted: ['litefs'],
      requestId: ID,
      replayed: true,
    })
  })

  it('gets a request id of its own, and what a procedure returns, nothing included', async () => {
    const node = await startPrimary()
    const first = await send(node.address, write(procedure({ a: [1n, undefined] })))
    const second = await send(node.address, write(procedure(undefined)))
    expect(first).toMatchObject({ result: { kind: 'procedure', value: { a: [1n, undefined] } } })
    expect(second.result).toStrictEqual({ kind: 'procedure', value: undefined })
    expect(first.requestId).toMatch(/^[0-9a-f]{32}$/)
    expect(second.requestId).not.toBe(first.requestId)
  })

  it('meets the errors that a caller inside meets', async () => {
    const thrown: unknown[] = [
      makeSqliteError('SQLITE_CONSTRAINT_CHECK', 'no'),
      Object.assign(new RangeError('too much'), { code: 'LIMIT' }),
      new ClusterError('WRITE_QUEUE_FULL', 'full', { details: { jobs: 5 }, hint: 'Later.' }),
    ]
    const node = await startPrimary({ execute: (call) => Promise.reject(thrown[Number(inputOf(call))]) })
    const error = (input: number) =>
      send(node.address, write(procedure(input), { requestId: ID })).catch((reason: unknown) => reason)
    expect(await error(0)).toStrictEqual(thrown[0])
    expect(await error(1)).toStrictEqual(thrown[1])
    expect(await error(2)).toMatchObject({
      code: 'WRITE_QUEUE_FULL',
      hint: 'Later.',
      details: { jobs: 5, requestId: ID },
    })
  })
})

describe('a write from outside that fails on the way', () => {
  it('is not applied when no connection opened, or the node turned it away', async () => {
    const node = await startPrimary({ keys: [KEY] })
    await expect(send('127.0.0.1:1', write(procedure(1)), [], 20_000)).rejects.toMatchObject({
      code: 'PEER_UNREACHABLE',
      outcome: 'not-applied',
      details: { requestId: expect.stringMatching(/^[0-9a-f]{32}$/) },
    })
    await expect(send(node.address, write(procedure(1)))).rejects.toMatchObject({
      code: 'UNAUTHENTICATED',
      outcome: 'not-applied',
    })
  })

  it('is unknown when the connection broke after it was sent, or no answer came in time, and names its id', async () => {
    let cut = (): void => undefined
    const node = await startPrimary({ execute: () => (cut(), new Promise(() => undefined)) })
    const link = await TcpLink.open(node.address)
    nodes.onClose(() => link.close())
    const unknown = {
      code: 'WRITE_OUTCOME_UNKNOWN',
      outcome: 'unknown',
      retry: 'same-request-id',
      details: { requestId: ID, phase: 'sending' },
    }
    const lost = (timeoutMs: number) => send(link.address, write(procedure(1), { requestId: ID }), [], timeoutMs)
    await expect(lost(1_500)).rejects.toMatchObject(unknown)
    cut = () => link.cut()
    await expect(lost(20_000)).rejects.toMatchObject(unknown)
  })
})

describe('the question what became of a write, from outside', () => {
  const question = { database: TEST_DATABASE, requestId: ID }
  const resolve = (address: string, timeoutMs = 5_000) =>
    sendResolve(address, question, { keys: [], timeoutMs, protocol })

  it('gets the answer that a caller inside gets', async () => {
    const at = { position: { txid: txid(7n), checksum: checksum(2n ** 63n) }, epoch: epoch(4) }
    const answers: ResolveAnswer[] = [
      { outcome: 'applied', result: { kind: 'procedure', value: undefined }, ...at },
      { outcome: 'applied', result: { kind: 'batch', results: [{ changes: 1, lastInsertRowid: 2n }] }, ...at },
      { outcome: 'applied', result: undefined, ...at },
      { outcome: 'not-applied', ...at },
    ]
    let asked = 0
    const node = await startPrimary({ resolve: () => Promise.resolve(answers[asked++] as ResolveAnswer) })
    for (const answer of answers) expect(await resolve(node.address)).toStrictEqual(answer)
  })

  it('leaves the outcome open whenever it gets no answer, whatever kept it', async () => {
    const old = new ClusterError('REQUEST_TOO_OLD', 'old')
    const node = await startPrimary({ keys: [KEY] })
    const forgetful = await startPrimary({ resolve: () => Promise.reject(old) })
    const open = { code: 'WRITE_OUTCOME_UNKNOWN', outcome: 'unknown', retry: 'same-request-id' }
    const details = (lastError: string) => ({ requestId: ID, database: TEST_DATABASE, lastError })
    await expect(resolve('127.0.0.1:1', 500)).rejects.toMatchObject({ ...open, details: details('PEER_UNREACHABLE') })
    await expect(resolve(node.address)).rejects.toMatchObject({ ...open, details: details('UNAUTHENTICATED') })
    await expect(resolve(forgetful.address)).rejects.toMatchObject({ code: 'REQUEST_TOO_OLD', outcome: 'unknown' })
    await expect(
      sendResolve(node.address, { database: TEST_DATABASE, requestId: 'x' }, { keys: [KEY], protocol }),
    ).rejects.toThrow(/INVALID_REQUEST/)
  })
})

function inputOf(call: WriteCall): unknown {
  return call.operation.kind === 'procedure' ? call.operation.input : undefined
}

function isWellFormed(value: unknown): boolean {
  if (typeof value === 'string') return value.isWellFormed()
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array || value instanceof Date) return true
  return Object.entries(value).every(([key, item]) => key.isWellFormed() && isWellFormed(item))
}
