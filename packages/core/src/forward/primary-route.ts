/**
 * The way to the primary, and when to try it again.
 *
 * Promises: nothing waits beyond its deadline; a wait ends early when another primary is known or a channel opens. Two nodes that
 * name each other as the primary do not make a caller spin.
 */
import type { Clock } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { Leadership } from '../leadership/leadership.ts'
import type { PrimaryInfo } from '../leadership/node-role.ts'
import type { PeerPool } from '../peer/peer-pool.ts'
import type { DatabaseName } from '../request/database-name.ts'
import { RetryGate } from './retry-gate.ts'

export interface PrimaryRouteParts {
  readonly clock: Clock
  readonly leadership: Pick<Leadership, 'primary' | 'waitForPrimary' | 'refresh'> & {
    onChange(listener: () => void): () => void
  }
  readonly peers: Pick<PeerPool, 'listen'>
}

const BACKOFF_MS_MIN = 20
const BACKOFF_MS_MAX = 250
/** Longest wait for a channel to open before the route is thought over again. */
const UNREACHABLE_MS = 1_000
/** With less time left nothing is tried again: an answer that cannot come in time turns "not applied" into "unknown". */
const ATTEMPT_MS_MIN = 20
/** Hints followed without a pause. */
const HINTS_MAX = 2

export class PrimaryRoute {
  readonly gate: RetryGate
  readonly #parts: PrimaryRouteParts
  readonly #stopListening: readonly (() => void)[]
  #isClosed = false

  constructor(parts: PrimaryRouteParts) {
    this.#parts = parts
    this.gate = new RetryGate(parts.clock)
    this.#stopListening = [
      parts.leadership.onChange(() => this.gate.open()),
      parts.peers.listen({ connected: () => this.gate.open() }),
    ]
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  /** The attempts of one request. */
  attempts(database: DatabaseName, deadlineMs: number): Attempts {
    return new Attempts(this, this.#parts, database, deadlineMs)
  }

  /** Ends every wait; what comes later is `CLOSED`. */
  close(): void {
    this.#isClosed = true
    for (const stop of this.#stopListening) stop()
    this.gate.close()
  }
}

export class Attempts {
  readonly #route: PrimaryRoute
  readonly #parts: PrimaryRouteParts
  readonly #database: DatabaseName
  readonly #deadlineMs: number
  #backoffMs = BACKOFF_MS_MIN
  #hints = 0
  #hint: string | undefined

  /** @internal Use `route.attempts()`. */
  constructor(route: PrimaryRoute, parts: PrimaryRouteParts, database: DatabaseName, deadlineMs: number) {
    this.#route = route
    this.#parts = parts
    this.#database = database
    this.#deadlineMs = deadlineMs
  }

  /**
   * Where to send the next attempt; `undefined`: this node.
   * @throws NO_PRIMARY at the deadline, PRIMARY_IS_LITEFS, CLOSED
   */
  async address(): Promise<string | undefined> {
    const { leadership } = this.#parts
    if (this.#route.isClosed) throw new ClusterError('CLOSED', 'the node was closed')
    if (this.#hint !== undefined) return this.#hint
    const primary: PrimaryInfo = leadership.primary() ?? (await leadership.waitForPrimary(this.#deadlineMs))
    if (primary.isSelf) return undefined
    if (primary.grpcAddress !== undefined) return primary.grpcAddress
    throw new ClusterError(
      'PRIMARY_IS_LITEFS',
      `database "${this.#database}": the primary "${primary.name}" is a LiteFS node`,
      { hint: 'Write on the host of the primary, or let a Litefleet node become primary.' },
    )
  }

  /** After a failure: resolves when another attempt makes sense, true if there is time for it. */
  async another(failure: ClusterError): Promise<boolean> {
    const { clock, leadership } = this.#parts
    const lastAttemptMs = this.#deadlineMs - ATTEMPT_MS_MIN
    this.#hint = this.#hints < HINTS_MAX ? hintIn(failure) : undefined
    if (this.#hint !== undefined) this.#hints++
    else {
      leadership.refresh()
      // A channel that opens, or another primary, ends the wait; only what changes on the other node has to be asked for.
      const waitMs = failure.code === 'PEER_UNREACHABLE' ? UNREACHABLE_MS : this.#backoffMs
      await this.#route.gate.wait(Math.min(lastAttemptMs, clock.monotonicMs() + waitMs))
      this.#backoffMs = Math.min(this.#backoffMs * 2, BACKOFF_MS_MAX)
    }
    return !this.#route.isClosed && clock.monotonicMs() < lastAttemptMs
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
