/**
 * A candidate fetches what another node has more of one database, by the stream on which replicas follow a primary: records where they lead on, a
 * difference or a snapshot where not; what only the candidate has of another history goes into a divergence report.
 *
 * Relies on: the other node promised the candidate's epoch, so what it has does not change under it; the database is a replica's here, and followed
 * through nothing else.
 * Promises: resolves when the database here is whole and stands where the other one stood, or further; rejects when nothing arrives for
 * `PULL_STALL_MS`, or with the signal. Nothing is delivered any more after either.
 */
import { ClusterError, isClusterError } from '../errors/cluster-error.ts'
import type { Clock, Timer } from '../base/clock.ts'
import { type Epoch, NO_EPOCH } from '../position/epoch.ts'
import type { DatabaseStanding } from '../position/replica-report.ts'
import { StreamSink, type StreamSinkParts } from '../stream/stream-sink.ts'
import type { Followed } from './following.ts'
import { compare, type Pull } from './promotion-plan.ts'

export interface PulledDatabase extends Followed {
  standing(): DatabaseStanding
}

export interface PullParts {
  readonly stream: Omit<StreamSinkParts, 'primaryUrl' | 'onFailure' | 'candidate' | 'promised'>
  readonly clock: Clock
  /** Of the lease that this node holds. */
  readonly candidate: Epoch
  /** Calls back when any database here may have moved on. Answers how to stop. */
  onProgress(listener: () => void): () => void
}

const PULL_STALL_MS = 10_000
const LOOK_EVERY_MS = 250
/** Heartbeats and greetings of `PULL_STALL_MS` are less. */
const PROGRESS_BYTES = 64 * 1024

/** Throws `PROMOTION_REFUSED`, and what the signal was aborted with. */
export async function pull(
  { database: name, from, to }: Pull,
  database: PulledDatabase,
  parts: PullParts,
  signal: AbortSignal,
): Promise<void> {
  const { receiver } = database
  if (receiver === undefined) throw new ClusterError('NOT_PRIMARY', `database "${name}" is a primary's on this node`)
  let lastFailure: unknown
  const sink = new StreamSink({
    ...parts.stream,
    primaryUrl: from.httpUrl,
    candidate: parts.candidate,
    promised: () => NO_EPOCH,
    onFailure: (error) => {
      lastFailure = error
    },
  })
  const wanted = from.databases.find((standing) => standing.database === name)?.epoch ?? NO_EPOCH
  const isThere = (): boolean => {
    const own = database.standing()
    return own.isWhole && compare(own, { epoch: wanted, durable: to }) >= 0
  }
  sink.follow(database.name, receiver)
  try {
    const end = await until(isThere, () => progressOf(sink), parts, signal)
    if (end === 'stalled') {
      const why = isClusterError(lastFailure) ? `: ${lastFailure.summary}` : ''
      throw new ClusterError(
        'PROMOTION_REFUSED',
        `database "${name}": node "${from.nodeName}" has more of it, and does not give it${why}`,
        { cause: lastFailure, details: { database: name, peer: from.nodeName } },
      )
    }
  } finally {
    await sink.close()
  }
}

/** Records taken, and a snapshot under way in steps; the signs of life of a connection are none. */
function progressOf(sink: StreamSink): number {
  const [status] = sink.status()
  if (status === undefined) return 0
  return status.recordCount + status.snapshotCount + Math.floor(status.receivedBytes / PROGRESS_BYTES)
}

function until(
  isThere: () => boolean,
  received: () => number,
  { clock, onProgress }: PullParts,
  signal: AbortSignal,
): Promise<'there' | 'stalled'> {
  return new Promise((resolve, reject) => {
    let progress = received()
    let movedMs = clock.monotonicMs()
    let timer: Timer | undefined
    const end = (settle: () => void): void => {
      timer?.cancel()
      stop()
      signal.removeEventListener('abort', abort)
      settle()
    }
    const abort = (): void => end(() => reject(signal.reason as Error))
    const look = (): void => {
      if (isThere()) return end(() => resolve('there'))
      const nowMs = clock.monotonicMs()
      if (received() !== progress) movedMs = nowMs
      progress = received()
      if (nowMs - movedMs >= PULL_STALL_MS) end(() => resolve('stalled'))
    }
    const tick = (): void => {
      timer = clock.setTimer(LOOK_EVERY_MS, () => {
        tick()
        look()
      })
    }
    const stop = onProgress(look)
    signal.addEventListener('abort', abort, { once: true })
    if (signal.aborted) return abort()
    tick()
    look()
  })
}
