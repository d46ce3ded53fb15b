/** What a program in another language sees: the unary methods, called with nothing but the protocol files. */
import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js'
import * as fc from 'fast-check'
import { afterEach, describe, expect, it } from 'vitest'
import { ClusterError } from '../errors/cluster-error.ts'
import { epoch } from '../position/epoch.ts'
import { ZERO_POSITION } from '../position/position.ts'
import { loadPeerProtocol } from '../peer/protocol.ts'
import { signToken } from '../request/cluster-token.ts'
import type { Resolution } from '../request/write-request.ts'
import { makeSqliteError } from '../sqlite/sqlite-error.ts'
import { plainValues, sqlValues } from './test-support/generated-values.ts'
import { echo, TestNode } from './test-support/test-node.ts'
import { TestNodes } from './test-support/test-nodes.ts'
import { decodePlainValue, decodeSqlValue, encodePlainValue, encodeSqlValue } from './unary-values.ts'
import type { WriteCall } from './write-call.ts'

const nodes = new TestNodes()
const protocol = loadPeerProtocol()

afterEach(() => nodes.close())

function ask(
  node: TestNode,
  name: 'Write' | 'Call' | 'Resolve',
  request: object,
  token?: string,
): Promise<Record<string, unknown>> {
  const method = protocol.peer[name]!
  const client = new Client(node.address, credentials.createInsecure())
  nodes.onClose(() => client.close())
  const metadata = new Metadata()
  if (token !== undefined) metadata.set('authorization', `Bearer ${token}`)
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
      metadata,
      (error, answer) => (error === null ? resolve(answer as Record<string, unknown>) : reject(error)),
    )
  })
}

describe('the values of the unary methods', () => {
  const { requestSerialize, requestDeserialize } = protocol.peer['Write']!

  it('carry every SQL value exactly', () => {
    fc.assert(
      fc.property(sqlValues, (value) => {
        // UTF-8 is all that protobuf text can hold.
        fc.pre(typeof value !== 'string' || value.isWellFormed())
        const request = { batch: { statements: [{ sql: '', positional: [encodeSqlValue(value)] }] } }
        const back = requestDeserialize(requestSerialize(request)) as {
          batch: { statements: { positional: object[] }[] }
        }
        const got = decodeSqlValue(back.batch.statements[0]?.positional[0])
        expect(got).toStrictEqual(value instanceof Uint8Array ? Buffer.from(value) : value)
      }),
    )
  })

  it('carry every plain value exactly, bytes as a Buffer', () => {
    fc.assert(
      fc.property(plainValues, (value) => {
        fc.pre(isWellFormed(value))
        const request = { procedure: { name: '', input: encodePlainValue(value) } }
        const back = requestDeserialize(requestSerialize(request)) as { procedure: { input: object } }
        expect(decodePlainValue(back.procedure.input)).toStrictEqual(withBuffers(value))
      }),
    )
  })
})

