/** Divergence reports: JSON documents and lines that people keep, copy and edit. */
import {
  decodeReport,
  decodeRequestLine,
  encodeReport,
  encodeRequestLine,
  readReplays,
  REPLAY_FILE,
  replayLine,
} from '../../../packages/core/src/divergence/divergence-report.ts'
import { checksum } from '../../../packages/core/src/position/checksum.ts'
import { epoch } from '../../../packages/core/src/position/epoch.ts'
import { txid } from '../../../packages/core/src/position/txid.ts'
import { parseRequestId } from '../../../packages/core/src/request/request-id.ts'
import { type FuzzTarget, promise } from '../target.ts'

const JSON_BOUND = { perByte: 200, constant: 2 * 1024 * 1024 }
const POSITION = { txid: txid(9n), checksum: checksum((1n << 63n) | 4n) }
const ID = parseRequestId('0190aabbccdd0102030405060000000f')
const TOKENS = [
  '$bytes',
  '$bigint',
  '$number',
  '$date',
  '$undefined',
  '$object',
  '__proto__',
  '[',
  '{"a":',
  'null',
  '"sql"',
  '1e999',
].map((text) => Buffer.from(text))
const FILE = 'fuzz'

function report(): Buffer {
  return encodeReport({
    id: 'parted-9',
    database: 'app.db',
    foundAtMs: 1_700_000_000_000,
    kind: 'parted',
    reason: 'because',
    shared: POSITION,
    isExact: true,
    here: POSITION,
    hereEpoch: epoch(3),
    primary: undefined,
    primaryEpoch: epoch(4),
    transactions: { first: txid(5n), last: txid(9n) },
    missing: 0,
    requests: 2,
  })
}

function requestLines(): Buffer[] {
  const common = {
    txid: txid(9n),
    epoch: epoch(3),
    committedAtMs: 1_700_000_000_000,
    requestId: ID,
    idempotencyKey: 'key',
  }
  const params = [1, -0, 2n, null, 'x', new Uint8Array(3), Number.NaN]
  const input = { $a: 1, when: new Date(5), list: [undefined, { $bytes: 'x' }] }
  return [
    { ...common, operation: undefined },
    { ...common, operation: { kind: 'batch' as const, statements: [{ sql: 'select ?', params, safeIntegers: true }] } },
    { ...common, operation: { kind: 'procedure' as const, name: 'p', input } },
  ].map((request) => Buffer.from(encodeRequestLine(request)))
}

function replays(): Buffer {
  const replay = { txid: txid(9n), index: 0, atMs: 1_700_000_000_000, reason: 'why' }
  return Buffer.from(
    `${replayLine({ ...replay, outcome: 'applied' })}\n${replayLine({ ...replay, outcome: 'refused' })}\n{"txid":`,
  )
}

export const reportTargets: readonly FuzzTarget[] = [
  {
    name: 'divergence-report',
    codes: ['CORRUPT_DATA'],
    bound: JSON_BOUND,
    weight: 3,
    corpus: () => [report()],
    tokens: TOKENS,
    run(input) {
      const { transactions, requests } = decodeReport(input, FILE)
      promise(transactions === undefined || typeof transactions.first === 'bigint', 'TXIDs are numbers')
      promise(Number.isSafeInteger(requests), 'counts are numbers')
    },
  },
  {
    name: 'divergence-request',
    codes: ['CORRUPT_DATA'],
    bound: JSON_BOUND,
    weight: 4,
    corpus: requestLines,
    tokens: TOKENS,
    run(input) {
      const { operation } = decodeRequestLine(input.toString(), FILE)
      if (operation?.kind === 'batch')
        promise(
          operation.statements.every(({ sql }) => typeof sql === 'string'),
          'SQL is text',
        )
    },
  },
  {
    name: 'divergence-replays',
    codes: [],
    bound: JSON_BOUND,
    weight: 2,
    corpus: () => [replays()],
    tokens: TOKENS,
    run(input) {
      const disk = { readWhole: (_: string, file: string) => (file.endsWith(REPLAY_FILE) ? input : undefined) }
      for (const { index } of readReplays(disk, '/')) promise(typeof index === 'number', 'an index is a number')
    },
  },
]
