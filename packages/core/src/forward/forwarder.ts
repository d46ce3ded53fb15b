/**
 * Carries writes and function calls to the node that may run them, and says truthfully what became of them.
 *
 * Relies on: the primary keeps the ledger (a request id takes effect once, a repeated one gets its first answer);
 * `PeerClient` never sends anything twice and tells "cannot have been seen" from "may have been seen".
 * Promises: a write that leaves this node has a request id, the same in every attempt. While nothing was seen, it waits
 * for a primary until the deadline. Once an attempt may have been seen, only an answer of a primary that looked at its
 * ledger is believed: a refusal at the door ("not the primary", "queue full") says nothing about the earlier attempt.
 * So it asks again with the same id, and at the deadline answers `WRITE_OUTCOME_UNKNOWN` with that id. If then the primary
 * refuses the write for good, or it fails there, the earlier attempt may still be on its way: it is sealed first (`resolve`),
 * so that "not applied" stays true. A function call is sent at most once, because nothing remembers its id.
 * Order: after the primary's answer the caller waits until its own node shows the write, for every level but `none`.
 */
import type { Clock } from '../base/clock.ts'
import { ClusterError, isClusterError } from '../errors/cluster-error.ts'
import type { ErrorCode } from '../errors/error-table.ts'
import { failurePhase } from '../errors/failure-phase.ts'
import type { Leadership } from '../leadership/leadership.ts'
import type { Members } from '../peer/members.ts'
import type { PeerPool } from '../peer/peer-pool.ts'
import type { TrackedPosition } from '../position/position-tracker.ts'
import { formatAwaitLevel } from '../request/await-level.ts'
import type { DatabaseName } from '../request/database-name.ts'
import type { PlainValue } from '../request/plain-value.ts'
import type { RequestId, RequestIdSource } from '../request/request-id.ts'
import { CallRouter, type CallTarget } from './call-router.ts'
import { decodeFailure } from './error-reply.ts'
import { explainFailure } from './explain-failure.ts'
import type { FunctionRunner } from './function-runner.ts'
import { type Attempts, PrimaryRoute } from './primary-route.ts'
import { Resolver } from './resolver.ts'
import type { ExecuteHere, ResolveAnswer, ResolveCall, ResolveHere, WriteAnswer, WriteCall } from './write-call.ts'
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
  resolveHere: ResolveHere
  /** Resolves when a new read on this node sees the position, which a transaction of this epoch led to. Rejects by the deadline. */
  awaitLocal(database: DatabaseName, at: TrackedPosition, deadlineMs: number): Promise<void>
}

/** Verdicts that no further attempt changes: one of the caller's earlier ones may have been applied, or none ever will be. */
const SETTLED: readonly ErrorCode[] = ['REQUEST_TOO_OLD', 'REQUEST_ABANDONED']
/** Refusals after which another attempt makes sense although nothing changed for the caller. */
const ROUTING: readonly ErrorCode[] = ['NOT_PRIMARY', 'HOP_LIMIT', 'PEER_UNREACHABLE']

export class Forwarder {
  readonly #parts: ForwarderParts
  readonly #codec = new WriteCodec()
  readonly #route: PrimaryRoute
  readonly #resolver: Resolver
  readonly #calls: CallRouter

  constructor(parts: ForwarderParts) {
    this.#parts = parts
    this.#route = new PrimaryRoute(parts)
    this.#resolver = new Resolver({ ...parts, route: this.#route })
    this.#calls = new CallRouter({ ...parts, gate: this.#route.gate })
  }

  /**
   * Runs a write at the primary.
   * @throws SQLite's and the procedure's own errors; NO_PRIMARY, PRIMARY_IS_LITEFS, WRITE_OUTCOME_UNKNOWN,
   * NOT_YET_VISIBLE; what the primary refuses it with. A `ClusterError` names its phase, and the request id if there is one.
   */
  async write(call: WriteCall): Promise<WriteAnswer> {
    const deadlineMs = this.#parts.clock.monotonicMs() + call.timeoutMs
    let identified = call
    try {
      let unknown: ClusterError | undefined
      if (this.#parts.leadership.isPrimary) {
        try {
          return await this.#here(call, deadlineMs)
        } catch (error) {
          // The office was lost before the write began, or it may be asked for again under its id. Anything else is the answer.
          const isUnknown = isClusterError(error, 'WRITE_OUTCOME_UNKNOWN')
          if (isUnknown && call.requestId !== undefined) unknown = error
          else if (!isClusterError(error, 'NOT_PRIMARY')) throw error
        }
      }
      const sent = { ...call, requestId: call.requestId ?? this.#parts.requestIds.next() }
      identified = sent
      return await this.#forward(sent, unknown, deadlineMs)
    } catch (error) {
      throw isClusterError(error) ? explainFailure(error, identified) : error
    }
  }

  /**
   * Finds out what became of a write. What was applied is visible here when this resolves.
   * @throws WRITE_OUTCOME_UNKNOWN, REQUEST_TOO_OLD, INVALID_REQUEST; NOT_YET_VISIBLE
   */
  async resolve(call: ResolveCall): Promise<ResolveAnswer> {
    const deadlineMs = this.#parts.clock.monotonicMs() + call.timeoutMs
    const answer = await this.#resolver.ask(call, deadlineMs)
    if (answer.outcome === 'not-applied') return answer
    const { database, requestId } = call
    try {
      await this.#parts.awaitLocal(database, answer, deadlineMs)
      return answer
    } catch (error) {
      throw new ClusterError('NOT_YET_VISIBLE', `database "${database}": applied, but ${whyNotVisible(error)}`, {
        cause: error,
        details: { database, requestId, ...answer, phase: 'visibility' },
      })
    }
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
    this.#route.close()
  }

  /** @param before how an attempt on this node ended that may have been applied */
  async #forward(call: ForwardedWrite, before: ClusterError | undefined, deadlineMs: number): Promise<WriteAnswer> {
    const attempts = this.#route.attempts(call.database, deadlineMs)
    let unknown = before
    if (before !== undefined && !(await attempts.another(before))) throw verdict(call, before, before)
    for (let isApplied = false; ; ) {
      let failure: unknown
      try {
        return await this.#attempt(call, attempts, deadlineMs)
      } catch (error) {
        failure = error
      }
      if (isSettled(failure)) throw failure
      if (isClusterError(failure, 'WRITE_OUTCOME_UNKNOWN')) unknown = tellingMore(unknown, failure)
      if (isClusterError(failure) && mayRepeat(failure, unknown)) {
        if (await attempts.another(failure)) continue
        throw verdict(call, failure, unknown)
      }
      if (unknown === undefined) throw failure
      if (isApplied) throw verdict(call, failure, unknown) // the ledger refuses to say what it answered
      if (await this.#isSealed(call, failure, unknown, deadlineMs)) throw failure
      isApplied = true // an earlier attempt was, after all; the next one gets its answer
    }
  }

  async #attempt(call: ForwardedWrite, attempts: Attempts, deadlineMs: number): Promise<WriteAnswer> {
    const address = await attempts.address()
    if (address === undefined) return this.#here(call, deadlineMs)
    const reply = await this.#parts.peers.client(address).request('write', this.#codec.encodeCall(call), deadlineMs)
    if (reply.kind === 'failure') throw decodeFailure(reply.body)
    return this.#untilVisible(call, readAnswer(reply.body, call), deadlineMs)
  }

