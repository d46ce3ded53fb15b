/**
 * The answering half of one channel: a node that dialled this one, from its hello to the end of the call.
 *
 * Promises: `opened` and then `ended` are called once each, or neither; a request gets at most one reply, and none
 * after the end; what is above the bounds is refused before anybody looks at it. A request that is running when the
 * channel ends goes on, its reply is dropped: the dialling side asks again with the same request id.
 * Bound: `inFlightMax` requests and `inFlightBytesMax` bytes that have no reply in the transport yet, so a dialler that
 * does not read its replies is refused, not buffered for; at twice the count its channel is ended.
 */
import type { ServerDuplexStream } from '@grpc/grpc-js'
import type { Clock, Timer } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { ErrorCode } from '../errors/error-table.ts'
import type { ReplicaReport } from '../position/replica-report.ts'
import { ChannelSender } from './channel-sender.ts'
import { innerTimeoutMs } from './deadline-margin.ts'
import { toStatus } from './grpc-errors.ts'
import { admitDialler, type Hello, type LocalHello } from './hello.ts'
import { Liveness } from './liveness.ts'
import type { RequestKind } from './peer-client.ts'
import type { ResolvedPeerOptions } from './peer-options.ts'
import { PROTOCOL_VERSION } from './protocol.ts'
import {
  decodeHello,
  decodeReport,
  encodeHello,
  encodeMember,
  type Member,
  type PeerMessage,
  type WireReply,
  type WireRequest,
} from './wire-messages.ts'

/** A request of another node, in the compact form of `forward/`. Answered by exactly one call of `answer` or `fail`. */
export interface IncomingRequest {
  readonly kind: RequestKind
  readonly body: Buffer
  /** On this node's monotonic scale, the margin of this hop already subtracted. */
  readonly deadlineMs: number
  /** Who asks. */
  readonly peer: Hello
  answer(body: Buffer): void
  fail(body: Buffer): void
}

export interface SessionParts {
  readonly clock: Clock
  readonly options: ResolvedPeerOptions
  /** Proof for the dialler's token; empty without one. */
  readonly tokenAnswer: string
  /** The node name in the dialler's token, which its hello must repeat; `undefined` without a token. */
  readonly provenName: string | undefined
  hello(): LocalHello
  request(request: IncomingRequest): void
  positions(peer: Hello, reports: readonly ReplicaReport[]): void
  /** Who says to be dialling, before it is known whether the nodes belong together. */
  met(peer: Hello): void
  opened(session: PeerSession): void
  ended(session: PeerSession): void
}

const KINDS: Readonly<Record<string, RequestKind>> = {
  REQUEST_KIND_WRITE: 'write',
  REQUEST_KIND_CALL: 'call',
  REQUEST_KIND_RESOLVE: 'resolve',
}

interface Outgoing {
  readonly reply: WireReply
  readonly requestBytes: number
}

export class PeerSession {
  readonly #parts: SessionParts
  readonly #stream: ServerDuplexStream<PeerMessage, PeerMessage>
  readonly #sender: ChannelSender<Outgoing>
  readonly #helloTimer: Timer
  #peer: Hello | undefined
  #liveness: Liveness | undefined
  #inFlight = 0
  #inFlightBytes = 0
  #running = 0
  #isLeaving = false
  #isEnded = false
  #settled: (() => void)[] = []

