/**
 * Keeps one database of this node following the primary: connect, tell the position, take what comes, again after every loss.
 *
 * A receiver that has a copy but must be seeded first asks for the difference between the copy and the primary's database, and
 * for a snapshot only when there is none (difference-route.ts).
 *
 * Promises: each connection tells the receiver's position of that moment; the next one begins only when the receiver has
 * finished with the one before.
 */
import type { ClientHttp2Session, ClientHttp2Stream, IncomingHttpHeaders } from 'node:http2'
import { RunLoop } from '../base/run-loop.ts'
import type { Clock, Timer } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { PageChecksums } from '../ltx/page-checksums.ts'
import type { Epoch } from '../position/epoch.ts'
import type { Position } from '../position/position.ts'
import { ZERO_TXID } from '../position/txid.ts'
import { type ClusterKeys, signToken } from '../request/cluster-token.ts'
import type { DatabaseName } from '../request/database-name.ts'
import { encodePositionMap } from '../stream-format/position-map.ts'
import { DIFFERENCE_PATH } from './difference-route.ts'
import type { Delivery } from './frame-collector.ts'
import type { PrimaryGreeting } from './primary-greeting.ts'
import type { PrimaryLink } from './primary-link.ts'
import { StreamIntake } from './stream-intake.ts'
import { takeSpool } from './take-spool.ts'
import { HEADER, STREAM_PROTOCOL } from './stream-protocol.ts'
import type { StreamReceiver } from './stream-receiver.ts'
import type { ResolvedStreamSinkOptions } from './stream-sink-options.ts'

export interface DatabaseFollowerParts {
  readonly database: DatabaseName
  readonly receiver: StreamReceiver
  readonly link: PrimaryLink
  readonly greeting: PrimaryGreeting
  readonly keys: ClusterKeys
  /** LiteFS node id of this node. */
  readonly nodeId: string
  readonly nodeName: string
  readonly clusterId: () => string | undefined
  readonly candidate?: Epoch | undefined
  readonly clock: Clock
  readonly random: () => number
  readonly options: ResolvedStreamSinkOptions
  /** A LiteFS primary gives its lease to this node. */
  readonly onHandoff: (leaseId: string) => void
  readonly onFailure: (error: unknown, delayMs: number) => void
}

export interface FollowerStatus {
  readonly database: DatabaseName
  readonly isConnected: boolean
  /** Everything that was missing when this connection was made has been taken. */
  readonly isReady: boolean
  /** Clock of this node minus the clock of the primary at its last sign; `undefined` before the first. Grows while disconnected. */
  readonly lagMs: number | undefined
  readonly receivedBytes: number
  readonly recordCount: number
  readonly snapshotCount: number
  /** Of the last connection that failed. */
  readonly lastError: unknown
}

const REFUSAL_BYTES_MAX = 1024
/** A primary that does not know differences, not the database, or has none that leads on from this copy: a snapshot will do. */
const NO_DIFFERENCE: ReadonlySet<number> = new Set([404, 405, 409, 413])
/** Page checksums have to arrive, and a place among the copies under way has to become free. */
const DIFFERENCE_TIMEOUT_MS = 120_000
/** Deliveries after which the next failure is a new trouble, not the same one going on. */
const PROGRESS: ReadonlySet<Delivery['kind']> = new Set(['records', 'snapshot-end', 'ready'])

export class DatabaseFollower {
  readonly #parts: DatabaseFollowerParts
  readonly #loop: RunLoop
  #isConnected = false
  #isReady = false
  #primaryClockMs: number | undefined
  #receivedBytes = 0
  #recordCount = 0
  #snapshotCount = 0
  #lastError: unknown

