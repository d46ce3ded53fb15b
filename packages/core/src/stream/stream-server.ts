/**
 * The replication endpoint of a node: one port for HTTP/1.1 and h2c that answers as LiteFS 0.5.14 does.
 *
 *   GET  /info     who this node is (node-info.ts)
 *   GET  /events   what happens on it, endless NDJSON (event-feed.ts)
 *   POST /stream   records for a replica, endless, HTTP/2 only (stream-route.ts, stream-source.ts)
 *   GET  /export   a database as a file (export-route.ts)
 *   POST /promote  this node is to become the primary (office-route.ts), where that is switched on
 *   POST /handoff  the primary's office is to go to a LiteFS node, likewise
 *
 * and, between Litefleet nodes, POST /difference: the pages that a copy does not have (difference-route.ts).
 *
 * Relies on: the node calls `endStreams()` when it stops being primary or begins a new epoch, because the epochs a replica was told
 * when it connected hold for the whole connection.
 */
import type { Clock } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { Txid } from '../position/txid.ts'
import type { ClusterKeys } from '../request/cluster-token.ts'
import type { DatabaseName } from '../request/database-name.ts'
import { DIFFERENCE_PATH, DifferenceRoute } from './difference-route.ts'
import { EventFeed } from './event-feed.ts'
import { type Exchange, refuse, reply } from './exchange.ts'
import { exportDatabase } from './export-route.ts'
import { HttpListener } from './http-listener.ts'
import { formatInit, type NodeEvent } from './node-event.ts'
import { formatNodeInfo } from './node-info.ts'
import { SendBuffer } from './send-buffer.ts'
import { SpoolSlots } from './spool-slots.ts'
import { StreamGate } from './stream-gate.ts'
import { answerOffice, type OfficeControl } from './office-route.ts'
import type { StreamNode } from './stream-node.ts'
import { HEADER } from './stream-protocol.ts'
import { type ConnectedStream, StreamRoute } from './stream-route.ts'
import type { ResolvedStreamServerOptions } from './stream-server-options.ts'

export interface StreamServerParts {
  readonly node: StreamNode
  /** Keys of the cluster; empty = none. */
  readonly keys: ClusterKeys
  readonly clock: Clock
  readonly options: ResolvedStreamServerOptions
  /** Default: whoever asks for the office is refused. */
  readonly office?: OfficeControl | undefined
  /** A LiteFS replica connected, which has this LiteFS node id; answers what to call when it is gone. */
  readonly onLiteFs?: ((nodeId: string) => () => void) | undefined
  /** Told of what failed while answering; the caller has been answered or cut off already. */
  readonly onFailure?:
    | ((error: unknown, request: { readonly path: string; readonly remoteAddress: string }) => void)
    | undefined
}

export class StreamServer {
  readonly #parts: StreamServerParts
  readonly #listener: HttpListener
  readonly #gate: StreamGate
  readonly #builds: SpoolSlots
  readonly #feed = new EventFeed()
  readonly #streams: StreamRoute
  readonly #differences: DifferenceRoute
  readonly #closing = new AbortController()
  readonly #running = new Set<Promise<void>>()