describe('Write', () => {
  it('runs a batch on the primary through any node, with values of every kind', async () => {
    const seen: WriteCall[] = []
    const primary = await nodes.start({
      name: 'primary',
      execute: (call) => {
        seen.push(call)
        const rows = [{ id: 2n ** 60n, t: 'x', b: Buffer.from('y'), n: null, r: 1.5 }]
        return Promise.resolve({
          ...echo(call),
          epoch: epoch(4),
          result: { kind: 'batch', results: [{ changes: 3, lastInsertRowid: 9, rows }] },
        })
      },
    })
    primary.leadership.set('primary')
    const replica = (await nodes.start({ name: 'replica' })).follow(primary)
    const requestId = Buffer.from('0192aabbccdd11223344556600000001', 'hex')
    const reply = await ask(replica, 'Write', {
      database: 'app.db',
      batch: {
        statements: [
          { sql: 'a', positional: [{ integer: '4' }, { null: true }] },
          { sql: 'b', named: [{ name: 'n', value: { number: 4 } }], safeIntegers: true },
        ],
      },
      requestId,
      idempotencyKey: 'key',
      awaitLevel: { replicas: 2 },
      timeoutMs: 4_000,
    })
    expect(seen[0]).toMatchObject({
      requestId: requestId.toString('hex'),
      idempotencyKey: 'key',
      await: { replicas: 2 },
    })
    expect(seen[0]?.operation).toStrictEqual({
      kind: 'batch',
      statements: [
        { sql: 'a', params: [4n, null], safeIntegers: false },
        { sql: 'b', params: { n: 4 }, safeIntegers: true },
      ],
    })
    expect(reply).toMatchObject({
      outcome: 'answer',
      answer: {
        epoch: '4',
        requestId,
        replayed: false,
        results: [
          {
            changes: '3',
            lastInsertRowid: { number: 9 },
            returnsRows: true,
            columns: ['id', 't', 'b', 'n', 'r'],
            rows: [
              {
                values: [
                  { integer: String(2n ** 60n) },
                  { text: 'x' },
                  { blob: Buffer.from('y') },
                  { kind: 'null' },
                  { number: 1.5 },
                ],
              },
            ],
          },
        ],
      },
    })
  })

  it('answers what the write met in the reply, with its outcome', async () => {
    const errors = [
      makeSqliteError('SQLITE_CONSTRAINT', 'no'),
      new ClusterError('NOT_YET_VISIBLE', 'later', { details: { position: ZERO_POSITION }, hint: 'Wait.' }),
      Object.assign(new TypeError('mine'), { code: 'E_MINE' }),
    ]
    const node = await nodes.start({ name: 'primary', execute: () => Promise.reject(errors.shift()) })
    node.leadership.set('primary')
    const write = () => ask(node, 'Write', { database: 'app.db', procedure: { name: 'p' } })
    expect(await write()).toMatchObject({
      failure: { kind: 'SQLITE', code: 'SQLITE_CONSTRAINT', message: 'no', outcome: 'not-applied' },
    })
    const late = (await write()) as { failure: { details: object } }
    expect(late).toMatchObject({
      failure: {
        kind: 'CLUSTER',
        code: 'NOT_YET_VISIBLE',
        message: 'later',
        outcome: 'applied',
        retry: 'never',
        hint: 'Wait.',
      },
    })
    expect(decodePlainValue(late.failure.details)).toEqual({
      position: ZERO_POSITION,
      database: 'app.db',
      phase: 'visibility',
    })
    expect(await write()).toMatchObject({
      failure: { kind: 'APPLICATION', code: 'E_MINE', name: 'TypeError', message: 'mine' },
    })
  })

  it.each([
    ['no operation', { database: 'app.db' }],
    ['no statement', { database: 'app.db', batch: { statements: [] } }],
    ['a bad name', { database: 'a/b', procedure: { name: 'p' } }],
    ['a short request id', { database: 'app.db', procedure: { name: 'p' }, requestId: Buffer.alloc(3) }],
    ['a value without a kind', { database: 'app.db', batch: { statements: [{ sql: 'x', positional: [{}] }] } }],
    [
      'positional and named parameters',
      {
        database: 'app.db',
        batch: { statements: [{ sql: 'x', positional: [{ null: true }], named: [{ name: 'a' }] }] },
      },
    ],
    ['no replicas to await', { database: 'app.db', procedure: { name: 'p' }, awaitLevel: { replicas: 0 } }],
  ])('with %s is INVALID_ARGUMENT, and nothing runs', async (_, request) => {
    let runs = 0
    const node = await nodes.start({ name: 'primary', execute: (call) => (runs++, Promise.resolve(echo(call))) })
    node.leadership.set('primary')
    const error = await ask(node, 'Write', request).catch((reason: unknown) => reason as ServiceError)
    expect(error).toMatchObject({ code: 3 })
    expect(runs).toBe(0)
  })

  it('needs a fresh token of its own purpose where there is a key', async () => {
    const keys = ['the key of this cluster']
    const node = await nodes.start({ name: 'primary', keys })
    node.leadership.set('primary')
    const request = { database: 'app.db', procedure: { name: 'p', input: { number: 1 } } }
    const claims = { clusterId: '', nodeName: '' }
    const token = signToken(keys, 'call', claims, Date.now())
    expect(await ask(node, 'Write', request, token)).toMatchObject({ answer: { value: { number: 1 } } })
    for (const bad of [token, undefined, signToken(keys, 'channel', claims, Date.now())]) {
      await expect(ask(node, 'Write', request, bad)).rejects.toMatchObject({ code: 16 })
    }
  })
})

