/** The compact forms of values, writes, calls, answers and errors, as they cross between nodes and stand in the ledger. */
import {
  decodeFunctionAnswer,
  decodeFunctionCall,
  encodeFunctionAnswer,
  encodeFunctionCall,
} from '../../../packages/core/src/forward/call-codec.ts'
import { decodeFailure, encodeFailure } from '../../../packages/core/src/forward/error-reply.ts'
import {
  decodeResolve,
  decodeResolveAnswer,
  encodeResolve,
  encodeResolveAnswer,
} from '../../../packages/core/src/forward/resolve-codec.ts'
import { decodeCall, decodeWriteAnswer, WriteCodec } from '../../../packages/core/src/forward/write-codec.ts'
import { ClusterError, isClusterError } from '../../../packages/core/src/errors/cluster-error.ts'
import { checksum } from '../../../packages/core/src/position/checksum.ts'
import { epoch } from '../../../packages/core/src/position/epoch.ts'
import { txid } from '../../../packages/core/src/position/txid.ts'
import { databaseName } from '../../../packages/core/src/request/database-name.ts'
import { PlainReader } from '../../../packages/core/src/request/plain-reader.ts'
import type { PlainValue } from '../../../packages/core/src/request/plain-value.ts'
import { PlainWriter } from '../../../packages/core/src/request/plain-writer.ts'
import { decodeRequests, RequestJournal } from '../../../packages/core/src/request/request-journal.ts'
import { issuedAtMs, parseRequestId } from '../../../packages/core/src/request/request-id.ts'
import type { WriteResult } from '../../../packages/core/src/request/write-request.ts'
import { makeSqliteError } from '../../../packages/core/src/sqlite/sqlite-error.ts'
import { LedgerEntryEncoder, readLedgerEntry } from '../../../packages/core/src/write/ledger-entry.ts'
import { type FuzzTarget, promise } from '../target.ts'

const DATABASE = databaseName('app.db')
const ID = parseRequestId('0190aabbccdd0102030405060000000f')

/** An empty Uint8Array takes two bytes on the wire and some hundred in memory: nothing is larger for its bytes. */
const VALUES = { perByte: 256, constant: 2 * 1024 * 1024 }

const SAMPLES: readonly PlainValue[] = [
  null,
  [undefined, true, false, 0, -0, 191, 192, -5, 1e300, Number.NaN],
  { a: 1, b: [1n, -(1n << 63n), 1n << 200n], __proto__: null, ü: 'text', broken: '\ud800' },
  [new Uint8Array([1, 2, 3]), Buffer.from('abc'), new Date(1_700_000_000_000)],
  [[[[[[{ deep: [[[]]] }]]]]]],
  'a longer text, so that its length does not stand in one byte when it is written: '.repeat(2),
]

const RESULTS: readonly WriteResult[] = [
  { kind: 'procedure', value: SAMPLES[2] },
  {
    kind: 'batch',
    results: [
      { changes: 1, lastInsertRowid: 7 },
      { changes: 0, lastInsertRowid: 7n, rows: [] },
    ],
  },
  {
    kind: 'batch',
    results: [
      {
        changes: 0,
        lastInsertRowid: 0,
        rows: [
          { id: 1, name: 'a' },
          { id: 2n, name: null },
        ],
      },
    ],
  },
  { kind: 'batch', results: [{ changes: 0, lastInsertRowid: 0, rows: [{}, {}] }] },
]

const TOKENS = [
  Buffer.of(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f),
  Buffer.of(14, 0x80, 0x80, 0x04),
  Buffer.of(15, 1, 9, 9, ...Buffer.from('__proto__')),
  Buffer.of(11, 0),
  Buffer.of(14, 1),
  Buffer.of(1, 3, 0, 64, 1, 0, 5),
]

function written(value: PlainValue): Buffer {
  const writer = new PlainWriter()
  writer.value(value)
  return writer.copy()
}

function writeAnswers(): Buffer[] {
  const common = {
    database: DATABASE,
    epoch: epoch(7),
    level: 'local' as const,
    requestId: ID,
    replayed: false,
    uncounted: ['a', 'b'],
  }
  const position = { txid: txid(9n), checksum: checksum((1n << 63n) | 4n) }
  return RESULTS.map((result) => new WriteCodec().encodeAnswer({ ...common, position, result }))
}

function writeCalls(): Buffer[] {
  const call = { database: DATABASE, requestId: ID, idempotencyKey: 'key', await: { replicas: 2 }, timeoutMs: 5 }
  const statements = [
    { sql: 'insert into t values (?, ?)', params: [1, 'a'], safeIntegers: false },
    { sql: 'select 1', params: undefined, safeIntegers: true },
  ]
  const operations = [
    { kind: 'batch' as const, statements },
    { kind: 'procedure' as const, name: 'transfer', input: { from: 1, to: 2 } },
  ]
  return operations.map((operation) => new WriteCodec().encodeCall({ ...call, operation }))
}

function resolveAnswers(): Buffer[] {
  const at = { position: { txid: txid(9n), checksum: checksum((1n << 63n) | 4n) }, epoch: epoch(7) }
  return [
    { outcome: 'not-applied' as const, ...at },
    { outcome: 'applied' as const, result: undefined, ...at },
    ...RESULTS.map((result) => ({ outcome: 'applied' as const, result, ...at })),
  ].map((answer) => Buffer.from(encodeResolveAnswer(answer)))
}

