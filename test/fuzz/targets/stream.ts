/** What comes over HTTP: the body of a replication stream, position maps, headers, documents. */
import { NO_EPOCH } from '../../../packages/core/src/position/epoch.ts'
import { systemClock } from '../../../packages/core/src/base/clock.ts'
import { decodeLtxRecord } from '../../../packages/core/src/ltx/ltx-record.ts'
import { RecordChain } from '../../../packages/core/src/log/test-support/record-chain.ts'
import { checksum } from '../../../packages/core/src/position/checksum.ts'
import { epoch } from '../../../packages/core/src/position/epoch.ts'
import { txid } from '../../../packages/core/src/position/txid.ts'
import { signToken } from '../../../packages/core/src/request/cluster-token.ts'
import { isClusterError } from '../../../packages/core/src/errors/cluster-error.ts'
import { encodeChunked } from '../../../packages/core/src/stream-format/chunked-body.ts'
import { encodePositionMap, parsePositionMap } from '../../../packages/core/src/stream-format/position-map.ts'
import {
  encodeDropDb,
  encodeEnd,
  encodeHandoff,
  encodeHeartbeat,
  encodeHwm,
  encodeLtxFrameHeader,
  encodeReady,
  StreamFrameReader,
} from '../../../packages/core/src/stream-format/stream-frame.ts'
import { encodeEpochHeader, parseEpochHeader } from '../../../packages/core/src/stream/epoch-header.ts'
import type { Exchange } from '../../../packages/core/src/stream/exchange.ts'
import { FrameCollector } from '../../../packages/core/src/stream/frame-collector.ts'
import { parseNodeInfo } from '../../../packages/core/src/stream/node-info.ts'
import { PrimaryGreeting } from '../../../packages/core/src/stream/primary-greeting.ts'
import { StreamGate } from '../../../packages/core/src/stream/stream-gate.ts'
import { HEADER } from '../../../packages/core/src/stream/stream-protocol.ts'
import { chunksOf } from '../chunks.ts'
import { repairLtx } from '../ltx-inputs.ts'
import { type FuzzTarget, promise } from '../target.ts'

const DATABASE = 'app.db'
const RECORD_BYTES_MAX = 64 * 1024

function streamCorpus(): Buffer[] {
  const chain = new RecordChain()
  const head = encodeLtxFrameHeader(DATABASE)
  const bodies = [...chain.take(3), chain.next(4)].map((record) => encodeChunked(Buffer.from(record.bytes), head))
  return [
    Buffer.concat([
      encodeHwm(txid(0n), DATABASE),
      ...bodies,
      encodeReady(),
      encodeHeartbeat(1_700_000_000_000),
      encodeEnd(),
    ]),
    Buffer.concat([encodeDropDb(DATABASE), encodeHandoff('a-lease'), encodeReady()]),
    Buffer.concat([encodeReady(), ...bodies.slice(1), Buffer.from('database not found\n')]),
  ]
}

/** The LTX of each frame that is still one chunk. */
const repairStream: NonNullable<FuzzTarget['repair']> = (input, random) => {
  const stream = Buffer.from(input)
  const head = encodeLtxFrameHeader(DATABASE)
  for (let at = stream.indexOf(head); at >= 0; at = stream.indexOf(head, at + 1)) {
    const body = at + head.length
    if (body + 2 > stream.length) break
    const ltx = stream.subarray(body + 2, body + 2 + stream.readUInt16BE(body))
    const repaired = repairLtx(ltx, random)
    if (repaired.length === ltx.length) repaired.copy(ltx)
  }
  return stream
}

const quiet = {
  ltxBegin: () => undefined,
  ltxEnd: () => undefined,
  ready: () => undefined,
  end: () => undefined,
  dropDb: () => undefined,
  handoff: () => undefined,
  hwm: () => undefined,
  heartbeat: () => undefined,
}

