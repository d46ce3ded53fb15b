/**
 * One channel to one node, from dialling to its end: the gRPC call, the hellos, the pings.
 *
 * Promises: `opened` is called once both sides accepted each other, in the turn of the other one's hello; then `ended`
 * exactly once, whatever the reason, and nothing after it. Without `opened` there is no `ended`. Every connection
 * resolves the name and dials anew, so an address that moved is found, and who answers is checked by its hello and,
 * with a cluster key, by its answer to our token.
 */
import { Client, type ClientDuplexStream, credentials, Metadata, type ServiceError } from '@grpc/grpc-js'
import type { Clock, Timer } from '../base/clock.ts'
import { ClusterError, isClusterError } from '../errors/cluster-error.ts'
import { type ClusterKeys, isTokenAnswer, signToken } from '../request/cluster-token.ts'
import { ChannelSender } from './channel-sender.ts'
import { fromStatus } from './grpc-errors.ts'
import { admitAnswerer, type Hello, type LocalHello } from './hello.ts'
import { Liveness } from './liveness.ts'
import type { ResolvedPeerOptions } from './peer-options.ts'
import { type PeerProtocol, PROTOCOL_VERSION } from './protocol.ts'
import {
  decodeHello,
  decodeMember,
  encodeHello,
  type Member,
  type PeerMessage,
  type WireReply,
} from './wire-messages.ts'

export interface ConnectionParts<Item> {
  readonly address: string
  readonly clock: Clock
  readonly protocol: PeerProtocol
  readonly options: ResolvedPeerOptions
  readonly keys: ClusterKeys
  /** Where to connect for an address, both `host:port`. */
  route(address: string): string
  /** Default: gRPC. */
  readonly dial?: Dial | undefined
  hello(): LocalHello
  /** Makes the message of requests that leave now. */
  batch(items: readonly Item[]): PeerMessage | undefined
  replies(replies: readonly WireReply[]): void
  membership(members: readonly Member[]): void
  /** The other side takes no new requests. */
  goodbye(reason: string): void
  opened(connection: ClientConnection<Item>): void
  ended(error: ClusterError): void
}

export type Call = ClientDuplexStream<PeerMessage, PeerMessage>

/** A call that was begun, and the end of what carries it. */
export interface Dialled {
  readonly call: Call
  close(): void
}

/** Begins a call of the channel's method at an address (`host:port`); trouble is an event of the call. */
export type Dial = (address: string, metadata: Metadata) => Dialled

/**
 * gRPC's own reconnecting, retrying, proxying and sharing of connections are off: `PeerClient` decides when to dial.
 */
export function channelOptions(messageBytesMax: number): Record<string, number> {
  return {
    'grpc.enable_retries': 0,
    'grpc.enable_http_proxy': 0,
    'grpc.use_local_subchannel_pool': 1,
    'grpc.service_config_disable_resolution': 1,
    // HTTP/2's own 64 KiB would carry one window per round trip: 640 KB/s between continents.
    'grpc-node.flow_control_window': 4 << 20,
    // One message carries at most one item of the largest size, or several of together 1 MiB, and the fields around
    // them.
    'grpc.max_receive_message_length': messageBytesMax + (2 << 20),
    'grpc.max_send_message_length': messageBytesMax + (2 << 20),
  }
}

export class ClientConnection<Item> {
  readonly sender: ChannelSender<Item>
  readonly #parts: ConnectionParts<Item>
  readonly #dialled: Dialled
  readonly #token: string | undefined
  readonly #end = Promise.withResolvers<ClusterError>()
  readonly #helloTimer: Timer
  #hello: Hello | undefined
  #liveness: Liveness | undefined
  #isEnded = false

  /**
   * Dials, and stays until the connection ends; rejects with the reason.
   * @throws PEER_UNREACHABLE, CLUSTER_MISMATCH, PROTOCOL_MISMATCH, UNAUTHENTICATED; CLOSED with the signal
   */
  static async run<Item>(parts: ConnectionParts<Item>, signal: AbortSignal): Promise<never> {
    const connection = new ClientConnection(parts)
    const close = (): void => connection.close('this node closes it')
    signal.addEventListener('abort', close, { once: true })
    if (signal.aborted) close()
    try {
      throw await connection.#end.promise
    } finally {
      signal.removeEventListener('abort', close)
    }
  }

