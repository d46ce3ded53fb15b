/**
 * The channels this node dialled, one for each address, opened when first wanted.
 *
 * Promises: asking twice for an address gives the same client while it is kept; listeners hear of every client's
 * connection.
 * Bound: `clientsMax` clients; for one more the longest unused idle one is closed, and without such a one the request
 * is refused. Unused clients are closed after `clientIdleMs`, except the pinned one: the channel to the primary, which
 * carries position reports.
 */
import type { Clock } from '../base/clock.ts'
import { CoarseTimer } from '../base/coarse-timer.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { ClusterKeys } from '../request/cluster-token.ts'
import type { Dial } from './client-connection.ts'
import type { Hello, LocalHello } from './hello.ts'
import { PeerClient } from './peer-client.ts'
import type { ResolvedPeerOptions } from './peer-options.ts'
import type { PeerProtocol } from './protocol.ts'
import type { Member } from './wire-messages.ts'

export interface PeerPoolParts {
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
  adoptClusterId(clusterId: string): void
}

export interface PeerListener {
  connected?(client: PeerClient, hello: Hello): void
  disconnected?(client: PeerClient, error: ClusterError): void
  membership?(client: PeerClient, members: readonly Member[]): void
}

const SWEEPS_PER_IDLE = 4

export class PeerPool {
  readonly #parts: PeerPoolParts
  readonly #clients = new Map<string, { readonly client: PeerClient; usedMs: number }>()
  readonly #listeners = new Set<PeerListener>()
  readonly #sweep: CoarseTimer
  #pinned: string | undefined
  #isClosed = false

  constructor(parts: PeerPoolParts) {
    this.#parts = parts
    this.#sweep = new CoarseTimer(parts.clock, parts.options.clientIdleMs / SWEEPS_PER_IDLE, (nowMs) =>
      this.#closeUnused(nowMs),
    )
  }

  /**
   * The client of an address, dialling if it is new.
   * @throws CLOSED, PEER_QUEUE_FULL when every channel is in use
   */
  client(address: string): PeerClient {
    if (this.#isClosed) throw new ClusterError('CLOSED', 'the node was closed')
    const known = this.#clients.get(address)
    const nowMs = this.#parts.clock.monotonicMs()
    if (known !== undefined) {
      known.usedMs = nowMs
      return known.client
    }
    if (this.#clients.size >= this.#parts.options.clientsMax) this.#makeRoom()
    const client: PeerClient = new PeerClient({
      ...this.#parts,
      address,
      onConnected: (_, hello) => this.#tell((listener) => listener.connected?.(client, hello)),
      onDisconnected: (_, error) => this.#tell((listener) => listener.disconnected?.(client, error)),
      onMembership: (members) => this.#tell((listener) => listener.membership?.(client, members)),
    })
    this.#clients.set(address, { client, usedMs: nowMs })
    this.#sweep.arm()
    client.start()
    return client
  }

  /** The client of an address, if there is one. Dials nothing. */
  peek(address: string): PeerClient | undefined {
    return this.#clients.get(address)?.client
  }

  /** Keeps the channel to this address open, used or not, instead of the one pinned before; `undefined` pins none. */
  pin(address: string | undefined): PeerClient | undefined {
    this.#pinned = address
    return address === undefined ? undefined : this.client(address)
  }

  /** Answers how to stop. */
  listen(listener: PeerListener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Closes every channel. Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true
    this.#sweep.stop()
    await Promise.all([...this.#clients.values()].map(({ client }) => client.close()))
    this.#clients.clear()
    this.#listeners.clear()
  }

  #tell(what: (listener: PeerListener) => void): void {
    for (const listener of this.#listeners) what(listener)
  }

  #closeUnused(nowMs: number): boolean {
    for (const [address, { client, usedMs }] of this.#clients) {
      if (this.#isIdle(address, client) && nowMs - usedMs >= this.#parts.options.clientIdleMs)
        this.#drop(address, client)
    }
    return this.#clients.size > 0
  }

  #makeRoom(): void {
    const idle = [...this.#clients].filter(([address, { client }]) => this.#isIdle(address, client))
    const oldest = idle.toSorted(([, a], [, b]) => a.usedMs - b.usedMs)[0]
    if (oldest === undefined) {
      throw new ClusterError('PEER_QUEUE_FULL', `all ${this.#clients.size} channels to other nodes are in use`)
    }
    this.#drop(oldest[0], oldest[1].client)
  }

  #drop(address: string, client: PeerClient): void {
    this.#clients.delete(address)
    // Its loop has nothing left to report: requests in flight would have made it busy.
    void client.close()
  }

  #isIdle(address: string, client: PeerClient): boolean {
    return address !== this.#pinned && !client.isBusy
  }
}
