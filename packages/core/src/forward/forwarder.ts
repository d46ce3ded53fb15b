/**
 * Carries writes and function calls to the node that may run them, and says truthfully what became of them.
 *
 * Relies on: the primary keeps the ledger (a request id takes effect once, a repeated one gets its first answer);
 * `PeerClient` never sends anything twice and tells "cannot have been seen" from "may have been seen".
 * Promises: a write that leaves this node has a request id, the same in every attempt. While nothing was seen, it waits
 * for a primary until the deadline. Once an attempt may have been seen, only an answer of a primary that looked at its
 * ledger is believed: a refusal at the door ("not the primary", "queue full") says nothing about the earlier attempt.
 * So it asks again with the same id, and at the deadline answers `WRITE_OUTCOME_UNKNOWN` with that id. A function call
 * is sent at most once, because nothing remembers its id.
 * Order: after the primary's answer the caller waits until its own node shows the write, for every level but `none`.
 */
import type { Clock } from '../base/clock.ts'
import { ClusterError, isClusterError } from '../errors/cluster-error.ts'
import type { ErrorCode } from '../errors/error-table.ts'
import type { Leadership } from '../leadership/leadership.ts'
import type { PrimaryInfo } from '../leadership/node-role.ts'
import type { Members } from '../peer/members.ts'
import type { PeerPool } from '../peer/peer-pool.ts'
import type { Position } from '../position/position.ts'
import { formatAwaitLevel } from '../request/await-level.ts'
import type { DatabaseName } from '../request/database-name.ts'
import type { PlainValue } from '../request/plain-value.ts'
import type { RequestIdSource } from '../request/request-id.ts'
import { CallRouter, type CallTarget } from './call-router.ts'
import { decodeFailure } from './error-reply.ts'
import type { FunctionRunner } from './function-runner.ts'
import { RetryGate } from './retry-gate.ts'
import type { ExecuteHere, WriteAnswer, WriteCall } from './write-call.ts'
import { decodeWriteAnswer, WriteCodec } from './write-codec.ts'

export interface ForwarderParts {
  readonly clock: Clock
  readonly leadership: Pick<Leadership, 'isPrimary' | 'primary' | 'waitForPrimary' | 'refresh'> & {
    onChange(listener: () => void): () => void
  }
  readonly peers: Pick<PeerPool, 'client' | 'peek' | 'listen'>
  readonly members: Members
  readonly functions: FunctionRunner
  readonly requestIds: RequestIdSource
  executeHere: ExecuteHere
  /** Resolves when a new read on this node sees `position`. Rejects by the deadline. */
  awaitLocal(database: DatabaseName, position: Position, deadlineMs: number): Promise<void>
}

/** Refusals after which another attempt makes sense although nothing changed for the caller. */
const ROUTING: readonly ErrorCode[] = ['NOT_PRIMARY', 'HOP_LIMIT', 'PEER_UNREACHABLE']
const BACKOFF_MS_MIN = 20
const BACKOFF_MS_MAX = 250
/** Longest wait for a channel to open before the route is thought over again. */
const UNREACHABLE_MS = 1_000
/**
 * With less time left nothing is tried again: an answer that cannot come in time turns "not applied" into "unknown".
 */
const ATTEMPT_MS_MIN = 20
/** Hints followed without a pause; two nodes that name each other must not spin. */
const HINTS_MAX = 2

export class Forwarder {
  readonly #parts: ForwarderParts
  readonly #codec = new WriteCodec()
  readonly #gate: RetryGate
  readonly #calls: CallRouter
  readonly #stopListening: readonly (() => void)[]
  #isClosed = false