  private constructor(parts: ConnectionParts<Item>) {
    this.#parts = parts
    const { address, clock, keys, options, protocol } = parts
    const ours = parts.hello()
    this.#token = signToken(keys, 'channel', { clusterId: ours.clusterId, nodeName: ours.nodeName }, clock.nowMs())
    const metadata = new Metadata()
    if (this.#token !== undefined) metadata.set('authorization', `Bearer ${this.#token}`)
    const dial = parts.dial ?? grpcDial(protocol, options)
    this.#dialled = dial(parts.route(address), metadata)
    const { call } = this.#dialled
    this.sender = new ChannelSender({
      write: (message, done) => call.write(message, done),
      batch: (items) => parts.batch(items),
    })
    this.#helloTimer = clock.setTimer(options.connectTimeoutMs, () =>
      this.#finish(unreachable(address, `no hello came within ${options.connectTimeoutMs} ms`)),
    )
    call.on('data', (message: PeerMessage) => this.#receive(message))
    call.on('error', (error: ServiceError) => this.#finish(fromStatus(error, address)))
    call.on('end', () => this.#finish(unreachable(address, 'the other side ended the channel')))
    call.write({ hello: encodeHello({ ...ours, protocolVersion: PROTOCOL_VERSION, tokenAnswer: '' }) })
  }

  /** Who answered. */
  get hello(): Hello {
    return this.#hello as Hello
  }

  get rttMs(): number | undefined {
    return this.#liveness?.rttMs
  }

  /** Ends the channel; requests that were handed to the transport stay without an answer. Idempotent. */
  close(reason: string): void {
    this.#finish(new ClusterError('CLOSED', `the channel to ${this.#parts.address} was closed: ${reason}`))
  }

  #receive(message: PeerMessage): void {
    if (this.#isEnded) return
    this.#liveness?.heard()
    try {
      if (message.hello !== undefined) this.#greet(decodeHello(message.hello))
      // Nothing is believed of a node that has not proved itself.
      else if (this.#hello === undefined) throw new ClusterError('INVALID_REQUEST', 'the first message must be a hello')
      else if (message.replies !== undefined) this.#parts.replies(message.replies.replies)
      else if (message.membership !== undefined) this.#parts.membership(message.membership.members.map(decodeMember))
      else if (message.ping !== undefined) this.#answerPing(message.ping.nonce)
      else if (message.pong !== undefined) this.#liveness?.pong(message.pong.nonce)
      else if (message.goodbye !== undefined) this.#parts.goodbye(message.goodbye.reason)
    } catch (error) {
      this.#finish(
        isClusterError(error) ? error : unreachable(this.#parts.address, 'a message could not be read', error),
      )
    }
  }

  #greet(theirs: Hello): void {
    if (this.#hello !== undefined) return
    const { address, clock, keys, options } = this.#parts
    admitAnswerer(theirs, this.#parts.hello())
    if (this.#token !== undefined && !isTokenAnswer(keys, this.#token, theirs.tokenAnswer)) {
      throw new ClusterError('UNAUTHENTICATED', `${address} did not prove that it knows the cluster key`, {
        hint: 'Give every node of the cluster the same clusterKey.',
      })
    }
    this.#hello = theirs
    this.#helloTimer.cancel()
    this.#liveness = new Liveness({
      clock,
      keepaliveMs: options.keepaliveMs,
      silenceMs: options.silenceMs,
      ping: (nonce) => this.sender.notice('ping', () => ({ ping: { nonce } })),
      dead: (silentMs) => this.#finish(unreachable(address, `nothing was heard for ${Math.round(silentMs)} ms`)),
    })
    this.#liveness.measure()
    this.#parts.opened(this)
  }

  #answerPing(nonce: number): void {
    this.sender.notice('pong', () => ({ pong: { nonce } }))
  }

  #finish(error: ClusterError): void {
    if (this.#isEnded) return
    this.#isEnded = true
    this.#helloTimer.cancel()
    this.#liveness?.stop()
    // gRPC reports the cancellation as an error of the call, after we stopped listening to its meaning.
    this.#dialled.call.cancel()
    this.#dialled.close()
    if (this.#hello !== undefined) this.#parts.ended(error)
    this.#end.resolve(error)
  }
}

function grpcDial(protocol: PeerProtocol, { messageBytesMax }: ResolvedPeerOptions): Dial {
  return (address, metadata) => {
    const client = new Client(address, credentials.createInsecure(), channelOptions(messageBytesMax))
    const { path, requestSerialize, responseDeserialize } = protocol.peer['Channel']!
    const call = client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, metadata) as Call
    return { call, close: () => client.close() }
  }
}

function unreachable(address: string, reason: string, cause?: unknown): ClusterError {
  return new ClusterError('PEER_UNREACHABLE', `${address}: ${reason}`, { cause, details: { peer: address } })
}