  constructor(parts: StreamServerParts) {
    const { node, keys, clock, options } = parts
    this.#parts = parts
    this.#gate = new StreamGate(keys, options.interop, () => node.clusterId(), clock)
    this.#builds = new SpoolSlots(options.snapshotBuildsMax)
    this.#streams = new StreamRoute({
      node,
      gate: this.#gate,
      builds: this.#builds,
      clock,
      options,
      onLiteFs: parts.onLiteFs,
      open: (exchange, headers) => this.#open(exchange, headers),
    })
    this.#differences = new DifferenceRoute({
      node,
      gate: this.#gate,
      builds: this.#builds,
      clock,
      batchBytes: options.batchBytes,
      closing: this.#closing.signal,
      open: (exchange, headers) => this.#open(exchange, headers),
    })
    this.#listener = new HttpListener({ ...options, clock, handle: (exchange) => this.accept(exchange) })
  }

  /**
   * Starts listening; answers the port.
   * @throws ClusterError `INSECURE_LISTENER` beyond loopback without a cluster key, `STREAM_FAILED` when the address cannot be had
   */
  async listen(): Promise<number> {
    const { options, keys } = this.#parts
    if (keys.length === 0 && !isLoopback(options.host)) {
      throw new ClusterError('INSECURE_LISTENER', `the stream would listen on ${options.host} without a cluster key`, {
        hint: 'Set a cluster key on every node, or listen on 127.0.0.1.',
      })
    }
    return (await this.#listener.listen(options.host, options.port)).port
  }

  /** A request came. The listener calls it; so does a transport that a test made. */
  accept(exchange: Exchange): void {
    const answer = this.#answer(exchange)
      .catch((error: unknown) => {
        this.#parts.onFailure?.(error, { path: exchange.path, remoteAddress: exchange.remoteAddress })
      })
      .finally(() => this.#running.delete(answer))
    this.#running.add(answer)
  }

  /** Streams under way. */
  streams(): readonly ConnectedStream[] {
    return this.#streams.streams()
  }

  /** The lowest TXID after which a connected replica still needs records of `database`; `undefined` when there is none. */
  slowestTxid(database: DatabaseName): Txid | undefined {
    return this.#streams.slowestTxid(database)
  }

  get subscriberCount(): number {
    return this.#feed.subscriberCount
  }

  /** Tells the subscribers of `/events`. */
  publish(event: NodeEvent): void {
    this.#feed.publish(event)
  }

  /** As `StreamRoute.hasSentAll`. */
  hasSentAll(nodeId: string): boolean | undefined {
    return this.#streams.hasSentAll(nodeId)
  }

  /** As `StreamRoute.handOver`. */
  handOver(nodeId: string, leaseId: string): boolean {
    return this.#streams.handOver(nodeId, leaseId)
  }

  /** Ends every `/stream` with END: this node is no longer primary, or begins a new epoch. Replicas come back when they may. */
  endStreams(): void {
    this.#streams.endStreams()
  }

  /** Ends streams and subscriptions, waits at most `closeTimeoutMs` for peers to take them, closes every connection. Idempotent. */
  async close(): Promise<void> {
    const { clock, options } = this.#parts
    this.#closing.abort(new ClusterError('CLOSED', 'the stream server is closed'))
    this.#listener.stopListening()
    this.endStreams()
    this.#feed.close()
    await new Promise<void>((resolve) => {
      const timer = clock.setTimer(options.closeTimeoutMs, resolve)
      void Promise.allSettled(this.#running)
        .then(() => this.#listener.endConnections())
        .then(() => {
          timer.cancel()
          resolve()
        })
    })
    await this.#listener.destroyConnections()
  }

  async #answer(exchange: Exchange): Promise<void> {
    const headers = this.#headers()
    const route = ROUTES.get(exchange.path)
    if (route === undefined) return refuse(exchange, 404, headers, '404 page not found')
    if (exchange.method !== route.method) return refuse(exchange, 405, headers, 'method not allowed')
    if (this.#closing.signal.aborted) return refuse(exchange, 503, headers, 'the node is closing')
    switch (route.kind) {
      case 'info':
        return this.#info(exchange, headers)
      case 'events':
        return this.#events(exchange, headers)
      case 'stream':
        return this.#streams.answer(exchange, headers)
      case 'export':
        return this.#export(exchange, headers)
      case 'difference':
        return this.#differences.answer(exchange, headers)
      case 'promote':
      case 'handoff':
        return answerOffice(route.kind, exchange, headers, this.#gate, this.#parts.office)
    }
  }

  #info(exchange: Exchange, headers: Headers): void {
    const { node } = this.#parts
    const admission = this.#gate.admit(exchange)
    const databases = admission.kind === 'refused' ? undefined : node.databases()
    const answered = admission.kind === 'litefleet' ? admission.headers : {}
    const type = { 'content-type': 'text/plain; charset=utf-8' } // what LiteFS's server sniffs
    reply(
      exchange,
      200,
      { ...headers, ...answered, ...type },
      formatNodeInfo(node.facts(), node.clusterId(), databases),
    )
  }

  #events(exchange: Exchange, headers: Headers): void {
    if (this.#feed.subscriberCount >= this.#parts.options.eventSubscribersMax)
      return refuse(exchange, 503, headers, 'too many subscribers')
    const facts = this.#parts.node.facts()
    const body = exchange.respond(200, { ...headers, 'content-type': 'application/json' })
    this.#feed.subscribe(body, formatInit(facts.isPrimary, facts.primaryHostname), () => exchange.reset())
  }

  async #export(exchange: Exchange, headers: Headers): Promise<void> {
    const { node, options } = this.#parts
    const admission = this.#gate.admit(exchange)
    if (admission.kind === 'refused') return refuse(exchange, admission.status, headers, admission.message)
    const name = exchange.query.get('name') ?? ''
    if (name === '') return refuse(exchange, 400, headers, 'name required')
    const database = node.database(name)
    if (database === undefined) return refuse(exchange, 404, headers, 'database not found')
    await exportDatabase({
      exchange,
      headers: admission.kind === 'litefleet' ? { ...headers, ...admission.headers } : headers,
      database,
      builds: this.#builds,
      open: (answered) => this.#open(exchange, answered),
      batchBytes: options.batchBytes,
      signal: this.#closing.signal,
    })
  }

  #open(exchange: Exchange, headers: Headers): SendBuffer {
    const { options, clock } = this.#parts
    return new SendBuffer({
      body: exchange.respond(200, headers),
      reset: () => exchange.reset(),
      bytesMax: options.sendBufferBytes,
      stallTimeoutMs: options.stallTimeoutMs,
      clock,
    })
  }

  /** On every answer, as LiteFS; the cluster id is left out while there is none. */
  #headers(): Headers {
    const { node } = this.#parts
    const clusterId = node.clusterId()
    const own = { [HEADER.nodeId]: node.nodeId }
    return clusterId === undefined ? own : { ...own, [HEADER.clusterId]: clusterId }
  }
}

type Headers = Readonly<Record<string, string>>

interface Route {
  readonly kind: 'info' | 'events' | 'stream' | 'export' | 'difference' | 'promote' | 'handoff'
  readonly method: string
}

const ROUTES: ReadonlyMap<string, Route> = new Map<string, Route>([
  ['/info', { kind: 'info', method: 'GET' }],
  ['/events', { kind: 'events', method: 'GET' }],
  ['/stream', { kind: 'stream', method: 'POST' }],
  ['/export', { kind: 'export', method: 'GET' }],
  ['/promote', { kind: 'promote', method: 'POST' }],
  ['/handoff', { kind: 'handoff', method: 'POST' }],
  [DIFFERENCE_PATH, { kind: 'difference', method: 'POST' }],
])

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
}
