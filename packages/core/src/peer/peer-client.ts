/**
 * This node's side of the channel to one other node: keeps it open, sends requests over it, matches the replies.
 *
 * Relies on: request bodies are complete and immutable; the other side answers each request at most once.
 * Promises: every request settles exactly once, by its deadline (plus one sweep) at the latest. A rejection says
 * whether the other side can have seen the request: `PEER_UNREACHABLE`, `PEER_QUEUE_FULL` and `DEADLINE_EXCEEDED` mean
 * it cannot; `WRITE_OUTCOME_UNKNOWN` means it was handed to the transport and no answer came. Nothing is sent twice:
 * repeating is the forwarder's business. A reply nobody waits for is dropped. Without a connection a request fails at
 * once; `onConnected` tells when trying again makes sense.
 */
import type { Clock } from '../base/clock.ts'
import { RunLoop } from '../base/run-loop.ts'
import { ClusterError, isClusterError } from '../errors/cluster-error.ts'
import { type ErrorCode, errorTable } from '../errors/error-table.ts'
import type { ReplicaReport } from '../position/replica-report.ts'
import type { ClusterKeys } from '../request/cluster-token.ts'
import { ClientConnection, type Dial } from './client-connection.ts'
import type { Hello, LocalHello } from './hello.ts'
import { InFlight, type Pending, type PeerReply } from './in-flight.ts'
import type { ResolvedPeerOptions } from './peer-options.ts'
import type { PeerProtocol } from './protocol.ts'
import { encodeReport, type Member, type WireReply } from './wire-messages.ts'

export type RequestKind = 'write' | 'call' | 'resolve'

export type PeerState =
  | { readonly kind: 'connecting'; readonly lastError: ClusterError | undefined }
  | { readonly kind: 'connected'; readonly hello: Hello; readonly rttMs: number | undefined }
  /** The nodes refuse each other; dialling goes on, because the other one may be replaced. */
  | { readonly kind: 'refused'; readonly error: ClusterError }
  | { readonly kind: 'closed' }

export interface PeerClientParts {
  /** `host:port`. */
  readonly address: string
  readonly clock: Clock
  readonly protocol: PeerProtocol
  readonly options: ResolvedPeerOptions
  readonly keys: ClusterKeys
  /** Where to connect for an address, both `host:port`. */
  route(address: string): string
  /** Default: gRPC. */
  readonly dial?: Dial | undefined
  random(): number
  hello(): LocalHello
  /** This node has no cluster id yet and the other one told its own. */
  adoptClusterId(clusterId: string): void
  onConnected(client: PeerClient, hello: Hello): void
  onDisconnected(client: PeerClient, error: ClusterError): void
  /** The other node, a primary, told who belongs to the cluster. */
  onMembership(members: readonly Member[]): void
}

/** Codes with which two nodes refuse each other for good, as they are now. */
const REFUSALS: readonly ErrorCode[] = ['CLUSTER_MISMATCH', 'PROTOCOL_MISMATCH', 'UNAUTHENTICATED']
const WIRE_KIND = {
  write: 'REQUEST_KIND_WRITE',
  call: 'REQUEST_KIND_CALL',
  resolve: 'REQUEST_KIND_RESOLVE',
} as const

export class PeerClient {
  readonly address: string
  readonly #parts: PeerClientParts
  readonly #loop: RunLoop
  readonly #inFlight: InFlight
  #connection: ClientConnection<Pending> | undefined
  /** The other side said goodbye: nothing new goes to it. */
  #isLeaving = false
  #lastError: ClusterError | undefined
  /** Why nothing can be sent now; made when first asked for, forgotten with every change. */
  #refused: ClusterError | undefined
  #isClosed = false

