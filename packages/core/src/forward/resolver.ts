/**
 * Finds out at the primary what became of a write.
 *
 * Relies on: asking is idempotent, so it is repeated freely until the deadline.
 * Promises: an answer is the primary's, recorded as durably as a write: what was not applied never will be under that id. Every
 * failure leaves open what became of the write, and says so with its outcome, whatever the cause: `REQUEST_TOO_OLD` when the
 * ledger has forgotten, otherwise `WRITE_OUTCOME_UNKNOWN`, with the code of the cause in `details.lastError`.
 */
import { ClusterError, isClusterError } from '../errors/cluster-error.ts'
import type { ErrorCode } from '../errors/error-table.ts'
import type { PeerPool } from '../peer/peer-pool.ts'
import { decodeFailure } from './error-reply.ts'
import type { Attempts, PrimaryRoute } from './primary-route.ts'
import { decodeResolveAnswer, encodeResolve } from './resolve-codec.ts'
import type { ResolveAnswer, ResolveCall, ResolveHere } from './write-call.ts'

export interface ResolverParts {
  readonly route: PrimaryRoute
  readonly peers: Pick<PeerPool, 'client'>
  resolveHere: ResolveHere
}

/** Failures that another attempt meets again, and that speak of the question itself. */
const FINAL: readonly ErrorCode[] = ['REQUEST_TOO_OLD', 'INVALID_REQUEST']
/** Refusals that may be gone when the route has changed. */
const ROUTING: readonly ErrorCode[] = ['NOT_PRIMARY', 'NO_PRIMARY']

export class Resolver {
  readonly #parts: ResolverParts

  constructor(parts: ResolverParts) {
    this.#parts = parts
  }

  /**
   * @param deadlineMs on the clock's monotonic scale
   * @throws WRITE_OUTCOME_UNKNOWN, REQUEST_TOO_OLD, INVALID_REQUEST
   */
  async ask(call: ResolveCall, deadlineMs: number): Promise<ResolveAnswer> {
    const attempts = this.#parts.route.attempts(call.database, deadlineMs)
    for (;;) {
      try {
        return await this.#attempt(call, attempts, deadlineMs)
      } catch (error) {
        const mayRetry = isClusterError(error) && (ROUTING.includes(error.code) || error.retry !== 'never')
        if (!mayRetry || !(await attempts.another(error))) throw stillUnknown(call, error)
      }
    }
  }

  async #attempt(call: ResolveCall, attempts: Attempts, deadlineMs: number): Promise<ResolveAnswer> {
    const { peers, resolveHere } = this.#parts
    const address = await attempts.address()
    if (address === undefined) return resolveHere(call, { origin: { kind: 'local' }, deadlineMs })
    const reply = await peers.client(address).request('resolve', encodeResolve(call), deadlineMs)
    if (reply.kind === 'failure') throw decodeFailure(reply.body)
    try {
      return decodeResolveAnswer(reply.body)
    } catch (error) {
      throw new ClusterError('WRITE_OUTCOME_UNKNOWN', 'the answer cannot be read', { cause: error })
    }
  }
}

/** The question failed, so the fate of the write is as open as before; "not applied" of the question must not be taken for it. */
export function stillUnknown({ database, requestId }: Omit<ResolveCall, 'timeoutMs'>, cause: unknown): unknown {
  if (isClusterError(cause) && FINAL.includes(cause.code)) return cause.withDetails({ database, requestId })
  const why = isClusterError(cause) ? `${cause.code}: ${cause.summary}` : String(cause)
  return new ClusterError(
    'WRITE_OUTCOME_UNKNOWN',
    `database "${database}": could not find out what became of request ${requestId}: ${why}`,
    {
      cause,
      details: { database, requestId, lastError: isClusterError(cause) ? cause.code : undefined },
      hint: 'Ask again once the primary can be reached.',
    },
  )
}
