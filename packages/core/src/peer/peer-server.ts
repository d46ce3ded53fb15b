/**
 * The gRPC listener of a node: channels of other nodes, the unary methods for programs in other languages, and the
 * status for operators.
 *
 * Promises: nothing is looked at before the caller proved that it knows the cluster key, where there is one; a channel
 * counts as a replica from its first position report to its end, and of one node only the newest such channel does.
 * `close()` first answers what was taken.
 * Bound: `inFlightMax` unary calls at a time, the session's bounds for each channel.
 */
import {
  type Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type sendUnaryData,
} from '@grpc/grpc-js'
import type { Clock } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { ReplicaReport } from '../position/replica-report.ts'
import {
  answerToken,
  type ClusterKeys,
  type TokenPurpose,
  TokenVerifier,
  type VerifiedToken,
} from '../request/cluster-token.ts'
import {
  type Candidacy,
  decodeCandidacy,
  decodeSuccession,
  encodeStanding,
  type Standing,
  type Succession,
  type WireCandidacy,
  type WireSuccession,
} from './candidacy.ts'
import { channelOptions } from './client-connection.ts'
import { innerTimeoutMs } from './deadline-margin.ts'
import { toStatus } from './grpc-errors.ts'
import type { Hello, LocalHello } from './hello.ts'
import { encodeStatus, type NodeStatus, type WireStatus } from './node-status.ts'
import type { OfficeReply } from './office-client.ts'
import type { ResolvedPeerOptions } from './peer-options.ts'
import { type IncomingRequest, PeerSession } from './peer-session.ts'
import type { PeerProtocol } from './protocol.ts'
import { requireSecureListener } from './secure-listener.ts'
import type {
  WireCallReply,
  WireCallRequest,
  WireResolveReply,
  WireResolveRequest,
  WireWriteReply,
  WireWriteRequest,
} from './unary-messages.ts'
import type { Member, PeerMessage } from './wire-messages.ts'

export interface PeerServerHandlers {
  /** A request of another node, over its channel. */
  request(request: IncomingRequest): void
  /** A write of a program that is no node. `deadlineMs` is on the monotonic scale, with the margin subtracted. */
  write(request: WireWriteRequest, deadlineMs: number): Promise<WireWriteReply>
  /** A function call of a program that is no node. */
  call(request: WireCallRequest, deadlineMs: number): Promise<WireCallReply>
  /** What became of a write, asked by a program that is no node. */
  resolve(request: WireResolveRequest, deadlineMs: number): Promise<WireResolveReply>
  /** A candidate asks what this node has, and for its promise. */
  stand(candidacy: Candidacy): Promise<Standing>
  /** The primary is about to give its office away. */
  succeed(succession: Succession): void
  status(): NodeStatus
  /** An operator wants this node in office. */
  promote(acceptLoss: boolean, deadlineMs: number): Promise<OfficeReply>
  /** An operator wants another node in office; empty: the one that is furthest. */
  handOff(to: string, deadlineMs: number): Promise<OfficeReply>
  /** An operator wants this node, which is the primary, out of office. */
  demote(deadlineMs: number): Promise<OfficeReply>
  /** A node that proved the key dialled, whether it is of this cluster or not. */
  met(peer: Hello): void
  replicaJoined(peer: Hello): void
  replicaReported(peer: Hello, reports: readonly ReplicaReport[]): void
  replicaLeft(peer: Hello): void
}

export interface PeerServerParts {
  readonly clock: Clock
  readonly protocol: PeerProtocol
  readonly options: ResolvedPeerOptions
  readonly keys: ClusterKeys
  readonly handlers: PeerServerHandlers
  hello(): LocalHello
}

/** Where a unary call without a timeout of its own gives up. */
const UNARY_TIMEOUT_MS = 5_000