function journals(): Buffer[] {
  const statements = [{ sql: 'insert into t values (:a)', params: { a: 1 }, safeIntegers: false }]
  const write = {
    requestId: ID,
    idempotencyKey: undefined,
    operation: { kind: 'batch' as const, statements },
    bytes: 50,
  }
  const large = { ...write, requestId: undefined, idempotencyKey: 'key', bytes: 1 << 30 }
  return [[], [write], [write, large, write]].map((writes) => new RequestJournal().encode(writes))
}

function checkResult(result: WriteResult): void {
  if (result.kind !== 'batch') return
  for (const { changes, rows } of result.results) {
    promise(Number.isSafeInteger(changes), 'changes are a number')
    promise(
      rows === undefined || (Array.isArray(rows) && rows.every((row) => typeof row === 'object' && row !== null)),
      'rows are objects',
    )
  }
}

export const valueTargets: readonly FuzzTarget[] = [
  {
    name: 'plain-value',
    codes: ['CORRUPT_DATA'],
    bound: VALUES,
    weight: 10,
    corpus: () => SAMPLES.map(written),
    tokens: TOKENS,
    run(input) {
      const reader = new PlainReader(input)
      const value = reader.value()
      if (reader.isAtEnd) written(value)
    },
  },
  {
    name: 'write-call',
    codes: ['CORRUPT_DATA', 'INVALID_DATABASE_NAME'],
    bound: VALUES,
    weight: 10,
    corpus: writeCalls,
    tokens: TOKENS,
    run(input) {
      const call = decodeCall(input, 1_000)
      promise(typeof call.await === 'string' || call.await.replicas >= 0, 'a level is one')
    },
  },
  {
    name: 'write-answer',
    codes: ['CORRUPT_DATA'],
    bound: VALUES,
    weight: 10,
    corpus: writeAnswers,
    tokens: TOKENS,
    run(input) {
      checkResult(decodeWriteAnswer(input, DATABASE).result)
    },
  },
  {
    name: 'resolve-question',
    codes: ['CORRUPT_DATA', 'INVALID_DATABASE_NAME'],
    bound: VALUES,
    weight: 3,
    corpus: () =>
      ID === undefined ? [] : [Buffer.from(encodeResolve({ database: DATABASE, requestId: ID, timeoutMs: 5 }))],
    tokens: TOKENS,
    run(input) {
      decodeResolve(input, 1_000)
    },
  },
  {
    name: 'resolve-answer',
    codes: ['CORRUPT_DATA'],
    bound: VALUES,
    weight: 6,
    corpus: resolveAnswers,
    tokens: TOKENS,
    run(input) {
      const answer = decodeResolveAnswer(input)
      if (answer.outcome === 'applied' && answer.result !== undefined) checkResult(answer.result)
    },
  },
  {
    name: 'request-journal',
    codes: ['CORRUPT_DATA'],
    bound: VALUES,
    weight: 6,
    corpus: journals,
    tokens: TOKENS,
    run(input) {
      decodeRequests(input)
    },
  },
  {
    name: 'function-call',
    codes: ['CORRUPT_DATA'],
    bound: VALUES,
    weight: 6,
    corpus: () => SAMPLES.map((input) => Buffer.from(encodeFunctionCall({ name: 'now', onPrimaryOnly: true, input }))),
    tokens: TOKENS,
    run(input) {
      decodeFunctionCall(input)
    },
  },
  {
    name: 'function-answer',
    codes: ['CORRUPT_DATA'],
    bound: VALUES,
    weight: 4,
    corpus: () => SAMPLES.map((value) => Buffer.from(encodeFunctionAnswer(value))),
    tokens: TOKENS,
    run(input) {
      decodeFunctionAnswer(input)
    },
  },
  {
    name: 'error-reply',
    codes: [],
    bound: VALUES,
    weight: 8,
    corpus: () => [
      Buffer.from(
        encodeFailure(new ClusterError('WRITE_QUEUE_FULL', 'full', { details: { waiting: 3 }, hint: 'Wait.' })),
      ),
      Buffer.from(encodeFailure(makeSqliteError('SQLITE_CONSTRAINT', 'not unique'))),
      Buffer.from(encodeFailure(Object.assign(new TypeError('no'), { code: 'E_NO' }))),
      Buffer.from(encodeFailure({ thrown: [1, 2] })),
    ],
    tokens: [
      ...TOKENS,
      ...['kind', 'cluster', 'code', 'message', 'name', 'details', 'toString'].map((text) =>
        Buffer.concat([Buffer.of(9, text.length), Buffer.from(text)]),
      ),
    ],
    run(input) {
      const error = decodeFailure(input)
      if (!isClusterError(error)) return
      promise(typeof error.details === 'object' && error.details !== null, 'details are an object')
      promise(error.hint === undefined || typeof error.hint === 'string', 'a hint is a text')
    },
  },
  {
    name: 'ledger-entry',
    codes: ['CORRUPT_DATA'],
    bound: VALUES,
    weight: 8,
    corpus: () => RESULTS.map((result) => new LedgerEntryEncoder(1 << 20).encode('0123456789abcdef', result)),
    tokens: TOKENS,
    run(input) {
      const result = readLedgerEntry(input)?.answer()
      if (result !== undefined) checkResult(result)
    },
  },
  {
    name: 'names-and-ids',
    codes: ['INVALID_DATABASE_NAME'],
    bound: { perByte: 32, constant: 1024 * 1024 },
    weight: 4,
    corpus: () =>
      ['0190aabbccdd0102030405060000000f', 'app.db', 'a-wal', '.hidden', 'ü.db'].map((text) => Buffer.from(text)),
    run(input) {
      const text = input.toString()
      const id = parseRequestId(text)
      if (id !== undefined) promise(Number.isSafeInteger(issuedAtMs(id)), 'an id has a time')
      databaseName(text)
    },
  },
]