function readFrames(input: Buffer): void {
  let bytes = 0
  const reader = new StreamFrameReader({
    ...quiet,
    ltxData: (data) => {
      promise(data.length > 0, 'data is never empty')
      bytes += data.length
    },
  })
  for (const chunk of chunksOf(input)) reader.push(chunk)
  promise(bytes <= input.length, 'no more data than input')
}

function collect(input: Buffer): void {
  const collector = new FrameCollector(DATABASE, RECORD_BYTES_MAX)
  for (const chunk of chunksOf(input)) {
    collector.push(chunk)
    for (const delivery of collector.take()) {
      if (delivery.kind !== 'records') continue
      for (const record of delivery.records) {
        promise(record.length <= RECORD_BYTES_MAX, 'a record within its bound')
        decodeLtxRecord(record)
      }
    }
  }
}

/** Headers as Node gives them: lower case, text; from lines `name: value`. */
function headersOf(input: Buffer): Record<string, string> {
  const headers: Record<string, string> = Object.create(null) as Record<string, string>
  for (const line of input.toString('latin1').split('\n')) {
    const colon = line.indexOf(': ')
    if (colon > 0) headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 2)
  }
  return headers
}

const NOW_MS = 1_700_000_000_000
const KEYS = ['a key of some length']
const CLAIMS = { clusterId: 'LFSC0123456789ABCDEF', nodeName: 'gru-1' }

/** The nonce is cut out of a fixed token, because corpora are the same in every process. */
function token(): string {
  return `lf1.${NOW_MS.toString(36)}.AAAAAAAAAAAAAAAA.${Buffer.from(CLAIMS.clusterId).toString('base64url')}.Z3J1LTE.${'A'.repeat(43)}`
}

const headerLines = (headers: Readonly<Record<string, string>>): Buffer =>
  Buffer.from(
    Object.entries(headers)
      .map(([name, value]) => `${name}: ${value}`)
      .join('\n'),
  )

const epochTables = () =>
  new Map([
    [
      DATABASE,
      [
        { epoch: epoch(3), firstTxid: txid(1n), checksumBefore: checksum(0n) },
        { epoch: epoch(9), firstTxid: txid(77n), checksumBefore: checksum((1n << 63n) | 5n) },
      ],
    ],
    ['ü 1.db', []],
  ])

const NODE_INFO = JSON.stringify({
  clusterID: CLAIMS.clusterId,
  isPrimary: true,
  candidate: true,
  path: '/data',
  primary: { hostname: 'gru-1' },
  litefleet: {
    protocol: 1,
    name: 'gru-1',
    grpc: '127.0.0.1:1',
    databases: { 'app.db': { position: '0000000000000001/8000000000000001', epoch: 4 } },
  },
})

