/**
 * gRPC: messages as they arrive. Protobuf itself is the library's (what it refuses becomes a status before anybody here sees it);
 * what it lets through is translated by this package and must be a value or `INVALID_REQUEST`.
 */
import { systemClock } from '../../../packages/core/src/base/clock.ts'
import { UnaryDoor } from '../../../packages/core/src/forward/unary-door.ts'
import { decodeWireFailure, encodeWireFailure } from '../../../packages/core/src/forward/unary-failure.ts'
import { decodeResolution, encodeResolution } from '../../../packages/core/src/forward/unary-resolve.ts'
import { decodeWriteAnswer, encodeWriteAnswer } from '../../../packages/core/src/forward/unary-write.ts'
import type { WriteAnswer } from '../../../packages/core/src/forward/write-call.ts'
import { ClusterError } from '../../../packages/core/src/errors/cluster-error.ts'
import { databaseName } from '../../../packages/core/src/request/database-name.ts'
import {
  decodeStatus,
  encodeStatus,
  type NodeStatus,
  type WireStatus,
} from '../../../packages/core/src/peer/node-status.ts'
import { loadPeerProtocol, type PeerProtocol } from '../../../packages/core/src/peer/protocol.ts'
import type {
  WireCallRequest,
  WireFailure,
  WireResolution,
  WireResolveRequest,
  WireWriteAnswer,
  WireWriteRequest,
} from '../../../packages/core/src/peer/unary-messages.ts'
import {
  decodeHello,
  decodeMember,
  decodeReport,
  encodeHello,
  encodeMember,
  encodeReport,
  type PeerMessage,
} from '../../../packages/core/src/peer/wire-messages.ts'
import { encodePlainValue } from '../../../packages/core/src/forward/unary-values.ts'
import { checksum } from '../../../packages/core/src/position/checksum.ts'
import { epoch } from '../../../packages/core/src/position/epoch.ts'
import { txid } from '../../../packages/core/src/position/txid.ts'
import { type FuzzTarget, promise } from '../target.ts'

/** Loaded by the first target that is run, because it takes some tens of ms. */
class Lazy {
  #protocol: PeerProtocol | undefined

  get protocol(): PeerProtocol {
    this.#protocol ??= loadPeerProtocol()
    return this.#protocol
  }
}
const lazy = new Lazy()

/** Objects with 64-bit numbers as text are large for their bytes; an empty member of a list takes two. */
const MESSAGES = { perByte: 600, constant: 4 * 1024 * 1024 }

const POSITION = { txid: txid(9n), checksum: checksum((1n << 63n) | 4n) }
const CARD = {
  nodeId: '0123456789abcdef',
  nodeName: 'a',
  region: 'gru',
  grpcAddress: '127.0.0.1:1',
  httpUrl: 'http://127.0.0.1:2',
  isCandidate: true,
  role: 'replica' as const,
}
const REPORT = { database: 'app.db', epoch: epoch(3), durable: POSITION, applied: POSITION }
const MEMBER = { ...CARD, positions: [REPORT] }
const START = { epoch: epoch(3), firstTxid: txid(1n), checksumBefore: checksum(0n) }
const HELLO = {
  ...CARD,
  protocolVersion: 1,
  clusterId: 'LFSC0123456789ABCDEF',
  databases: [{ database: 'app.db', epochs: [START] }],
  tokenAnswer: '',
}
const STATUS: NodeStatus = {
  protocolVersion: 1,
  clusterId: HELLO.clusterId,
  nodeId: CARD.nodeId,
  nodeName: 'a',
  region: 'gru',
  role: 'primary',
  roleDetail: '',
  term: epoch(9),
  primary: CARD,
  databases: [
    {
      name: 'app.db',
      state: 'ready',
      stateReason: '',
      position: POSITION,
      epoch: epoch(3),
      durable: POSITION,
      lagMs: 3,
      pageSize: 4096,
      pageCount: 5,
      logBytes: 6,
      logRecords: 7,
      walBytes: 8,
      queuedWrites: 0,
      divergences: 0,
      epochs: HELLO.databases[0]?.epochs ?? [],
      replicas: [
        {
          nodeId: 'b',
          nodeName: 'b',
          region: '',
          counted: true,
          durable: POSITION,
          applied: undefined,
          epoch: epoch(3),
        },
      ],
    },
  ],
  members: [MEMBER],
  process: {
    pid: 1,
    uptimeMs: 2,
    rssBytes: 3,
    litefleetVersion: '1',
    nodeVersion: '2',
    sqliteVersion: '3',
    platform: 'linux-x64',
  },
}