  constructor(stream: ServerDuplexStream<PeerMessage, PeerMessage>, parts: SessionParts) {
    this.#stream = stream
    this.#parts = parts
    this.#sender = new ChannelSender({
      write: (message, done) => stream.write(message, done),
      batch: (items) => this.#batch(items),
    })
    const { connectTimeoutMs } = parts.options
    this.#helloTimer = parts.clock.setTimer(connectTimeoutMs, () =>
      this.close(new ClusterError('INVALID_REQUEST', `no hello came within ${connectTimeoutMs} ms`)),
    )
    stream.on('data', (message: PeerMessage) => this.#receive(message))
    stream.on('error', () => this.#end())
    stream.on('cancelled', () => this.#end())
    stream.on('end', () => {
      this.#end()
      stream.end()
    })
  }

  /** Who dialled. */
  get peer(): Hello {
    return this.#peer as Hello
  }

  get rttMs(): number | undefined {
    return this.#liveness?.rttMs
  }

  /** Sends the members that `collect` answers when the message leaves. */
  sendMembership(collect: () => readonly Member[]): void {
    this.#sender.notice('membership', () => ({ membership: { members: collect().map(encodeMember) } }))
  }

  /** Takes no new requests; resolves when what was taken is answered and sent, or the channel ended. */
  async drain(reason: string): Promise<void> {
    this.#isLeaving = true
    if (this.#isEnded) return
    this.#sender.notice('goodbye', () => ({ goodbye: { reason } }))
    if (this.#running > 0) await new Promise<void>((resolve) => this.#settled.push(resolve))
    await this.#sender.drained()
  }

  /** Ends the channel, with the reason as a status when there is one. Idempotent. */
  close(error?: unknown): void {
    if (this.#isEnded) return
    this.#end()
    if (error === undefined) this.#stream.end()
    else this.#stream.emit('error', toStatus(error))
  }

  #receive(message: PeerMessage): void {
    if (this.#isEnded) return
    this.#liveness?.heard()
    try {
      if (message.hello !== undefined) this.#greet(decodeHello(message.hello))
      else if (this.#peer === undefined) throw new ClusterError('INVALID_REQUEST', 'the first message must be a hello')
      else if (message.requests !== undefined) for (const request of message.requests.requests) this.#take(request)
      else if (message.positions !== undefined) {
        this.#parts.positions(this.#peer, message.positions.reports.map(decodeReport))
      } else if (message.ping !== undefined) this.#answerPing(message.ping.nonce)
      else if (message.pong !== undefined) this.#liveness?.pong(message.pong.nonce)
    } catch (error) {
      this.close(error)
    }
  }

  #greet(theirs: Hello): void {
    if (this.#peer !== undefined) throw new ClusterError('INVALID_REQUEST', 'a second hello')
    const { clock, options, provenName, tokenAnswer } = this.#parts
    const ours = this.#parts.hello()
    this.#parts.met(theirs)
    admitDialler(theirs, ours)
    if (provenName !== undefined && provenName !== theirs.nodeName) {
      throw new ClusterError(
        'UNAUTHENTICATED',
        `the token of node "${provenName}" came with the hello of "${theirs.nodeName}"`,
      )
    }
    this.#peer = theirs
    this.#helloTimer.cancel()
    this.#stream.write({ hello: encodeHello({ ...ours, protocolVersion: PROTOCOL_VERSION, tokenAnswer }) })
    this.#liveness = new Liveness({
      clock,
      keepaliveMs: options.keepaliveMs,
      silenceMs: options.silenceMs,
      ping: (nonce) => this.#sender.notice('ping', () => ({ ping: { nonce } })),
      dead: (silentMs) =>
        this.close(
          new ClusterError(
            'PEER_UNREACHABLE',
            `nothing was heard from "${theirs.nodeName}" for ${Math.round(silentMs)} ms`,
          ),
        ),
    })
    this.#parts.opened(this)
  }

  #answerPing(nonce: number): void {
    this.#sender.notice('pong', () => ({ pong: { nonce } }))
  }

  #take({ id, timeoutMs, kind, body }: WireRequest): void {
    const { options, clock } = this.#parts
    const bytes = body.length
    this.#inFlight++
    this.#inFlightBytes += bytes
    if (this.#isLeaving) return this.#refuse(id, bytes, 'PEER_UNREACHABLE', 'this node is closing')
    const known = KINDS[kind]
    if (known === undefined) {
      return this.#refuse(id, bytes, 'PROTOCOL_MISMATCH', `unknown kind of request: ${kind}`)
    }
    if (this.#inFlight > 2 * options.inFlightMax) {
      throw new ClusterError('PEER_QUEUE_FULL', `node "${this.peer.nodeName}" asks without reading its replies`)
    }
    if (this.#inFlight > options.inFlightMax || this.#inFlightBytes > options.inFlightBytesMax) {
      return this.#refuse(id, bytes, 'PEER_QUEUE_FULL', `${this.#inFlight} requests of this channel have no answer yet`)
    }
    let isAnswered = false
    const reply = (message: WireReply): void => {
      if (isAnswered) return
      isAnswered = true
      this.#running--
      this.#reply(message, bytes)
      if (this.#running === 0) this.#releaseSettled()
    }
    this.#running++
    this.#parts.request({
      kind: known,
      body: body as Buffer,
      deadlineMs: clock.monotonicMs() + innerTimeoutMs(timeoutMs),
      peer: this.peer,
      answer: (answer) => reply({ id, answer }),
      fail: (failure) => reply({ id, failure }),
    })
  }

  #refuse(id: number, requestBytes: number, code: ErrorCode, message: string): void {
    this.#reply({ id, refusal: { code, message } }, requestBytes)
  }

  #reply(reply: WireReply, requestBytes: number): void {
    if (this.#isEnded) return
    this.#sender.push({ reply, requestBytes }, (reply.answer ?? reply.failure)?.length ?? 0)
  }

  #batch(items: readonly Outgoing[]): PeerMessage {
    for (const { requestBytes } of items) {
      this.#inFlight--
      this.#inFlightBytes -= requestBytes
    }
    return { replies: { replies: items.map(({ reply }) => reply) } }
  }

  #end(): void {
    if (this.#isEnded) return
    this.#isEnded = true
    this.#helloTimer.cancel()
    this.#liveness?.stop()
    this.#sender.close()
    this.#releaseSettled()
    if (this.#peer !== undefined) this.#parts.ended(this)
  }

  #releaseSettled(): void {
    for (const resolve of this.#settled.splice(0)) resolve()
  }
}
