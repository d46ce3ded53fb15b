/** How long and how much the transaction log keeps, and how it is cut into files. */
import { invalidOption, rejectUnknownOptions } from '../errors/unknown-option.ts'

export interface LogOptions {
  /** Age in ms after which a record may be removed, by the clock of the node that wrote it. Default: ten minutes. */
  readonly retentionMs?: number | undefined
  /** Bytes above which the oldest records are removed even when younger. Default: 256 MiB. */
  readonly retentionBytes?: number | undefined
  /** Bytes above which the oldest records are removed even when a connected replica still needs them. Default: 4 × `retentionBytes`. */
  readonly retentionBytesMax?: number | undefined
  /** Size of one segment in bytes, 4 KiB to 1 GiB. Retention removes whole segments. Default: 16 MiB. */
  readonly segmentBytes?: number | undefined
  /** Newest bytes kept in memory for replicas that keep up, per database; 0 keeps none. Default: 8 MiB. */
  readonly tailCacheBytes?: number | undefined
}

export interface ResolvedLogOptions {
  readonly retentionMs: number
  readonly retentionBytes: number
  readonly retentionBytesMax: number
  readonly segmentBytes: number
  readonly tailCacheBytes: number
}

const MIB = 1024 * 1024

export const LOG_DEFAULTS = {
  retentionMs: 10 * 60_000,
  retentionBytes: 256 * MIB,
  /** `retentionBytesMax` is this many times `retentionBytes` unless it is given. */
  retentionBytesMaxFactor: 4,
  segmentBytes: 16 * MIB,
  tailCacheBytes: 8 * MIB,
} as const

/** Fills in defaults and checks ranges. Throws `INVALID_OPTION`. */
export function resolveLogOptions(given: LogOptions = {}): ResolvedLogOptions {
  const known = ['retentionMs', 'retentionBytes', 'retentionBytesMax', 'segmentBytes', 'tailCacheBytes']
  rejectUnknownOptions(given, known, 'log')
  const retentionBytes = integer('retentionBytes', given.retentionBytes, LOG_DEFAULTS.retentionBytes, 0)
  return Object.freeze({
    retentionMs: integer('retentionMs', given.retentionMs, LOG_DEFAULTS.retentionMs, 0),
    retentionBytes,
    retentionBytesMax: integer(
      'retentionBytesMax',
      given.retentionBytesMax,
      retentionBytes * LOG_DEFAULTS.retentionBytesMaxFactor,
      retentionBytes,
    ),
    segmentBytes: integer('segmentBytes', given.segmentBytes, LOG_DEFAULTS.segmentBytes, 4096, 1024 * MIB),
    tailCacheBytes: integer('tailCacheBytes', given.tailCacheBytes, LOG_DEFAULTS.tailCacheBytes, 0, 1024 * MIB),
  })
}

function integer(name: string, given: number | undefined, byDefault: number, min: number, max?: number): number {
  const value = given ?? byDefault
  const limit = max ?? Number.MAX_SAFE_INTEGER
  if (Number.isSafeInteger(value) && value >= min && value <= limit) return value
  return invalidOption(
    'log',
    name,
    given,
    max === undefined ? `an integer from ${min}` : `an integer from ${min} to ${max}`,
  )
}
