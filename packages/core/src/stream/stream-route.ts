/**
 * `POST /stream`: admits a replica and keeps the book of those that are connected.
 *
 * Order of refusals: 426 HTTP/1.1; 401 and 409 the caller (stream-gate.ts); 400 this node itself; 503 not primary, or too many
 * streams; 400 another protocol; 413, 408, 400 the position map. Once the status 200 is sent, trouble ends the body.
 */
import type { Clock } from '../base/clock.ts'
import type { Epoch, EpochTable } from '../position/epoch.ts'
import { formatPosition, type Position, samePosition, ZERO_POSITION } from '../position/position.ts'
import { type Txid, ZERO_TXID } from '../position/txid.ts'
import type { DatabaseName } from '../request/database-name.ts'
import { parsePositionMap } from '../stream-format/position-map.ts'
import { encodeEnd } from '../stream-format/stream-frame.ts'
import { encodeEpochHeader } from './epoch-header.ts'
import { type Exchange, header, readBody, refuse } from './exchange.ts'
import { type MaySend, maySendTo, parseEpoch } from './may-send.ts'
import type { SendBuffer } from './send-buffer.ts'
import type { SpoolSlots } from './spool-slots.ts'
import type { StreamGate } from './stream-gate.ts'
import type { StreamNode } from './stream-node.ts'
import { HEADER, parseNodeId, STREAM_PROTOCOL } from './stream-protocol.ts'
import type { ResolvedStreamServerOptions } from './stream-server-options.ts'
import { StreamSource } from './stream-source.ts'
import type { StreamableDatabase } from './streamable-database.ts'

/** One `/stream` under way. A Litefleet replica has one for each of its databases. */
export interface ConnectedStream {
  readonly kind: 'litefs' | 'litefleet'
  /** Name of a Litefleet replica; `undefined` for LiteFS. */
  readonly nodeName: string | undefined
  /** LiteFS node id; `undefined` when the replica sent none. */
  readonly nodeId: string | undefined
  /** Epoch of the last record of a Litefleet replica when it connected; `undefined` when it told none. */
  readonly epoch: Epoch | undefined
  readonly remoteAddress: string
  readonly connectedMs: number
  /** It was sent everything that was missing when it connected. */
  readonly isReady: boolean
  /** What was written to it so far, per database; not necessarily received. */
  readonly positions: ReadonlyMap<string, Position>
  readonly sentBytes: number
  readonly unsentBytes: number
  readonly mostUnsentBytes: number
}

export interface StreamRouteParts {
  readonly node: StreamNode
  readonly gate: StreamGate
  readonly builds: SpoolSlots
  readonly clock: Clock
  readonly options: ResolvedStreamServerOptions
  /** A LiteFS replica connected; answers what to call when it is gone. */
  readonly onLiteFs?: ((nodeId: string) => () => void) | undefined
  /** Answers 200 and makes the bounded output of the body. */
  readonly open: (exchange: Exchange, headers: Readonly<Record<string, string>>) => SendBuffer
}

type Headers = Readonly<Record<string, string>>

export class StreamRoute {
  readonly #parts: StreamRouteParts
  readonly #streams = new Map<StreamSource, () => ConnectedStream>()
  /** Requests whose position map is being read, and streams. */
  #requestCount = 0

  constructor(parts: StreamRouteParts) {
    this.#parts = parts
  }