/** What gRPC hands on; `undefined` when the library refuses the bytes. */
function parsed<T>(deserialize: (bytes: Buffer) => unknown, input: Buffer): T | undefined {
  try {
    return deserialize(input) as T
  } catch {
    return undefined
  }
}

function channelMessages(): Buffer[] {
  const { requestSerialize } = lazy.protocol.peer['Channel']!
  const messages: PeerMessage[] = [
    { hello: encodeHello(HELLO) },
    { positions: { reports: [encodeReport(REPORT), encodeReport(REPORT)] } },
    { membership: { members: [encodeMember(MEMBER)] } },
    { requests: { requests: [{ id: 1, timeoutMs: 5, kind: 'REQUEST_KIND_WRITE', body: Buffer.from('body') }] } },
    {
      replies: {
        replies: [
          { id: 1, answer: Buffer.from('a') },
          { id: 2, refusal: { code: 'CLOSED', message: 'm' } },
        ],
      },
    },
    { ping: { nonce: 4 } },
    { goodbye: { reason: 'closing' } },
  ]
  return messages.map((message) => Buffer.from(requestSerialize(message)))
}

function takeMessage(message: PeerMessage): void {
  if (message.hello !== undefined) {
    const { databases } = decodeHello(message.hello)
    promise(
      databases.every(({ epochs }) => epochs.every((start) => Number.isSafeInteger(start.epoch))),
      'epochs are numbers',
    )
  }
  for (const report of message.positions?.reports ?? []) decodeReport(report)
  for (const member of message.membership?.members ?? []) decodeMember(member)
}

const VALUE = encodePlainValue({
  list: [1, 2n, 'x', null, undefined, true],
  when: new Date(5),
  bytes: new Uint8Array(3),
})
const WRITE_COMMON = {
  database: 'app.db',
  requestId: Buffer.alloc(16, 1),
  idempotencyKey: 'k',
  awaitLevel: { replicas: 2 },
  timeoutMs: 5,
}
const NO_ANSWER = { changes: 0, lastInsertRowid: 0 }
const DATABASE = databaseName('app.db')
const ANSWER: WriteAnswer = {
  database: DATABASE,
  result: { kind: 'batch', results: [NO_ANSWER, { ...NO_ANSWER, rows: [{ a: 1, b: 'x' }] }] },
  position: POSITION,
  epoch: epoch(3),
  level: 'local',
  uncounted: ['b'],
  requestId: undefined,
  replayed: false,
}
const FAILURES: readonly object[] = [
  { failure: encodeWireFailure(new ClusterError('WRITE_QUEUE_FULL', 'full', { details: { waiting: 3 } })) },
  { failure: encodeWireFailure(new TypeError('no')) },
]

function door(): UnaryDoor {
  return new UnaryDoor({
    clock: systemClock,
    nodeName: 'a',
    forwarder: {
      write: (call) =>
        Promise.resolve({
          database: call.database,
          result: { kind: 'batch', results: [NO_ANSWER] },
          position: POSITION,
          epoch: epoch(3),
          level: 'local',
          uncounted: [],
          requestId: call.requestId,
          replayed: false,
        }),
      call: (_target, _name, input) => Promise.resolve(input),
      resolve: () => Promise.resolve({ outcome: 'not-applied', position: POSITION, epoch: epoch(3) }),
    },
  })
}

