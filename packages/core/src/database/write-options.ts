/** What a caller may choose for one write. */
import { ClusterError } from '../errors/cluster-error.ts'
import { invalidOption, rejectUnknownOptions } from '../errors/unknown-option.ts'
import { type AwaitLevel, DEFAULT_AWAIT_LEVEL } from '../request/await-level.ts'

export interface WriteOptions {
  /** How far the write must have travelled before the call resolves. Default: `local`. */
  readonly await?: AwaitLevel | undefined
  /** Deadline of the whole call, in ms, waits included. 1 … 3,600,000. Default: 5,000. */
  readonly timeoutMs?: number | undefined
  /**
   * The caller's own name for this write: repeated with the same key (1 … 255 characters), it takes effect once and gets the
   * first answer, also after a failover. Default: none; a forwarded write gets a request id of the library's.
   */
  readonly idempotencyKey?: string | undefined
}

export interface ResolvedWriteOptions {
  readonly await: AwaitLevel
  readonly timeoutMs: number
  readonly idempotencyKey: string | undefined
}

export const WRITE_DEFAULTS: ResolvedWriteOptions = Object.freeze({
  await: DEFAULT_AWAIT_LEVEL,
  timeoutMs: 5_000,
  idempotencyKey: undefined,
})

const KNOWN = ['await', 'timeoutMs', 'idempotencyKey']
const LEVELS: readonly unknown[] = ['none', 'local', 'majority', 'all']

/** Applies defaults and checks. Throws `INVALID_OPTION`. */
export function resolveWriteOptions(given: WriteOptions | undefined, where: string): ResolvedWriteOptions {
  if (given === undefined) return WRITE_DEFAULTS
  rejectUnknownOptions(given, KNOWN, where)
  const level = given.await ?? WRITE_DEFAULTS.await
  const timeoutMs = given.timeoutMs ?? WRITE_DEFAULTS.timeoutMs
  const key = given.idempotencyKey
  if (typeof level === 'object' ? !isReplicaCount(level.replicas) : !LEVELS.includes(level)) {
    if ((level as unknown) === 'accepted') {
      throw new ClusterError('AWAIT_LEVEL_REFUSED', `${where}: there is no write-behind in this version`)
    }
    invalidOption(where, 'await', level, '"none", "local", "majority", "all" or { replicas: 1 … 100 }')
  }
  if (!(timeoutMs >= 1 && timeoutMs <= 3_600_000)) invalidOption(where, 'timeoutMs', timeoutMs, '1 … 3,600,000 ms')
  if (key !== undefined && (typeof key !== 'string' || key.length === 0 || key.length > 255)) {
    invalidOption(where, 'idempotencyKey', key, 'a string of 1 … 255 characters')
  }
  return { await: level, timeoutMs, idempotencyKey: key }
}

function isReplicaCount(value: unknown): boolean {
  return Number.isInteger(value) && Number(value) >= 1 && Number(value) <= 100
}
