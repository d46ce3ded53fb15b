/**
 * How the fleet of one run is made: drawn from its seed.
 *
 * Times are shorter than the defaults of a real node, so that a minute of a run holds many timeouts; bounds are smaller,
 * so that they are met.
 */
import { resolveLogOptions } from '../../packages/core/src/log/log-options.ts'
import { resolvePeerOptions } from '../../packages/core/src/peer/peer-options.ts'
import { resolveStreamServerOptions } from '../../packages/core/src/stream/stream-server-options.ts'
import { resolveStreamSinkOptions } from '../../packages/core/src/stream/stream-sink-options.ts'
import { resolveLedgerOptions } from '../../packages/core/src/write/ledger-options.ts'
import { resolveWriteQueueOptions } from '../../packages/core/src/write/queue-options.ts'
import { SCHEMA } from './application.ts'
import type { Chance } from './chance.ts'
import type { NodeOptions } from './sim-node.ts'

export interface Settings {
  readonly machines: readonly string[]
  /** `static`: one machine is configured to be the primary, and moved by restarts. `elected`: a lease with a time to live. */
  readonly leadership: 'static' | 'elected'
  /** Where an operator chooses: among those that are there, by how far they have come; otherwise anybody may be the primary. */
  readonly isCareful: boolean
  /** Whose majority an elected primary needs; empty: everybody who is known, unless the candidate knows better. */
  readonly voters: readonly string[]
  /** For how much longer than it may a holder believes that it has the lease, in ms: then two nodes are in office, and only promises keep a majority. */
  readonly overstayMs: number
  readonly clients: number
  /** Virtual ms of faults. */
  readonly lengthMs: number
  readonly faultEveryMs: number
  readonly node: NodeOptions
}

export function drawSettings(chance: Chance): Settings {
  const count = chance.weighted([
    [1, 2],
    [6, 3],
    [1, 5],
  ])
  const machines = Array.from({ length: count }, (_, i) => `n${i + 1}`)
  const leadership = chance.happens(0.5) ? 'static' : 'elected'
  const hasVoters = chance.happens(0.7)
  return {
    machines,
    leadership,
    isCareful: leadership === 'static' && chance.happens(0.6),
    voters: leadership === 'elected' && hasVoters ? machines : [],
    overstayMs: leadership === 'elected' && hasVoters && chance.happens(0.4) ? chance.between(1_000, 6_000) : 0,
    clients: chance.between(2, 6),
    lengthMs: chance.between(10_000, 30_000),
    faultEveryMs: chance.pick([150, 300, 600]),
    node: {
      peer: resolvePeerOptions({
        keepaliveMs: 400,
        silenceMs: 1_200,
        connectTimeoutMs: 1_000,
        reconnectMinMs: 50,
        reconnectMaxMs: 500,
        inFlightMax: 32,
      }),
      log: resolveLogOptions({
        segmentBytes: chance.pick([4_096, 16_384, 65_536]),
        retentionMs: chance.pick([2_000, 10_000, 600_000]),
        retentionBytes: chance.pick([20_000, 1_000_000]),
        tailCacheBytes: chance.pick([0, 8_192, 1_000_000]),
      }),
      ledger: resolveLedgerOptions({
        retentionMs: chance.pick([60_000, 86_400_000]),
        retentionMinMs: 60_000,
        rowsMax: chance.pick([60, 10_000]),
        answerBytesMax: chance.pick([64, 65_536]),
      }),
      queue: resolveWriteQueueOptions({
        queueJobsMax: chance.pick([8, 1_000]),
        groupJobsMax: chance.pick([1, 4, 256]),
      }),
      streamServer: resolveStreamServerOptions({
        port: 0,
        heartbeatMs: 250,
        sendBufferBytes: 65_536,
        batchBytes: chance.pick([4_096, 16_384]),
        stallTimeoutMs: 2_000,
        requestTimeoutMs: 1_000,
        closeTimeoutMs: 500,
        snapshotBuildsMax: 1,
      }),
      streamSink: resolveStreamSinkOptions({
        heartbeatTimeoutMs: 1_200,
        connectTimeoutMs: 1_000,
        reconnectMinMs: 50,
        reconnectMaxMs: 500,
        closeTimeoutMs: 500,
      }),
      streamWindowBytes: chance.pick([8_192, 65_536]),
      pruneEveryMs: 1_000,
      schema: SCHEMA,
    },
  }
}
