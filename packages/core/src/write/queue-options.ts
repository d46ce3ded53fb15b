/** Bounds of the writer queue of a database, and of the groups it forms. */
import { invalidOption, rejectUnknownOptions } from '../errors/unknown-option.ts'

export interface WriteQueueOptions {
  /** Writes waiting; one more is refused (`WRITE_QUEUE_FULL`). 1 … 1,000,000. Default: 10,000. */
  readonly queueJobsMax?: number | undefined
  /** Bytes of writes waiting. A single larger write is taken when the queue is empty. Default: 64 MiB. */
  readonly queueBytesMax?: number | undefined
  /** Writes that share a transaction. 1 … 10,000. Default: 256. */
  readonly groupJobsMax?: number | undefined
  /** Bytes of writes that share a transaction; a larger write has one of its own. Default: 1 MiB. */
  readonly groupBytesMax?: number | undefined
}

export type ResolvedWriteQueueOptions = { readonly [K in keyof WriteQueueOptions]-?: number }

export const WRITE_QUEUE_DEFAULTS: ResolvedWriteQueueOptions = Object.freeze({
  queueJobsMax: 10_000,
  queueBytesMax: 64 * 1024 * 1024,
  groupJobsMax: 256,
  groupBytesMax: 1024 * 1024,
})

/** Applies defaults and checks ranges. Throws `INVALID_OPTION`. */
export function resolveWriteQueueOptions(
  given: WriteQueueOptions = {},
  where = 'write queue',
): ResolvedWriteQueueOptions {
  rejectUnknownOptions(given, Object.keys(WRITE_QUEUE_DEFAULTS), where)
  const option = (name: keyof WriteQueueOptions, max: number): number => {
    const value = given[name] ?? WRITE_QUEUE_DEFAULTS[name]
    if (Number.isSafeInteger(value) && value >= 1 && value <= max) return value
    return invalidOption(where, name, value, `an integer 1 … ${max}`)
  }
  return Object.freeze({
    queueJobsMax: option('queueJobsMax', 1_000_000),
    queueBytesMax: option('queueBytesMax', Number.MAX_SAFE_INTEGER),
    groupJobsMax: option('groupJobsMax', 10_000),
    groupBytesMax: option('groupBytesMax', Number.MAX_SAFE_INTEGER),
  })
}