  constructor(parts: ForwarderParts) {
    this.#parts = parts
    this.#gate = new RetryGate(parts.clock)
    this.#calls = new CallRouter({ ...parts, gate: this.#gate })
    this.#stopListening = [
      parts.leadership.onChange(() => this.#gate.open()),
      parts.peers.listen({ connected: () => this.#gate.open() }),
    ]
  }

  /**
   * Runs a write at the primary.
   * @throws SQLite's and the procedure's own errors; NO_PRIMARY, PRIMARY_IS_LITEFS, WRITE_OUTCOME_UNKNOWN,
   * NOT_YET_VISIBLE; what the primary refuses it with
   */
  async write(call: WriteCall): Promise<WriteAnswer> {
    const deadlineMs = this.#parts.clock.monotonicMs() + call.timeoutMs
    if (this.#parts.leadership.isPrimary) {
      try {
        return await this.#here(call, deadlineMs)
      } catch (error) {
        // The office was lost before the write began; anything else is the answer.
        if (!isClusterError(error, 'NOT_PRIMARY')) throw error
      }
    }
    return this.#forward({ ...call, requestId: call.requestId ?? this.#parts.requestIds.next() }, deadlineMs)
  }

  /**
   * Runs a registered function on another node, or here when the target is this one.
   * @throws the function's own error; NO_SUCH_NODE, NO_PRIMARY, UNKNOWN_PROCEDURE, PEER_UNREACHABLE,
   * CALL_OUTCOME_UNKNOWN
   */
  call(target: CallTarget, functionName: string, input: PlainValue, timeoutMs: number): Promise<PlainValue> {
    return this.#calls.call(target, functionName, input, this.#parts.clock.monotonicMs() + timeoutMs)
  }

  /** Wakes what waits for a route; it fails with `CLOSED`, or `WRITE_OUTCOME_UNKNOWN` once an attempt was made. */
  close(): void {
    this.#isClosed = true
    for (const stop of this.#stopListening) stop()
    this.#gate.close()
  }

  async #forward(call: WriteCall, deadlineMs: number): Promise<WriteAnswer> {
    const { clock, leadership } = this.#parts
    const lastAttemptMs = deadlineMs - ATTEMPT_MS_MIN
    let backoffMs = BACKOFF_MS_MIN
    let hints = 0
    let hint: string | undefined
    let unknown: ClusterError | undefined
    for (;;) {
      let failure: ClusterError
      try {
        return await this.#attempt(call, deadlineMs, hint)
      } catch (error) {
        // SQLite's error, or the procedure's own: the primary ran it, and found no trace of an earlier attempt.
        if (!isClusterError(error) || error.outcome === 'applied') throw error
        failure = error
      }
      if (failure.code === 'WRITE_OUTCOME_UNKNOWN') unknown = failure
      const mayRetry = unknown === undefined ? ROUTING.includes(failure.code) : failure.retry !== 'never'
      hint = hints < HINTS_MAX ? hintIn(failure) : undefined
      if (mayRetry && hint === undefined) {
        leadership.refresh()
        // A channel that opens, or another primary, ends the wait; only what changes on the other node has to be asked
        // for.
        const waitMs = failure.code === 'PEER_UNREACHABLE' ? UNREACHABLE_MS : backoffMs
        await this.#gate.wait(Math.min(lastAttemptMs, clock.monotonicMs() + waitMs))
        backoffMs = Math.min(backoffMs * 2, BACKOFF_MS_MAX)
      }
      if (hint !== undefined) hints++
      const isOver = this.#isClosed || clock.monotonicMs() >= lastAttemptMs
      if (!mayRetry || isOver) throw this.#verdict(call, failure, unknown, mayRetry)
    }
  }

  async #attempt(call: WriteCall, deadlineMs: number, hint: string | undefined): Promise<WriteAnswer> {
    if (this.#isClosed) throw new ClusterError('CLOSED', 'the node was closed')
    const address = hint ?? (await this.#primaryAddress(call, deadlineMs))
    if (address === undefined) return this.#here(call, deadlineMs)
    const reply = await this.#parts.peers.client(address).request('write', this.#codec.encodeCall(call), deadlineMs)
    if (reply.kind === 'failure') throw decodeFailure(reply.body)
    return this.#untilVisible(call, this.#read(reply.body, call), deadlineMs)
  }

  /** `undefined`: this node. */
  async #primaryAddress(call: WriteCall, deadlineMs: number): Promise<string | undefined> {
    const { leadership } = this.#parts
    const primary: PrimaryInfo = leadership.primary() ?? (await leadership.waitForPrimary(deadlineMs))
    if (primary.isSelf) return undefined
    if (primary.grpcAddress !== undefined) return primary.grpcAddress
    throw new ClusterError(
      'PRIMARY_IS_LITEFS',
      `database "${call.database}": the primary "${primary.name}" is a LiteFS node`,
      {
        hint: 'Write on the host of the primary, or let a Litefleet node become primary.',
      },
    )
  }

  #here(call: WriteCall, deadlineMs: number): Promise<WriteAnswer> {
    return this.#parts.executeHere(call, { origin: { kind: 'local' }, deadlineMs })
  }

  #read(body: Buffer, call: WriteCall): WriteAnswer {
    try {
      return decodeWriteAnswer(body, call.database)
    } catch (error) {
      throw new ClusterError('WRITE_OUTCOME_UNKNOWN', `database "${call.database}": the answer cannot be read`, {
        cause: error,
      })
    }
  }

  async #untilVisible(call: WriteCall, answer: WriteAnswer, deadlineMs: number): Promise<WriteAnswer> {
    if (call.await === 'none') return answer
    try {
      await this.#parts.awaitLocal(call.database, answer.position, deadlineMs)
    } catch (error) {
      const { result, position, epoch, requestId, replayed, uncounted } = answer
      // The primary's answer to `local` is about itself; the caller's own node is what was missed.
      const level = call.await === 'local' ? 'none' : answer.level
      throw new ClusterError(
        'NOT_YET_VISIBLE',
        `database "${call.database}": the write is committed, but this node did not show it in time`,
        {
          cause: error,
          details: {
            database: call.database,
            awaited: call.await,
            level,
            result,
            position,
            epoch,
            requestId,
            replayed,
            uncounted,
          },
        },
      )
    }
    return call.await === 'local' ? { ...answer, level: 'local' } : answer
  }

  #verdict(call: WriteCall, error: ClusterError, unknown: ClusterError | undefined, isRouting: boolean): ClusterError {
    const { database, requestId } = call
    const details = { database, requestId, awaited: formatAwaitLevel(call.await) }
    // Too old for the ledger: it says itself that the outcome is unknown, and that asking again is of no use.
    if (error.code === 'REQUEST_TOO_OLD') return error
    if (unknown !== undefined) {
      return new ClusterError(
        'WRITE_OUTCOME_UNKNOWN',
        `database "${database}": the write was sent, but its fate is not known: ${unknown.summary}`,
        {
          cause: error,
          details: { ...details, lastError: error.code },
          hint: `Repeating is safe with the same idempotency key only. This attempt had request id ${requestId}.`,
        },
      )
    }
    if (!isRouting || error.code === 'CLOSED') return error
    return new ClusterError(
      'NO_PRIMARY',
      `database "${database}": no primary could be reached before the deadline: ${error.summary}`,
      {
        cause: error,
        details,
      },
    )
  }
}

/** Where a node that is not the primary says the primary is. */
function hintIn(error: ClusterError): string | undefined {
  if (error.code !== 'NOT_PRIMARY') return undefined
  const primary = error.details['primary']
  if (typeof primary !== 'object' || primary === null) return undefined
  const address = (primary as { grpcAddress?: unknown }).grpcAddress
  return typeof address === 'string' ? address : undefined
}
