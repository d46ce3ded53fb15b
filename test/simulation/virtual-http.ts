/**
 * What HTTP/2 does between a replica and its primary, over a virtual connection: sessions, streams, windows.
 *
 * Frames of several streams share the connection. Each stream has a window: the sender's write callbacks wait while more
 * than `windowBytes` are neither read nor on their way back as credit, so a receiver that pauses stops its sender.
 */
import { EventEmitter } from 'node:events'
import { Duplex } from 'node:stream'
import type { ClientHttp2Session, IncomingHttpHeaders } from 'node:http2'
import type { Connect } from '../../packages/core/src/stream/primary-link.ts'
import type { Exchange } from '../../packages/core/src/stream/exchange.ts'
import type { Endpoint, Host, Network } from './network.ts'

type Frame =
  | { readonly kind: 'headers'; readonly id: number; readonly headers: Readonly<Record<string, string | number>> }
  | { readonly kind: 'data'; readonly id: number; readonly bytes: Buffer }
  | { readonly kind: 'end'; readonly id: number }
  | { readonly kind: 'reset'; readonly id: number }
  | { readonly kind: 'credit'; readonly id: number; readonly bytes: number }
  | { readonly kind: 'ping' | 'pong'; readonly id: 0 }

const FRAME_HEADER_BYTES = 9
const READ_AHEAD_BYTES = 16 * 1024

export function virtualConnect(network: Network, host: Host, windowBytes: number): Connect {
  return (_url, address) =>
    new ClientSession(network.dial(host, address.host, 'http'), windowBytes) as unknown as ClientHttp2Session
}

/** Takes the requests of a connection that came in. */
export function serveHttp(endpoint: Endpoint, windowBytes: number, handle: (exchange: Exchange) => void): void {
  const streams = new Map<number, VirtualStream>()
  endpoint.onData = (payload) => {
    const frame = payload as Frame
    if (frame.kind === 'headers') {
      const stream = new VirtualStream(frame.id, endpoint, windowBytes, () => streams.delete(frame.id))
      streams.set(frame.id, stream)
      stream.on('error', () => undefined)
      handle(exchangeOf(stream, frame.headers as IncomingHttpHeaders, endpoint))
    } else if (frame.kind === 'ping') send(endpoint, { kind: 'pong', id: 0 })
    else streams.get(frame.id)?.receive(frame)
  }
  endpoint.onEnd = () => {
    for (const stream of streams.values()) stream.destroy()
  }
}

class ClientSession extends EventEmitter {
  readonly #endpoint: Endpoint
  readonly #windowBytes: number
  readonly #streams = new Map<number, VirtualStream>()
  /** Pings without an answer, oldest first. */
  readonly #pings: (() => void)[] = []
  #nextId = 1
  #isDestroyed = false

  constructor(endpoint: Endpoint, windowBytes: number) {
    super()
    this.#endpoint = endpoint
    this.#windowBytes = windowBytes
    endpoint.onOpen = () => this.emit('remoteSettings', {})
    endpoint.onData = (payload) => {
      const frame = payload as Frame
      if (frame.kind === 'pong') this.#pings.shift()?.()
      else this.#streams.get(frame.id)?.receive(frame)
    }
    endpoint.onEnd = () => this.destroy()
  }

  get destroyed(): boolean {
    return this.#isDestroyed
  }

  setLocalWindowSize(): void {}