  streams(): readonly ConnectedStream[] {
    return [...this.#streams.values()].map((describe) => describe())
  }

  /** The lowest TXID after which a connected replica still needs records of `database`; `undefined` when there is none. */
  slowestTxid(database: DatabaseName): Txid | undefined {
    let slowest: Txid | undefined
    for (const source of this.#streams.keys()) {
      const needed = source.neededAfter(database)
      if (needed !== undefined && (slowest === undefined || needed < slowest)) slowest = needed
    }
    return slowest
  }

  /**
   * Whether a LiteFS replica has been sent all that this node announced; `undefined` when none of this id is connected.
   * @param nodeId 16 uppercase hex digits
   */
  hasSentAll(nodeId: string): boolean | undefined {
    const source = this.#liteFsOf(nodeId)
    return (
      source &&
      this.#parts.node.databases().every((database) => {
        const { position } = database.tail()
        return (
          position.txid === ZERO_TXID || samePosition(source.positions.get(database.name) ?? ZERO_POSITION, position)
        )
      })
    )
  }

  /** When the stream of this LiteFS replica ends it is told to go on with this lease. False when it is not connected any more. */
  handOver(nodeId: string, leaseId: string): boolean {
    return this.#liteFsOf(nodeId)?.handOver(leaseId) ?? false
  }

  #liteFsOf(nodeId: string): StreamSource | undefined {
    for (const [source, describe] of this.#streams) {
      const { kind, nodeId: id } = describe()
      if (kind === 'litefs' && id === nodeId) return source
    }
    return undefined
  }

  endStreams(): void {
    for (const source of this.#streams.keys()) source.end()
  }

  /** Answers one request; resolves when the body is complete or broken off. */
  async answer(exchange: Exchange, headers: Headers): Promise<void> {
    const { node, gate, options } = this.#parts
    if (exchange.httpMajor < 2) return refuse(exchange, 426, headers, 'Upgrade to HTTP/2 required')
    const admission = gate.admit(exchange)
    if (admission.kind === 'refused') return refuse(exchange, admission.status, headers, admission.message)
    const nodeId = parseNodeId(header(exchange, HEADER.nodeId))
    if (nodeId === node.nodeId) return refuse(exchange, 400, headers, 'cannot connect to self')
    const maySend = maySendTo(exchange, node)
    if (!maySend()) return refuse(exchange, 503, headers, 'lease expired')
    if (this.#requestCount >= options.streamsMax) return refuse(exchange, 503, headers, 'too many streams')
    this.#requestCount++
    try {
      if (admission.kind === 'litefs')
        return await this.#serve(exchange, headers, { kind: 'litefs', nodeName: undefined, nodeId }, maySend)
      const ours = { ...headers, ...admission.headers, [HEADER.protocol]: String(STREAM_PROTOCOL) }
      if (header(exchange, HEADER.protocol) !== String(STREAM_PROTOCOL))
        return refuse(exchange, 400, ours, `this node speaks stream protocol ${STREAM_PROTOCOL}`)
      const told = { ...ours, [HEADER.term]: String(node.term()) }
      await this.#serve(exchange, told, { kind: 'litefleet', nodeName: admission.nodeName, nodeId }, maySend)
    } finally {
      this.#requestCount--
    }
  }

  async #serve(
    exchange: Exchange,
    headers: Headers,
    peer: Pick<ConnectedStream, 'kind' | 'nodeName' | 'nodeId'>,
    maySend: MaySend,
  ): Promise<void> {
    const body = await this.#readPositions(exchange)
    if (body.kind === 'refused') return refuse(exchange, body.status, headers, body.message)
    if (exchange.closed.aborted) return
    const { node, builds, options, clock } = this.#parts
    const filter = parseFilter(exchange.query.get('filter'))
    const told = peer.kind === 'litefleet' ? this.#tellHistory(filter) : {}
    const seed = header(exchange, HEADER.copy) === '1' ? this.#needsSeed(filter, body.positions) : undefined
    if (peer.kind === 'litefleet' && seed !== undefined) {
      exchange.respond(200, { ...headers, ...told, [HEADER.seed]: seed }).end(encodeEnd())
      return
    }
    const output = this.#parts.open(exchange, { ...headers, ...told })
    const source = new StreamSource({
      ...options,
      node,
      maySend,
      hasCopy: header(exchange, HEADER.copy) === '1',
      output,
      positions: body.positions,
      filter,
      peer: peer.kind,
      builds,
      clock,
    })
    const { remoteAddress } = exchange
    const epochTold = parseEpoch(header(exchange, HEADER.epoch))
    const connectedMs = clock.nowMs()
    this.#streams.set(source, () => ({
      ...peer,
      epoch: epochTold,
      remoteAddress,
      connectedMs,
      isReady: source.isReady,
      positions: source.positions,
      sentBytes: output.sentBytes,
      unsentBytes: output.unsentBytes,
      mostUnsentBytes: output.mostUnsentBytes,
    }))
    const left = peer.kind === 'litefs' ? this.#parts.onLiteFs?.(peer.nodeId ?? remoteAddress) : undefined
    try {
      await source.run()
    } finally {
      left?.()
      this.#streams.delete(source)
      // What waits in a body that ended holds memory until it is gone, and so counts until then.
      await whenAborted(output.closed)
    }
  }

  async #readPositions(exchange: Exchange): Promise<PositionsBody> {
    const { clock, options } = this.#parts
    const deadline = new AbortController()
    const timer = clock.setTimer(options.requestTimeoutMs, () => deadline.abort())
    const body = await readBody(exchange, options.positionMapBytesMax, deadline.signal)
    timer.cancel()
    if (body.kind === 'refused') return body
    try {
      return { kind: 'positions', positions: parsePositionMap(body.bytes) }
    } catch {
      return { kind: 'refused', status: 400, message: 'malformed position map' }
    }
  }

  /** Epochs of the databases asked for and, of a single one, where it stands. */
  #tellHistory(filter: ReadonlySet<string> | undefined): Headers {
    const tables = new Map<string, EpochTable>()
    for (const name of filter ?? []) {
      const database = this.#parts.node.database(name)
      if (database !== undefined) tables.set(name, database.epochTable())
    }
    const epochs = { [HEADER.epochs]: encodeEpochHeader(tables) }
    const only = this.#onlyDatabase(filter)
    return only === undefined ? epochs : { ...epochs, [HEADER.position]: formatPosition(only.tail().position) }
  }

  /** Why no record leads a replica on from the position it told; `undefined` when one does, or none is missing. */
  #needsSeed(
    filter: ReadonlySet<string> | undefined,
    positions: ReadonlyMap<string, Position>,
  ): 'gone' | 'diverged' | undefined {
    const database = this.#onlyDatabase(filter)
    const from = database === undefined ? undefined : positions.get(database.name)
    if (database === undefined || from === undefined) return undefined
    const tail = database.tail().position
    if (tail.txid === ZERO_TXID || from.txid === ZERO_TXID || samePosition(from, tail)) return undefined
    if (from.txid >= tail.txid) return 'diverged'
    const { kind } = database.readAfter(from, 1)
    return kind === 'gone' || kind === 'diverged' ? kind : undefined
  }

  #onlyDatabase(filter: ReadonlySet<string> | undefined): StreamableDatabase | undefined {
    const [name, ...more] = filter ?? []
    return name === undefined || more.length > 0 ? undefined : this.#parts.node.database(name)
  }
}

type PositionsBody =
  | { readonly kind: 'positions'; readonly positions: Map<string, Position> }
  | { readonly kind: 'refused'; readonly status: number; readonly message: string }

/** `undefined` = all databases. */
function parseFilter(text: string | null): ReadonlySet<string> | undefined {
  return text === null || text === '' ? undefined : new Set(text.split(','))
}

function whenAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}