  constructor(parts: PeerClientParts) {
    this.address = parts.address
    this.#parts = parts
    this.#inFlight = new InFlight(parts.address, parts.clock, parts.options)
    this.#loop = new RunLoop({
      clock: parts.clock,
      minDelayMs: parts.options.reconnectMinMs,
      maxDelayMs: parts.options.reconnectMaxMs,
      random: () => parts.random(),
      task: (signal, progress) => this.#serve(signal, progress),
      onFailure: (error) => {
        this.#refused = undefined
        this.#lastError = isClusterError(error)
          ? error
          : new ClusterError('PEER_UNREACHABLE', `${this.address}: ${String(error)}`, { cause: error })
      },
    })
  }

  /** Starts to dial, and dials again for ever. */
  start(): void {
    this.#loop.start()
  }

  get state(): PeerState {
    if (this.#isClosed) return { kind: 'closed' }
    if (this.#connection !== undefined) {
      return { kind: 'connected', hello: this.#connection.hello, rttMs: this.#connection.rttMs }
    }
    const error = this.#lastError
    return error !== undefined && REFUSALS.includes(error.code)
      ? { kind: 'refused', error }
      : { kind: 'connecting', lastError: error }
  }

  get isBusy(): boolean {
    return this.#inFlight.size > 0
  }

  /**
   * Sends a request. The other side learns how long this one still waits.
   * @param deadlineMs on the clock's monotonic scale
   * @throws see the head of this file; also what the nodes refuse each other with
   */
  request(kind: RequestKind, body: Uint8Array, deadlineMs: number): Promise<PeerReply> {
    const connection = this.#connection
    const isOpen = connection !== undefined && !this.#isLeaving
    const refused = isOpen ? this.#inFlight.overBound(body.length) : this.#notConnected()
    if (refused !== undefined || connection === undefined) return Promise.reject(refused ?? this.#notConnected())
    return this.#inFlight.add(WIRE_KIND[kind], body, deadlineMs, (pending) =>
      connection.sender.push(pending, body.length),
    )
  }

  /**
   * Sends the reports that `collect` answers when the message leaves, if it answers any. False without a connection:
   * then nothing is kept, and `onConnected` is the moment to send everything.
   */
  sendPositions(collect: () => readonly ReplicaReport[] | undefined): boolean {
    if (this.#connection === undefined) return false
    this.#connection.sender.notice('positions', () => {
      const reports = collect()
      return reports === undefined ? undefined : { positions: { reports: reports.map(encodeReport) } }
    })
    return true
  }

  /** Ends a wait between two attempts to connect. */
  wake(): void {
    this.#loop.wake()
  }

  /** Ends the channel and fails what is in flight. Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true
    this.#refused = undefined
    this.#connection?.close('this node closes it')
    await this.#loop.stop()
    this.#inFlight.stop()
  }

  async #serve(signal: AbortSignal, progress: () => void): Promise<void> {
    const { address, clock, protocol, options, keys, dial } = this.#parts
    await ClientConnection.run<Pending>(
      {
        address,
        clock,
        protocol,
        options,
        keys,
        dial,
        route: (asked) => this.#parts.route(asked),
        hello: () => this.#parts.hello(),
        batch: (items) => this.#inFlight.message(items),
        opened: (connection) => {
          progress()
          this.#use(connection)
        },
        replies: (replies) => this.#receive(replies),
        membership: (members) => this.#parts.onMembership(members),
        goodbye: () => {
          this.#isLeaving = true
          this.#refused = undefined
        },
        ended: (error) => this.#lose(error),
      },
      signal,
    )
  }

  #use(connection: ClientConnection<Pending>): void {
    const { hello } = connection
    if (this.#parts.hello().clusterId === '') this.#parts.adoptClusterId(hello.clusterId)
    this.#connection = connection
    this.#isLeaving = false
    this.#lastError = undefined
    this.#refused = undefined
    this.#parts.onConnected(this, hello)
  }

  #receive(replies: readonly WireReply[]): void {
    for (const reply of replies) {
      const pending = this.#inFlight.take(reply.id)
      if (pending === undefined) continue
      if (reply.answer !== undefined) pending.resolve({ kind: 'answer', body: reply.answer })
      else if (reply.failure !== undefined) pending.resolve({ kind: 'failure', body: reply.failure })
      else pending.reject(this.#refusal(reply.refusal))
    }
  }

  #refusal(refusal: WireReply['refusal']): ClusterError {
    const details = { peer: this.address }
    if (refusal === undefined || refusal === null) {
      return new ClusterError('WRITE_OUTCOME_UNKNOWN', `${this.address} sent an empty reply`, {
        details: { ...details, phase: 'answer' },
      })
    }
    // Whatever a later release calls its reason: the request was turned away unread.
    const code = Object.hasOwn(errorTable, refusal.code) ? (refusal.code as ErrorCode) : 'PEER_UNREACHABLE'
    return new ClusterError(code, `${this.address} says: ${refusal.message}`, { details })
  }

  #lose(error: ClusterError): void {
    const connection = this.#connection
    this.#connection = undefined
    this.#lastError = error
    this.#refused = undefined
    connection?.sender.close()
    this.#inFlight.fail(error, () => this.#notConnected())
    if (connection !== undefined) this.#parts.onDisconnected(this, error)
  }

  /** One error for all callers: thousands may wait for the same connection. */
  #notConnected(): ClusterError {
    this.#refused ??= this.#makeRefused()
    return this.#refused
  }

  #makeRefused(): ClusterError {
    if (this.#isClosed) return new ClusterError('CLOSED', `the client of ${this.address} was closed`)
    const cause = this.#lastError
    if (cause !== undefined && REFUSALS.includes(cause.code)) return cause
    const why = cause?.summary ?? `${this.address}: ${this.#isLeaving ? 'the node is closing' : 'not connected yet'}`
    return new ClusterError('PEER_UNREACHABLE', why, { cause, details: { peer: this.address } })
  }
}