  #here(call: WriteCall, deadlineMs: number): Promise<WriteAnswer> {
    return this.#parts.executeHere(call, { origin: { kind: 'local' }, deadlineMs })
  }

  /**
   * The primary refused the write, or it failed there; an earlier attempt may still be on its way, and would run after this
   * answer. So it is kept from running, and only then the failure is true. False: it was applied.
   */
  async #isSealed(call: ForwardedWrite, failure: unknown, unknown: ClusterError, deadlineMs: number): Promise<boolean> {
    try {
      return (await this.#resolver.ask(call, deadlineMs)).outcome === 'not-applied'
    } catch {
      throw verdict(call, failure, unknown) // what kept the question from being answered says no more than the failure does
    }
  }

  async #untilVisible(call: WriteCall, answer: WriteAnswer, deadlineMs: number): Promise<WriteAnswer> {
    if (call.await === 'none') return answer
    try {
      await this.#parts.awaitLocal(call.database, answer, deadlineMs)
    } catch (error) {
      const { result, position, epoch, requestId, replayed, uncounted } = answer
      // The primary's answer to `local` is about itself; the caller's own node is what was missed.
      const level = call.await === 'local' ? 'none' : answer.level
      throw new ClusterError(
        'NOT_YET_VISIBLE',
        `database "${call.database}": the write is committed, but ${whyNotVisible(error)}`,
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
}

/** What leaves this node has an id. */
type ForwardedWrite = WriteCall & { readonly requestId: RequestId }

function readAnswer(body: Buffer, { database }: WriteCall): WriteAnswer {
  try {
    return decodeWriteAnswer(body, database)
  } catch (error) {
    throw new ClusterError('WRITE_OUTCOME_UNKNOWN', `database "${database}": the answer cannot be read`, {
      cause: error,
      details: { phase: 'answer' },
    })
  }
}

/** It says for certain what became of the request, or that nobody can tell. */
function isSettled(failure: unknown): boolean {
  return isClusterError(failure) && (failure.outcome === 'applied' || SETTLED.includes(failure.code))
}

/** While nothing was seen only the route is tried again; afterwards everything that may end in an answer. */
function mayRepeat(failure: ClusterError, unknown: ClusterError | undefined): boolean {
  return unknown === undefined ? ROUTING.includes(failure.code) : failure.retry !== 'never'
}

/** Of two failures that leave the outcome open: an answer says more than none. */
function tellingMore(before: ClusterError | undefined, now: ClusterError): ClusterError {
  return before !== undefined && failurePhase(now) === 'sending' ? before : now
}

function verdict(call: ForwardedWrite, failure: unknown, unknown: ClusterError | undefined): unknown {
  const { database, requestId } = call
  const details = { database, requestId, awaited: formatAwaitLevel(call.await) }
  if (unknown !== undefined) {
    return new ClusterError(
      'WRITE_OUTCOME_UNKNOWN',
      `database "${database}": the write was sent, but its fate is not known: ${unknown.summary}`,
      {
        cause: failure,
        details: {
          ...details,
          phase: failurePhase(unknown),
          lastError: isClusterError(failure) ? failure.code : undefined,
        },
      },
    )
  }
  if (!isClusterError(failure)) return failure
  return new ClusterError(
    'NO_PRIMARY',
    `database "${database}": no primary could be reached before the deadline: ${failure.summary}`,
    { cause: failure, details },
  )
}

function whyNotVisible(error: unknown): string {
  // It does not wait for the deadline then: it would wait in vain.
  if (isClusterError(error, 'POSITION_DIVERGED')) return 'this node is on another history, and about to be led back'
  return 'this node did not show it in time'
}