  ping(answered: () => void): void {
    this.#pings.push(answered)
    send(this.#endpoint, { kind: 'ping', id: 0 })
  }

  request(headers: Readonly<Record<string, string>>): VirtualStream {
    if (this.#isDestroyed) throw new Error('The session has been destroyed')
    const id = this.#nextId
    this.#nextId += 2
    const stream = new VirtualStream(id, this.#endpoint, this.#windowBytes, () => this.#streams.delete(id))
    this.#streams.set(id, stream)
    send(this.#endpoint, { kind: 'headers', id, headers })
    return stream
  }

  destroy(): void {
    if (this.#isDestroyed) return
    this.#isDestroyed = true
    this.#endpoint.close()
    for (const stream of this.#streams.values()) stream.destroy()
    process.nextTick(() => this.emit('close'))
  }
}

class VirtualStream extends Duplex {
  readonly #id: number
  readonly #endpoint: Endpoint
  readonly #windowBytes: number
  readonly #onGone: () => void
  /** Sent and not credited. */
  #unreadBytes = 0
  #waiting: (() => void) | undefined
  /** Received and not credited. */
  #owedBytes = 0
  #isOver = false

  constructor(id: number, endpoint: Endpoint, windowBytes: number, onGone: () => void) {
    super({ readableHighWaterMark: READ_AHEAD_BYTES, writableHighWaterMark: READ_AHEAD_BYTES })
    this.#id = id
    this.#endpoint = endpoint
    this.#windowBytes = windowBytes
    this.#onGone = onGone
  }

  receive(frame: Frame): void {
    if (this.destroyed) return
    switch (frame.kind) {
      case 'headers':
        this.emit('response', frame.headers)
        break
      case 'data':
        this.#owedBytes += frame.bytes.length
        if (this.push(frame.bytes)) this.#credit()
        break
      case 'end':
        this.push(null)
        break
      case 'reset':
        this.#isOver = true
        this.destroy(new Error('Stream closed with error code NGHTTP2_INTERNAL_ERROR'))
        break
      case 'credit':
        this.#unreadBytes -= frame.bytes
        this.#goOn()
        break
    }
  }

  /** Sends the headers of an answer. */
  respond(headers: Readonly<Record<string, string | number>>): void {
    send(this.#endpoint, { kind: 'headers', id: this.#id, headers })
  }

  override _read(): void {
    this.#credit()
  }

  override _write(bytes: Buffer, _encoding: string, done: () => void): void {
    this.#unreadBytes += bytes.length
    this.#endpoint.send(
      { kind: 'data', id: this.#id, bytes } satisfies Frame,
      FRAME_HEADER_BYTES + bytes.length,
      () => {
        this.#waiting = done
        this.#goOn()
      },
    )
  }

  override _final(done: () => void): void {
    send(this.#endpoint, { kind: 'end', id: this.#id })
    done()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#onGone()
    if (!this.#isOver && !(this.writableFinished && this.readableEnded)) {
      send(this.#endpoint, { kind: 'reset', id: this.#id })
    }
    done(error)
  }

  #goOn(): void {
    const done = this.#waiting
    if (done === undefined || this.#unreadBytes > this.#windowBytes) return
    this.#waiting = undefined
    done()
  }

  #credit(): void {
    if (this.#owedBytes === 0) return
    send(this.#endpoint, { kind: 'credit', id: this.#id, bytes: this.#owedBytes })
    this.#owedBytes = 0
  }
}

function exchangeOf(stream: VirtualStream, headers: IncomingHttpHeaders, endpoint: Endpoint): Exchange {
  const [path = '/', query = ''] = (headers[':path'] ?? '/').split('?')
  const closed = new AbortController()
  stream.once('close', () => closed.abort(new Error('the caller is gone')))
  return {
    httpMajor: 2,
    method: headers[':method'] ?? '',
    path,
    query: new URLSearchParams(query),
    headers,
    remoteAddress: endpoint.host.name,
    body: stream,
    closed: closed.signal,
    respond(status, answered) {
      if (!stream.destroyed) stream.respond({ ':status': status, ...answered })
      // A body the caller goes on sending would keep the stream half open for ever.
      stream.once('finish', () => process.nextTick(() => stream.destroy()))
      return stream
    },
    reset: () => void stream.destroy(),
  }
}

function send(endpoint: Endpoint, frame: Frame): void {
  endpoint.send(frame, FRAME_HEADER_BYTES)
}
