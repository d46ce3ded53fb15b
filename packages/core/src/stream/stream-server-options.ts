/** What the replication endpoint of a node accepts, and its bounds. */
import { invalidOption } from '../errors/unknown-option.ts'
import { type OptionRanges, resolveOptions } from './option-ranges.ts'

export interface StreamServerOptions {
  /** Address to listen on. Beyond loopback a cluster key is needed. Default `127.0.0.1`. */
  readonly host?: string | undefined
  /** 0 lets the system choose. Default 20202, as LiteFS. */
  readonly port?: number | undefined
  /**
   * Serve LiteFS peers, which cannot prove that they know the cluster key. Default false.
   * Without a cluster key it has no effect: then the listener is on loopback and open to whoever is there.
   */
  readonly interop?: boolean | undefined
  /** TCP connections at a time; more are closed at once. 1 … 100,000, default 1,024. */
  readonly connectionsMax?: number | undefined
  /** `/stream` requests at a time over all connections; more get 503. 1 … 1,000,000, default 4,096. */
  readonly streamsMax?: number | undefined
  /** Requests at a time on one HTTP/2 connection. 1 … 100,000, default 1,024. */
  readonly streamsPerConnectionMax?: number | undefined
  /** `/events` subscribers at a time; more get 503. 1 … 10,000, default 256. */
  readonly eventSubscribersMax?: number | undefined
  /** Longest position map, in bytes; longer gets 413. 4 KiB … 16 MiB, default 1 MiB. */
  readonly positionMapBytesMax?: number | undefined
  /** A request's headers and body must be here this long after its first byte (or after the connection). Default 10 s. */
  readonly requestTimeoutMs?: number | undefined
  /** A connection without a request is closed after this. Default 60 s. */
  readonly idleTimeoutMs?: number | undefined
  /** HTTP/2 connections are pinged this often, and closed when a ping is not answered before the next. Default 15 s. */
  readonly pingIntervalMs?: number | undefined
  /** HEARTBEAT after this long without a change. Default 1 s, as LiteFS. */
  readonly heartbeatMs?: number | undefined
  /** Bytes handed to HTTP/2 and not yet on the wire, for each `/stream`. 64 KiB … 1 GiB, default 1 MiB. */
  readonly sendBufferBytes?: number | undefined
  /** Read from the log at a time; a quarter of the send buffer or less. 4 KiB … 256 MiB, default 256 KiB. */
  readonly batchBytes?: number | undefined
  /** A replica that takes nothing of what waits for it is disconnected after this. Default 60 s. */
  readonly stallTimeoutMs?: number | undefined
  /** Snapshots and images being copied at a time; more wait. 1 … 64, default 2. */
  readonly snapshotBuildsMax?: number | undefined
  /** `close()` waits this long for streams to take their END. Default 2 s. */
  readonly closeTimeoutMs?: number | undefined
}

export type ResolvedStreamServerOptions = {
  readonly [K in keyof StreamServerOptions]-?: Exclude<StreamServerOptions[K], undefined>
}

export const STREAM_SERVER_DEFAULTS: ResolvedStreamServerOptions = Object.freeze({
  host: '127.0.0.1',
  port: 20202,
  interop: false,
  connectionsMax: 1024,
  streamsMax: 4096,
  streamsPerConnectionMax: 1024,
  eventSubscribersMax: 256,
  positionMapBytesMax: 1024 * 1024,
  requestTimeoutMs: 10_000,
  idleTimeoutMs: 60_000,
  pingIntervalMs: 15_000,
  heartbeatMs: 1000,
  sendBufferBytes: 1024 * 1024,
  batchBytes: 256 * 1024,
  stallTimeoutMs: 60_000,
  snapshotBuildsMax: 2,
  closeTimeoutMs: 2000,
})

const KIB = 1024
const GIB = 1024 ** 3
const MS = [1, 24 * 3600 * 1000] as const

const SERVER_RANGES: OptionRanges = {
  port: [0, 65535],
  connectionsMax: [1, 100_000],
  streamsMax: [1, 1_000_000],
  streamsPerConnectionMax: [1, 100_000],
  eventSubscribersMax: [1, 10_000],
  positionMapBytesMax: [4 * KIB, 16 * KIB * KIB],
  requestTimeoutMs: MS,
  idleTimeoutMs: MS,
  pingIntervalMs: MS,
  heartbeatMs: MS,
  sendBufferBytes: [64 * KIB, GIB],
  batchBytes: [4 * KIB, 256 * KIB * KIB],
  stallTimeoutMs: MS,
  snapshotBuildsMax: [1, 64],
  closeTimeoutMs: MS,
}

/** Defaults filled in, ranges checked, frozen. Throws `INVALID_OPTION`. */
export function resolveStreamServerOptions(given: StreamServerOptions = {}): ResolvedStreamServerOptions {
  const resolved = resolveOptions(given, STREAM_SERVER_DEFAULTS, SERVER_RANGES, 'stream server')
  if (resolved.batchBytes * 4 > resolved.sendBufferBytes)
    invalidOption(
      'stream server',
      'batchBytes',
      resolved.batchBytes,
      `at most a quarter of sendBufferBytes (${resolved.sendBufferBytes})`,
    )
  return resolved
}