describe('Resolve', () => {
  const id = '0192aabbccdd11223344556600000001'
  const requestId = Buffer.from(id, 'hex')
  const question = { database: 'app.db', requestId }

  it('answers what became of a write, with what it answered, from any node', async () => {
    const asked: unknown[] = []
    const rows = [{ a: 1n }]
    const answers: Resolution[] = [
      { outcome: 'applied', result: { kind: 'procedure', value: { a: 1n } } },
      { outcome: 'applied', result: { kind: 'batch', results: [{ changes: 2, lastInsertRowid: 3, rows }] } },
      { outcome: 'applied', result: undefined },
      { outcome: 'not-applied' },
    ]
    const primary = await nodes.start({
      name: 'primary',
      resolve: (call) => {
        asked.push([call.database, call.requestId])
        return Promise.resolve({
          ...(answers[asked.length - 1] as Resolution),
          position: ZERO_POSITION,
          epoch: epoch(4),
        })
      },
    })
    primary.leadership.set('primary')
    const replica = (await nodes.start({ name: 'replica' })).follow(primary)
    const resolve = async () => ((await ask(replica, 'Resolve', question)) as { resolution: object }).resolution
    const common = { position: { txid: '0', checksum: '0' }, epoch: '4' }
    expect(await resolve()).toMatchObject({ applied: true, answer: 'value', ...common })
    expect(await resolve()).toMatchObject({
      applied: true,
      answer: 'results',
      results: { results: [{ changes: '2', columns: ['a'], rows: [{ values: [{ integer: '1' }] }] }] },
    })
    const dropped = await resolve()
    expect(dropped).toMatchObject({ applied: true })
    expect(dropped).not.toHaveProperty('answer')
    expect(await resolve()).toMatchObject({ applied: false, ...common })
    expect(asked).toEqual(answers.map(() => ['app.db', id]))
  })

  it('answers in the reply why it could not find out, and that the outcome is open', async () => {
    const node = await nodes.start({ name: 'replica' })
    expect(await ask(node, 'Resolve', { ...question, timeoutMs: 50 })).toMatchObject({
      failure: { kind: 'CLUSTER', code: 'WRITE_OUTCOME_UNKNOWN', outcome: 'unknown', retry: 'same-request-id' },
    })
  })

  it.each([
    ['no request id', { database: 'app.db' }],
    ['a short request id', { database: 'app.db', requestId: Buffer.alloc(3) }],
    ['a bad name', { database: 'a/b', requestId }],
  ])('with %s is INVALID_ARGUMENT', async (_, request) => {
    const node = await nodes.start({ name: 'primary' })
    await expect(ask(node, 'Resolve', request)).rejects.toMatchObject({ code: 3 })
  })
})

describe('Call', () => {
  it('runs a function where it was asked to, and answers its value or its error', async () => {
    const primary = await nodes.start({ name: 'primary', region: 'gru' })
    primary.leadership.set('primary')
    const replica = (await nodes.start({ name: 'replica' })).follow(primary)
    replica.members.replace([primary.members.self])
    for (const node of [primary, replica]) {
      node.functions.register('who', (input) => {
        if (input === null) throw new Error('null!')
        return { name: node.name, input }
      })
    }
    const call = async (target: object, input: object = { number: 1 }) => {
      const reply = (await ask(replica, 'Call', { ...target, functionName: 'who', input })) as {
        value?: object
        failure?: object
      }
      return reply.value === undefined ? reply.failure : decodePlainValue(reply.value)
    }
    expect(await call({ here: true })).toEqual({ name: 'replica', input: 1 })
    expect(await call({ primary: true })).toEqual({ name: 'primary', input: 1 })
    expect(await call({ region: 'gru' })).toEqual({ name: 'primary', input: 1 })
    expect(await call({ node: 'primary' })).toEqual({ name: 'primary', input: 1 })
    expect(await call({ node: 'nobody' })).toMatchObject({ kind: 'CLUSTER', code: 'NO_SUCH_NODE' })
    expect(await call({ primary: true }, { null: true })).toMatchObject({ kind: 'APPLICATION', message: 'null!' })
    await expect(call({})).rejects.toMatchObject({ code: 3 })
  })
})

function isWellFormed(value: unknown): boolean {
  if (typeof value === 'string') return value.isWellFormed()
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array || value instanceof Date) return true
  return Object.entries(value).every(([key, item]) => key.isWellFormed() && isWellFormed(item))
}

function withBuffers(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value)
  if (Array.isArray(value)) return value.map(withBuffers)
  if (typeof value !== 'object' || value === null || value instanceof Date) return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, withBuffers(item)]))
}