  constructor(parts: DatabaseFollowerParts) {
    this.#parts = parts
    this.#loop = new RunLoop({
      clock: parts.clock,
      minDelayMs: parts.options.reconnectMinMs,
      maxDelayMs: parts.options.reconnectMaxMs,
      random: parts.random,
      onFailure: (error, delayMs) => {
        this.#lastError = error
        parts.onFailure(error, delayMs)
      },
      task: (signal, progress) => this.#follow(signal, progress),
    })
  }

  start(): void {
    this.#loop.start()
  }

  /** Resolves when the receiver is no longer called. */
  stop(): Promise<void> {
    return this.#loop.stop()
  }

  status(): FollowerStatus {
    const clockMs = this.#primaryClockMs
    return {
      database: this.#parts.database,
      isConnected: this.#isConnected,
      isReady: this.#isReady,
      lagMs: clockMs === undefined ? undefined : this.#parts.clock.nowMs() - clockMs,
      receivedBytes: this.#receivedBytes,
      recordCount: this.#recordCount,
      snapshotCount: this.#snapshotCount,
      lastError: this.#lastError,
    }
  }

  async #follow(signal: AbortSignal, progress: () => void): Promise<void> {
    const base = await this.#parts.receiver.differenceBase?.()
    if (base === undefined || !(await this.#takeDifference(base, signal))) return this.#stream(signal, progress)
    progress()
    this.#snapshotCount++
    await this.#stream(signal, progress)
  }

  /** Seeds the copy here by what differs. False: the primary has no difference to it. */
  async #takeDifference(base: PageChecksums, signal: AbortSignal): Promise<boolean> {
    const { database, receiver, greeting, clock, options } = this.#parts
    const session = await this.#parts.link.session(signal)
    const token = this.#token()
    const path = `${DIFFERENCE_PATH}?name=${encodeURIComponent(database)}&page-size=${base.pageSize}`
    const stream = this.#request(session, { ...this.#callerHeaders(token), ':path': path })
    return this.#during(stream, signal, async () => {
      stream.end(base.toBuffer())
      const headers = await this.#whileAlive(session, stream, () => this.#response(stream, DIFFERENCE_TIMEOUT_MS))
      if (NO_DIFFERENCE.has(Number(headers[':status']))) return false
      const greeted = await greeting.check(headers, database, token, () => this.#refusal(stream))
      await receiver.connected?.(greeted)
      await takeSpool(stream, receiver.beginSnapshot(base), {
        timeoutMs: options.heartbeatTimeoutMs,
        clock,
        onBytes: (bytes) => {
          this.#receivedBytes += bytes
          this.#parts.link.markAlive()
        },
      })
      return true
    })
  }

  async #stream(signal: AbortSignal, progress: () => void): Promise<void> {
    const { database, receiver, link, greeting, clock, options } = this.#parts
    const session = await link.session(signal)
    const token = this.#token()
    const stream = this.#request(session, this.#streamHeaders(token))
    await this.#during(stream, signal, async () => {
      stream.end(encodePositionMap(this.#positions()))
      const headers = await this.#response(stream, options.heartbeatTimeoutMs)
      link.markAlive()
      const greeted = await greeting.check(headers, database, token, () => this.#refusal(stream))
      await receiver.connected?.(greeted)
      link.markHealthy()
      this.#isConnected = true
      await new StreamIntake({
        stream,
        database,
        receiver,
        recordBytesMax: options.recordBytesMax,
        heartbeatTimeoutMs: options.heartbeatTimeoutMs,
        clock,
        onHandoff: (leaseId) => {
          if (greeted.kind === 'litefs') this.#parts.onHandoff(leaseId)
        },
        onBytes: (bytes) => {
          this.#receivedBytes += bytes
          link.markAlive()
        },
        onDelivered: (delivery) => {
          this.#observe(delivery)
          // Not earlier: a receiver that fails with every snapshot must not be sent one every 100 ms.
          if (PROGRESS.has(delivery.kind)) progress()
        },
      }).run(signal)
    })
  }

  /** Runs `work` on a stream of the connection, which is gone afterwards, and at once when `signal` is aborted. */
  async #during<T>(stream: ClientHttp2Stream, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    stream.on('error', () => undefined) // 'close' follows
    const onAbort = (): void => void stream.destroy()
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      return await work()
    } finally {
      this.#isConnected = false
      this.#isReady = false
      signal.removeEventListener('abort', onAbort)
      stream.destroy()
      this.#parts.link.suspect()
    }
  }

  #token(): string | undefined {
    const { keys, clusterId, nodeName, clock } = this.#parts
    return signToken(keys, 'stream', { clusterId: clusterId() ?? '', nodeName }, clock.nowMs())
  }

  #request(session: ClientHttp2Session, headers: Record<string, string>): ClientHttp2Stream {
    try {
      return session.request(headers, { endStream: false })
    } catch (error) {
      throw failed('the connection was lost before it could be used', error) // it closed in this very turn
    }
  }

  #callerHeaders(token: string | undefined): Record<string, string> {
    const { nodeId, nodeName, candidate } = this.#parts
    return {
      ':method': 'POST',
      [HEADER.nodeId]: nodeId,
      [HEADER.node]: encodeURIComponent(nodeName),
      [HEADER.protocol]: String(STREAM_PROTOCOL),
      ...(token === undefined ? {} : { [HEADER.token]: token }),
      ...(candidate === undefined ? {} : { [HEADER.candidate]: String(candidate) }),
    }
  }

  #streamHeaders(token: string | undefined): Record<string, string> {
    const { database, receiver } = this.#parts
    return {
      ...this.#callerHeaders(token),
      ':path': `/stream?filter=${encodeURIComponent(database)}`,
      [HEADER.epoch]: String(receiver.epoch()),
      ...(receiver.differenceBase === undefined ? {} : { [HEADER.copy]: '1' }),
    }
  }

  /** Without a transaction the database is not mentioned: a primary that does not have it yet would answer that it was dropped. */
  #positions(): ReadonlyMap<string, Position> {
    const { database, receiver } = this.#parts
    const position = receiver.position()
    return position.txid === ZERO_TXID ? new Map() : new Map([[database, position]])
  }

  #response(stream: ClientHttp2Stream, timeoutMs: number): Promise<IncomingHttpHeaders> {
    return new Promise((resolve, reject) => {
      const timer = this.#parts.clock.setTimer(timeoutMs, () => {
        reject(failed(`no answer from the primary within ${timeoutMs} ms`))
      })
      stream.once('response', (headers) => {
        timer.cancel()
        resolve(headers)
      })
      stream.once('close', () => {
        timer.cancel()
        reject(failed('the connection was lost before the primary answered'))
      })
    })
  }

  /** For a long wait on a connection that may carry nothing else meanwhile: it is broken off when a ping is not answered in time. */
  async #whileAlive<T>(session: ClientHttp2Session, stream: ClientHttp2Stream, wait: () => Promise<T>): Promise<T> {
    const { clock, options } = this.#parts
    const intervalMs = options.heartbeatTimeoutMs
    let isAnswered = true
    const ping = (): Timer => {
      if (!isAnswered) stream.destroy()
      else if (!session.destroyed) {
        isAnswered = false
        session.ping(() => {
          isAnswered = true
        })
      }
      return clock.setTimer(intervalMs, () => {
        timer = ping()
      })
    }
    let timer = ping()
    try {
      return await wait()
    } finally {
      timer.cancel()
    }
  }

  /** The text of an error answer, one line, or as much as came in time. */
  #refusal(stream: ClientHttp2Stream): Promise<string> {
    const { clock, options } = this.#parts
    return new Promise((resolve) => {
      let text = ''
      const settle = (): void => {
        timer.cancel()
        resolve(text.slice(0, REFUSAL_BYTES_MAX).split('\n', 1)[0] ?? '')
      }
      const timer = clock.setTimer(options.heartbeatTimeoutMs, settle)
      stream.setEncoding('utf8')
      stream.on('data', (piece: string) => {
        text += piece
        if (text.length >= REFUSAL_BYTES_MAX) settle()
      })
      stream.once('end', settle)
      stream.once('close', settle)
    })
  }

  #observe(delivery: Delivery): void {
    switch (delivery.kind) {
      case 'records':
        this.#recordCount += delivery.records.length
        // Before READY records are history: their time says nothing about how far behind this node is.
        if (this.#isReady) this.#primaryClockMs = delivery.timestampMs
        break
      case 'snapshot-end':
        this.#snapshotCount++
        break
      case 'heartbeat':
        this.#primaryClockMs = delivery.timestampMs
        break
      case 'ready':
        this.#isReady = true
        break
      default:
        break
    }
  }
}

function failed(reason: string, cause?: unknown): ClusterError {
  return new ClusterError('STREAM_FAILED', `replication stream: ${reason}`, { cause })
}
