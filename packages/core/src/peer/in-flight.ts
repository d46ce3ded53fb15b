/**
 * The requests of one client that have no answer yet.
 *
 * Promises: each settles exactly once; one that was handed to the transport is never reported as "not applied". One
 * timer serves all deadlines, so a request may be failed one sweep late and never early.
 * Bound: `inFlightMax` requests, `inFlightBytesMax` bytes; `overBound` tells before one is added.
 */
import type { Clock } from '../base/clock.ts'
import { CoarseTimer } from '../base/coarse-timer.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { ResolvedPeerOptions } from './peer-options.ts'
import type { PeerMessage, WireRequest, WireRequestKind } from './wire-messages.ts'

/** Bodies in the compact form of `forward/`; `failure` is an error the request met on the other node. */
export type PeerReply =
  | { readonly kind: 'answer'; readonly body: Buffer }
  | { readonly kind: 'failure'; readonly body: Buffer }

export interface Pending {
  readonly id: number
  readonly kind: WireRequestKind
  readonly body: Uint8Array
  readonly deadlineMs: number
  /** Handed to the transport: the other side may have seen it. */
  wasSent: boolean
  isSettled: boolean
  resolve(reply: PeerReply): void
  reject(error: ClusterError): void
}

const SWEEP_MS = 10

export class InFlight {
  readonly #address: string
  readonly #clock: Clock
  readonly #options: ResolvedPeerOptions
  readonly #sweep: CoarseTimer
  readonly #pending = new Map<number, Pending>()
  #bytes = 0
  #nextId = 0

  constructor(address: string, clock: Clock, options: ResolvedPeerOptions) {
    this.#address = address
    this.#clock = clock
    this.#options = options
    this.#sweep = new CoarseTimer(clock, SWEEP_MS, (nowMs) => this.#expire(nowMs))
  }

  get size(): number {
    return this.#pending.size
  }

  /** Why a request of so many bytes cannot be added; `undefined` when it can. */
  overBound(bytes: number): ClusterError | undefined {
    const { inFlightMax, inFlightBytesMax, messageBytesMax } = this.#options
    if (bytes > messageBytesMax) {
      return new ClusterError('INVALID_REQUEST', `a request of ${bytes} bytes is above the limit of ${messageBytesMax}`)
    }
    if (this.#pending.size < inFlightMax && this.#bytes + bytes <= inFlightBytesMax) return undefined
    return new ClusterError(
      'PEER_QUEUE_FULL',
      `${this.#pending.size} requests to ${this.#address} have no answer yet`,
      {
        details: { peer: this.#address, inFlight: this.#pending.size, inFlightBytes: this.#bytes },
      },
    )
  }

  /** Adds a request and hands it to `push`. */
  add(
    kind: WireRequestKind,
    body: Uint8Array,
    deadlineMs: number,
    push: (pending: Pending) => void,
  ): Promise<PeerReply> {
    return new Promise((resolve, reject) => {
      const id = this.#freeId()
      const pending: Pending = { id, kind, body, deadlineMs, wasSent: false, isSettled: false, resolve, reject }
      this.#pending.set(id, pending)
      this.#bytes += body.length
      push(pending)
      this.#sweep.arm()
    })
  }

  /** The message of requests that leave now, each with the time its caller still waits. Expired ones stay out. */
  message(items: readonly Pending[]): PeerMessage | undefined {
    const nowMs = this.#clock.monotonicMs()
    const requests: WireRequest[] = []
    for (const pending of items) {
      if (pending.isSettled) continue
      pending.wasSent = true
      const timeoutMs = Math.max(1, Math.round(pending.deadlineMs - nowMs))
      requests.push({ id: pending.id, timeoutMs, kind: pending.kind, body: pending.body })
    }
    return requests.length === 0 ? undefined : { requests: { requests } }
  }

  /** The request a reply belongs to, settled by the caller from here on; `undefined` when nobody waits for it. */
  take(id: number): Pending | undefined {
    const pending = this.#pending.get(id)
    if (pending !== undefined) this.#settle(pending)
    return pending
  }

  /** The connection is gone. `notSent` is the error of what cannot have been seen. */
  fail(cause: ClusterError, notSent: () => ClusterError): void {
    for (const pending of this.#pending.values()) {
      this.#settle(pending)
      pending.reject(pending.wasSent ? this.#unanswered('the channel broke', cause) : notSent())
    }
  }

  stop(): void {
    this.#sweep.stop()
  }

  #expire(nowMs: number): boolean {
    for (const pending of this.#pending.values()) {
      if (pending.deadlineMs > nowMs) continue
      this.#settle(pending)
      pending.reject(
        pending.wasSent
          ? this.#unanswered('no answer came in time')
          : new ClusterError('DEADLINE_EXCEEDED', `the request to ${this.#address} was not sent in time`),
      )
    }
    return this.#pending.size > 0
  }

  #settle(pending: Pending): void {
    pending.isSettled = true
    this.#pending.delete(pending.id)
    this.#bytes -= pending.body.length
  }

  #freeId(): number {
    do this.#nextId = (this.#nextId + 1) >>> 0
    while (this.#pending.has(this.#nextId))
    return this.#nextId
  }

  #unanswered(why: string, cause?: unknown): ClusterError {
    return new ClusterError('WRITE_OUTCOME_UNKNOWN', `a request was sent to ${this.#address}, but ${why}`, {
      cause,
      details: { peer: this.#address, phase: 'sending' },
    })
  }
}
