/** How patient a replica is with its primary, and how much it holds. */
import { invalidOption } from '../errors/unknown-option.ts'
import { type OptionRanges, resolveOptions } from './option-ranges.ts'

export interface StreamSinkOptions {
  /** Without any byte for this long the connection of a database is made anew. 100 ms … 10 min, default 5 s. */
  readonly heartbeatTimeoutMs?: number | undefined
  /** For the TCP connection and HTTP/2 preface. Default 5 s. */
  readonly connectTimeoutMs?: number | undefined
  /** First wait before connecting again. Default 100 ms. */
  readonly reconnectMinMs?: number | undefined
  /** Longest wait before connecting again. Default 5 s. */
  readonly reconnectMaxMs?: number | undefined
  /** Longest LTX that is not a snapshot; a longer one breaks the connection. 64 KiB … 2 GiB, default 1 GiB. */
  readonly recordBytesMax?: number | undefined
  /** HTTP/2 window of each database: what may wait here while its receiver is busy. 64 KiB … 1 GiB, default 8 MiB. */
  readonly streamWindowBytes?: number | undefined
  /** `close()` waits this long for a busy receiver. Default 5 s. */
  readonly closeTimeoutMs?: number | undefined
}

export type ResolvedStreamSinkOptions = {
  readonly [K in keyof StreamSinkOptions]-?: Exclude<StreamSinkOptions[K], undefined>
}

export const STREAM_SINK_DEFAULTS: ResolvedStreamSinkOptions = Object.freeze({
  heartbeatTimeoutMs: 5000,
  connectTimeoutMs: 5000,
  reconnectMinMs: 100,
  reconnectMaxMs: 5000,
  recordBytesMax: 1024 ** 3,
  streamWindowBytes: 8 * 1024 * 1024,
  closeTimeoutMs: 5000,
})

const KIB = 1024
const GIB = 1024 ** 3
const MS = [1, 24 * 3600 * 1000] as const

const SINK_RANGES: OptionRanges = {
  heartbeatTimeoutMs: [100, 600_000],
  connectTimeoutMs: MS,
  reconnectMinMs: MS,
  reconnectMaxMs: MS,
  recordBytesMax: [64 * KIB, 2 * GIB],
  streamWindowBytes: [64 * KIB, GIB],
  closeTimeoutMs: MS,
}

/** Defaults filled in, ranges checked, frozen. Throws `INVALID_OPTION`. */
export function resolveStreamSinkOptions(given: StreamSinkOptions = {}): ResolvedStreamSinkOptions {
  const resolved = resolveOptions(given, STREAM_SINK_DEFAULTS, SINK_RANGES, 'stream sink')
  if (resolved.reconnectMaxMs < resolved.reconnectMinMs)
    invalidOption(
      'stream sink',
      'reconnectMaxMs',
      resolved.reconnectMaxMs,
      `at least reconnectMinMs (${resolved.reconnectMinMs})`,
    )
  return resolved
}