export const streamTargets: readonly FuzzTarget[] = [
  {
    name: 'stream-frames',
    codes: ['STREAM_FAILED'],
    // A frame of 17 bytes makes a number and a text.
    bound: { perByte: 64, constant: 2 * 1024 * 1024 },
    weight: 6,
    corpus: streamCorpus,
    run: readFrames,
  },
  {
    name: 'frame-collector',
    codes: ['STREAM_FAILED', 'CORRUPT_DATA'],
    // A record may be compressed (see ltx-record); READY, the smallest frame, makes a delivery of four bytes.
    bound: { perByte: 3 * 255, constant: 12 * 1024 * 1024 },
    weight: 6,
    corpus: streamCorpus,
    repair: repairStream,
    run: collect,
  },
  {
    name: 'position-map',
    codes: ['INVALID_REQUEST'],
    bound: { perByte: 32, constant: 1024 * 1024 },
    weight: 6,
    corpus: () => [
      encodePositionMap(new Map()),
      encodePositionMap(
        new Map(['a', 'b.db', 'ü'].map((name, i) => [name, { txid: txid(BigInt(i)), checksum: checksum(1n << 63n) }])),
      ),
    ],
    run(input) {
      const map = parsePositionMap(input)
      promise(encodePositionMap(map).length === input.length, 'a map is as long as its text')
    },
  },
  {
    name: 'epoch-header',
    codes: [],
    bound: { perByte: 200, constant: 1024 * 1024 },
    weight: 5,
    corpus: () => [Buffer.from(encodeEpochHeader(epochTables()))],
    tokens: [';', '=', ',', ':', '%', '%00', '8000000000000000', '9007199254740993'].map((text) => Buffer.from(text)),
    run(input) {
      parseEpochHeader(input.toString('latin1'))
    },
  },
  {
    name: 'node-info',
    codes: [],
    bound: { perByte: 100, constant: 1024 * 1024 },
    weight: 4,
    corpus: () => [Buffer.from(NODE_INFO), Buffer.from('{"isPrimary":false}')],
    tokens: ['{', '}', '[', ']', '"', ':', ',', 'null', '1e999', '"__proto__":', '\\u0000', '{"isPrimary":true}'].map(
      (text) => Buffer.from(text),
    ),
    run(input) {
      const info = parseNodeInfo(input.toString())
      if (info === undefined) return
      promise(typeof info.path === 'string' && typeof info.primaryHostname === 'string', 'texts are texts')
    },
  },
  {
    name: 'stream-headers',
    codes: ['CLUSTER_MISMATCH', 'PROTOCOL_MISMATCH', 'UNAUTHENTICATED', 'NOT_PRIMARY', 'STREAM_FAILED'],
    bound: { perByte: 200, constant: 1024 * 1024 },
    weight: 3,
    corpus: () => [
      headerLines({
        [HEADER.clusterId]: CLAIMS.clusterId,
        [HEADER.nodeId]: '0123456789abcdef',
        [HEADER.protocol]: '1',
        [HEADER.epochs]: encodeEpochHeader(epochTables()),
        ':status': '200',
      }),
      headerLines({ ':status': '503' }),
      headerLines({ ':status': '200', [HEADER.clusterId]: CLAIMS.clusterId }),
    ],
    async run(input) {
      const greeting = new PrimaryGreeting({
        keys: [],
        interop: input.length % 2 === 0,
        clusterId: () => undefined,
        promised: () => NO_EPOCH,
        adoptClusterId: () => undefined,
      })
      await greeting.check(headersOf(input), DATABASE, undefined, () => Promise.resolve('refused'))
    },
  },
  {
    name: 'stream-gate',
    codes: [],
    bound: { perByte: 100, constant: 1024 * 1024 },
    weight: 3,
    corpus: () => [
      headerLines({ [HEADER.node]: 'gru-1', [HEADER.token]: token() }),
      headerLines({ [HEADER.node]: '%C3%BC', [HEADER.protocol]: '1' }),
    ],
    run(input) {
      const clock = { ...systemClock, nowMs: () => NOW_MS }
      const headers = headersOf(input)
      for (const keys of [[], KEYS]) {
        const gate = new StreamGate(keys, input.length % 2 === 0, () => CLAIMS.clusterId, clock)
        const admission = gate.admit({ headers } as unknown as Exchange)
        promise(keys.length === 0 || admission.kind !== 'litefleet', 'nobody gets in without the key')
      }
      tampered(input, clock.nowMs())
    },
  },
]

/** A token that was signed and then changed by as much as this input says. */
function tampered(input: Buffer, nowMs: number): void {
  const signed = signToken(KEYS, 'stream', CLAIMS, nowMs)!
  // In front of the mac, which is base64url and so has more than one text.
  const at = (input[0] ?? 0) % signed.lastIndexOf('.')
  const changed = `${signed.slice(0, at)}${String.fromCharCode(33 + ((input[1] ?? 0) % 90))}${signed.slice(at + 1)}`
  const gate = new StreamGate(KEYS, false, () => undefined, { ...systemClock, nowMs: () => nowMs })
  try {
    const { kind } = gate.admit({ headers: { [HEADER.token]: changed } } as unknown as Exchange)
    promise(kind === 'refused' || changed === signed, 'a changed token is refused')
  } catch (error) {
    if (!isClusterError(error, 'UNAUTHENTICATED')) throw error
  }
}
