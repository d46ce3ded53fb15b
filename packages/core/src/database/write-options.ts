/** What a caller may choose for one write. */
import { ClusterError } from '../errors/cluster-error.ts'
import { invalidOption, rejectUnknownOptions } from '../errors/unknown-option.ts'
import { type AwaitLevel, DEFAULT_AWAIT_LEVEL } from '../request/await-level.ts'
import { parseRequestId, type RequestId } from '../request/request-id.ts'

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
  /**
   * Id of this write: one from `cluster.newRequestId()` kept before the first attempt, or that of an attempt whose outcome is
   * unknown (`error.details.requestId`). Under one id a write takes effect once and gets the first answer. Default: none for a write
   * on the primary itself, a new one for a forwarded write.
   */
  readonly requestId?: string | undefined
}

export interface ResolvedWriteOptions {
  readonly await: AwaitLevel
  readonly timeoutMs: number
  readonly idempotencyKey: string | undefined
  readonly requestId: RequestId | undefined
}

export interface ResolveOptions {
  /** Deadline of the whole call, in ms, waits included. 1 … 3,600,000. Default: 5,000. */
  readonly timeoutMs?: number | undefined
}

export const WRITE_DEFAULTS: ResolvedWriteOptions = Object.freeze({
  await: DEFAULT_AWAIT_LEVEL,
  timeoutMs: 5_000,
  idempotencyKey: undefined,
  requestId: undefined,
})

const KNOWN = ['await', 'timeoutMs', 'idempotencyKey', 'requestId']
const LEVELS: readonly unknown[] = ['none', 'local', 'majority', 'all']

/** Applies defaults and checks. Throws `INVALID_OPTION`. */
export function resolveWriteOptions(given: WriteOptions | undefined, where: string): ResolvedWriteOptions {
  if (given === undefined) return WRITE_DEFAULTS
  rejectUnknownOptions(given, KNOWN, where)
  const level = given.await ?? WRITE_DEFAULTS.await
  const timeoutMs = resolveTimeoutMs(given.timeoutMs, where)
  const key = given.idempotencyKey
  if (typeof level === 'object' ? !isReplicaCount(level.replicas) : !LEVELS.includes(level)) {
    if ((level as unknown) === 'accepted') {
      throw new ClusterError('AWAIT_LEVEL_REFUSED', `${where}: there is no write-behind in this version`)
    }
    invalidOption(where, 'await', level, '"none", "local", "majority", "all" or { replicas: 1 … 100 }')
  }
  if (key !== undefined && (typeof key !== 'string' || key.length === 0 || key.length > 255)) {
    invalidOption(where, 'idempotencyKey', key, 'a string of 1 … 255 characters')
  }
  return { await: level, timeoutMs, idempotencyKey: key, requestId: resolveRequestId(given.requestId, where) }
}

/** Applies defaults and checks. Throws `INVALID_OPTION`. */
export function resolveResolveOptions(given: ResolveOptions = {}, where: string): { readonly timeoutMs: number } {
  rejectUnknownOptions(given, ['timeoutMs'], where)
  return { timeoutMs: resolveTimeoutMs(given.timeoutMs, where) }
}

function resolveTimeoutMs(given: number | undefined, where: string): number {
  const timeoutMs = given ?? WRITE_DEFAULTS.timeoutMs
  if (timeoutMs >= 1 && timeoutMs <= 3_600_000) return timeoutMs
  return invalidOption(where, 'timeoutMs', timeoutMs, '1 … 3,600,000 ms')
}

function resolveRequestId(given: string | undefined, where: string): RequestId | undefined {
  if (given === undefined) return undefined
  const id = typeof given === 'string' ? parseRequestId(given) : undefined
  return id ?? invalidOption(where, 'requestId', given, '32 lowercase hex digits, as cluster.newRequestId() makes them')
}

function isReplicaCount(value: unknown): boolean {
  return Number.isInteger(value) && Number(value) >= 1 && Number(value) <= 100
}