export class PeerServer {
  readonly #parts: PeerServerParts
  readonly #server: Server
  readonly #tokens: TokenVerifier
  readonly #sessions = new Set<PeerSession>()
  /** Node id → its newest channel that reported positions. */
  readonly #replicas = new Map<string, PeerSession>()
  #unaryInFlight = 0
  #closing: Promise<void> | undefined

  constructor(parts: PeerServerParts) {
    this.#parts = parts
    this.#tokens = new TokenVerifier(parts.keys, () => parts.clock.nowMs())
    this.#server = new Server(channelOptions(parts.options.messageBytesMax))
    const { handlers, protocol } = parts
    this.#server.addService(protocol.peer, {
      channel: (stream: ServerDuplexStream<PeerMessage, PeerMessage>) => this.accept(stream),
      write: this.#unary((request: WireWriteRequest, deadlineMs) => handlers.write(request, deadlineMs)),
      resolve: this.#unary((request: WireResolveRequest, deadlineMs) => handlers.resolve(request, deadlineMs)),
      call: this.#unary((request: WireCallRequest, deadlineMs) => handlers.call(request, deadlineMs)),
      stand: this.#unary(async (request: WireCandidacy) =>
        encodeStanding(await handlers.stand(decodeCandidacy(request))),
      ),
      succeed: this.#unary(async (request: WireSuccession) => {
        handlers.succeed(decodeSuccession(request))
        return {}
      }),
    })
    this.#server.addService(protocol.admin, {
      status: this.#unary((): Promise<WireStatus> => Promise.resolve(encodeStatus(handlers.status()))),
      promote: this.#unary(({ acceptLoss }: { acceptLoss: boolean }, deadlineMs) =>
        handlers.promote(acceptLoss, deadlineMs),
      ),
      handOff: this.#unary(({ to }: { to: string }, deadlineMs) => handlers.handOff(to, deadlineMs)),
      demote: this.#unary((_: object, deadlineMs) => handlers.demote(deadlineMs)),
    })
  }

  /**
   * Starts to listen.
   * @param port 0: any free one
   * @returns the port
   * @throws INSECURE_LISTENER beyond loopback without a key; the operating system's error when the address cannot be
   * bound
   */
  listen(host: string, port: number): Promise<number> {
    requireSecureListener(host, this.#parts.keys.length > 0)
    const address = host.includes(':') && !host.startsWith('[') ? `[${host}]:${port}` : `${host}:${port}`
    return new Promise((resolve, reject) => {
      this.#server.bindAsync(address, ServerCredentials.createInsecure(), (error, bound) => {
        if (error === null) resolve(bound)
        else
          reject(new ClusterError('LISTEN_FAILED', `cannot listen on ${address}: ${error.message}`, { cause: error }))
      })
    })
  }

  /** Tells every replica who belongs to the cluster; `collect` is asked when the message leaves. */
  broadcastMembership(collect: () => readonly Member[]): void {
    for (const session of this.#replicas.values()) session.sendMembership(collect)
  }

  /** Who reported positions on a channel that is open, with the last measured round trip. */
  replicas(): readonly { readonly hello: Hello; readonly rttMs: number | undefined }[] {
    return [...this.#replicas.values()].map((session) => ({ hello: session.peer, rttMs: session.rttMs }))
  }

  /** A node dialled this one. gRPC calls it; so does a transport that a test made. */
  accept(stream: ServerDuplexStream<PeerMessage, PeerMessage>): void {
    const { clock, options, handlers, hello } = this.#parts
    let proof: VerifiedToken | undefined
    let token: string | undefined
    try {
      if (this.#closing !== undefined) throw new ClusterError('CLOSED', 'the node is closing')
      token = bearer(stream.metadata)
      proof = this.#authenticate(token, 'channel')
    } catch (error) {
      stream.on('error', () => undefined)
      stream.emit('error', toStatus(error))
      return
    }
    const session: PeerSession = new PeerSession(stream, {
      clock,
      options,
      hello,
      provenName: proof?.nodeName,
      tokenAnswer: proof === undefined || token === undefined ? '' : answerToken(proof.key, token),
      request: (request) => handlers.request(request),
      positions: (peer, reports) => this.#report(session, peer, reports),
      met: (peer) => handlers.met(peer),
      opened: () => this.#sessions.add(session),
      ended: () => this.#forget(session),
    })
  }

  /** Takes nothing new, answers what was taken for at most `drainMs`, then ends every channel. Idempotent. */
  close(drainMs = 1_000): Promise<void> {
    this.#closing ??= this.#close(drainMs)
    return this.#closing
  }

  async #close(drainMs: number): Promise<void> {
    const late = Promise.withResolvers<void>()
    const timer = this.#parts.clock.setTimer(drainMs, late.resolve)
    const drained = Promise.all([...this.#sessions].map((session) => session.drain('the node is closing')))
    await Promise.race([drained, late.promise])
    timer.cancel()
    for (const session of this.#sessions) session.close()
    this.#server.forceShutdown()
  }

  #report(session: PeerSession, peer: Hello, reports: readonly ReplicaReport[]): void {
    const known = this.#replicas.get(peer.nodeId)
    if (known !== session) {
      this.#replicas.set(peer.nodeId, session)
      // The node dialled again before we noticed that its old channel is dead.
      known?.close()
      this.#parts.handlers.replicaJoined(peer)
    }
    this.#parts.handlers.replicaReported(peer, reports)
  }

  #forget(session: PeerSession): void {
    this.#sessions.delete(session)
    const { peer } = session
    if (this.#replicas.get(peer.nodeId) !== session) return
    this.#replicas.delete(peer.nodeId)
    this.#parts.handlers.replicaLeft(peer)
  }

  #authenticate(token: string | undefined, purpose: TokenPurpose): VerifiedToken | undefined {
    if (!this.#tokens.isRequired) return undefined
    const proof = this.#tokens.verify(token, purpose)
    // A program that is no node may leave the id out.
    if (proof.clusterId === '') return proof
    const { clusterId } = this.#parts.hello()
    if (clusterId !== '' && proof.clusterId !== clusterId) {
      throw new ClusterError(
        'CLUSTER_MISMATCH',
        `the caller belongs to cluster ${proof.clusterId}, this node to ${clusterId}`,
      )
    }
    return proof
  }

  #unary<Request, Reply>(
    run: (request: Request, deadlineMs: number) => Promise<Reply>,
  ): (call: ServerUnaryCall<Request, Reply>, reply: sendUnaryData<Reply>) => void {
    return (call, reply) => {
      this.#admitUnary(call, run).then(
        (answer) => reply(null, answer),
        (error: unknown) => reply(toStatus(error)),
      )
    }
  }

  async #admitUnary<Request, Reply>(
    call: ServerUnaryCall<Request, Reply>,
    run: (request: Request, deadlineMs: number) => Promise<Reply>,
  ): Promise<Reply> {
    const { clock, options } = this.#parts
    this.#authenticate(bearer(call.metadata), 'call')
    if (this.#closing !== undefined) throw new ClusterError('CLOSED', 'the node is closing')
    if (this.#unaryInFlight >= options.inFlightMax) {
      throw new ClusterError('PEER_QUEUE_FULL', `${this.#unaryInFlight} calls have no answer yet`)
    }
    this.#unaryInFlight++
    try {
      const asked = (call.request as { timeoutMs?: number }).timeoutMs
      const ownTimeoutMs = asked === undefined || asked === 0 ? UNARY_TIMEOUT_MS : asked
      const grpcTimeoutMs = Number(call.getDeadline()) - Date.now()
      return await run(call.request, clock.monotonicMs() + innerTimeoutMs(Math.min(ownTimeoutMs, grpcTimeoutMs)))
    } finally {
      this.#unaryInFlight--
    }
  }
}

function bearer(metadata: Metadata): string | undefined {
  const value = metadata.get('authorization')[0]?.toString()
  return value?.startsWith('Bearer ') === true ? value.slice('Bearer '.length) : undefined
}