export const peerTargets: readonly FuzzTarget[] = [
  {
    name: 'channel-message',
    codes: ['INVALID_REQUEST'],
    bound: MESSAGES,
    weight: 5,
    corpus: channelMessages,
    run(input) {
      const message = parsed<PeerMessage>(lazy.protocol.peer['Channel']!.requestDeserialize, input)
      if (message !== undefined) takeMessage(message)
    },
  },
  {
    name: 'unary-write',
    codes: ['INVALID_REQUEST', 'INVALID_DATABASE_NAME'],
    bound: MESSAGES,
    weight: 4,
    corpus: () => {
      const { requestSerialize } = lazy.protocol.peer['Write']!
      const statement = {
        sql: 'select ?',
        positional: [{ number: 1 }, { integer: '5' }, { blob: Buffer.from('b') }],
        named: [],
        safeIntegers: false,
      }
      const named = {
        ...statement,
        positional: [],
        named: [
          { name: 'a', value: { text: 't' } },
          { name: 'b', value: { null: true } },
        ],
      }
      return [
        { ...WRITE_COMMON, batch: { statements: [statement, named] } },
        { ...WRITE_COMMON, awaitLevel: { named: 'NAMED_LEVEL_ALL' }, procedure: { name: 'p', input: VALUE } },
      ].map((request) => Buffer.from(requestSerialize(request)))
    },
    async run(input) {
      const request = parsed<WireWriteRequest>(lazy.protocol.peer['Write']!.requestDeserialize, input)
      if (request !== undefined)
        lazy.protocol.peer['Write']!.responseSerialize(await door().write(request, systemClock.monotonicMs() + 50))
    },
  },
  {
    name: 'unary-call',
    codes: ['INVALID_REQUEST'],
    bound: MESSAGES,
    weight: 4,
    corpus: () => {
      const { requestSerialize } = lazy.protocol.peer['Call']!
      return [
        { primary: {}, functionName: 'f', input: VALUE, timeoutMs: 1 },
        { region: 'gru', functionName: 'f', input: VALUE, timeoutMs: 1 },
      ].map((request) => Buffer.from(requestSerialize(request)))
    },
    async run(input) {
      const request = parsed<WireCallRequest>(lazy.protocol.peer['Call']!.requestDeserialize, input)
      if (request !== undefined)
        lazy.protocol.peer['Call']!.responseSerialize(await door().call(request, systemClock.monotonicMs() + 50))
    },
  },
  {
    name: 'unary-resolve',
    codes: ['INVALID_REQUEST', 'INVALID_DATABASE_NAME'],
    bound: MESSAGES,
    weight: 2,
    corpus: () => {
      const { requestSerialize } = lazy.protocol.peer['Resolve']!
      return [Buffer.from(requestSerialize({ database: 'app.db', requestId: Buffer.alloc(16, 1), timeoutMs: 5 }))]
    },
    async run(input) {
      const request = parsed<WireResolveRequest>(lazy.protocol.peer['Resolve']!.requestDeserialize, input)
      if (request !== undefined) await door().resolve(request, systemClock.monotonicMs() + 50)
    },
  },
  {
    name: 'unary-write-reply',
    codes: ['INVALID_REQUEST'],
    bound: MESSAGES,
    weight: 4,
    corpus: () => {
      const { responseSerialize } = lazy.protocol.peer['Write']!
      return [ANSWER, { ...ANSWER, result: { kind: 'procedure' as const, value: [1, 'x'] } }]
        .map((answer): object => ({ answer: encodeWriteAnswer(answer) }))
        .concat(FAILURES)
        .map((reply) => Buffer.from(responseSerialize(reply)))
    },
    run(input) {
      const reply = parsed<{ answer?: WireWriteAnswer | null; failure?: WireFailure | null }>(
        lazy.protocol.peer['Write']!.responseDeserialize,
        input,
      )
      if (reply?.answer) decodeWriteAnswer(reply.answer, DATABASE)
      if (reply?.failure) decodeWireFailure(reply.failure)
    },
  },
  {
    name: 'unary-resolve-reply',
    codes: ['INVALID_REQUEST'],
    bound: MESSAGES,
    weight: 3,
    corpus: () => {
      const { responseSerialize } = lazy.protocol.peer['Resolve']!
      const at = { position: POSITION, epoch: epoch(3) }
      return [
        encodeResolution({ outcome: 'not-applied', ...at }),
        encodeResolution({ outcome: 'applied', result: ANSWER.result, ...at }),
        encodeResolution({ outcome: 'applied', result: { kind: 'procedure', value: 1n }, ...at }),
      ]
        .map((resolution): object => ({ resolution }))
        .concat(FAILURES)
        .map((reply) => Buffer.from(responseSerialize(reply)))
    },
    run(input) {
      const reply = parsed<{ resolution?: WireResolution | null; failure?: WireFailure | null }>(
        lazy.protocol.peer['Resolve']!.responseDeserialize,
        input,
      )
      if (reply?.resolution) decodeResolution(reply.resolution)
      if (reply?.failure) decodeWireFailure(reply.failure)
    },
  },
  {
    name: 'status-answer',
    codes: ['INVALID_REQUEST'],
    bound: MESSAGES,
    weight: 4,
    corpus: () => [Buffer.from(lazy.protocol.admin['Status']!.responseSerialize(encodeStatus(STATUS)))],
    run(input) {
      const wire = parsed<WireStatus>(lazy.protocol.admin['Status']!.responseDeserialize, input)
      if (wire !== undefined) decodeStatus(wire)
    },
  },
]
