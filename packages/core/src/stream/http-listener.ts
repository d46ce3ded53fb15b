/**
 * One TCP port that answers HTTP/1.1 and HTTP/2 without TLS (h2c, prior knowledge), each request as an `Exchange`.
 *
 * The first bytes of a connection decide: HTTP/2 begins with "PRI", which no HTTP/1.1 method does. The socket, with those bytes
 * put back, goes to an http or http2 server that never listens itself. TLS later means to hand decrypted sockets to `accept()`.
 *
 * Bounds: connections; the time until the first request and between requests; the time for a request's headers; size and number
 * of headers; requests on one HTTP/2 connection; unanswered pings. What exceeds a bound is closed.
 * node:http enforces its own timeouts only in a server that listens; so they are kept here, by our clock.
 */
import http, { type IncomingMessage, type ServerResponse } from 'node:http'
import http2, { type Http2Session } from 'node:http2'
import net, { type AddressInfo, type Socket } from 'node:net'
import type { Clock, Timer } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { Exchange } from './exchange.ts'
import { http1Exchange, http2Exchange } from './http-exchange.ts'

export interface HttpListenerOptions {
  readonly clock: Clock
  readonly connectionsMax: number
  readonly streamsPerConnectionMax: number
  readonly requestTimeoutMs: number
  readonly idleTimeoutMs: number
  readonly pingIntervalMs: number
  /** Takes one request. Must not throw. */
  readonly handle: (exchange: Exchange) => void
}

/** Bytes of a request's headers, on either protocol. */
const HEADER_BYTES_MAX = 16 * 1024
/** nghttp2 counts headers and queued frames of all streams of a session; beyond this it refuses new streams. */
const SESSION_MEMORY_MIB = 256
const HTTP2_PREFACE_START = Buffer.from('PRI')

export class HttpListener {
  readonly #options: HttpListenerOptions
  readonly #server: net.Server
  readonly #http1: http.Server
  readonly #http2: http2.Http2Server
  readonly #sockets = new Set<Socket>()
  readonly #sessions = new WeakMap<Socket, Http2Session>()
  /** HTTP/1.1 and undecided connections that wait for a request. */
  readonly #deadlines = new Map<Socket, Timer>()

  constructor(options: HttpListenerOptions) {
    this.#options = options
    this.#server = net.createServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000 }, (socket) =>
      this.accept(socket),
    )
    this.#http1 = http.createServer({ maxHeaderSize: HEADER_BYTES_MAX, keepAliveTimeout: options.idleTimeoutMs })
    this.#http1.on('request', (request, response) => this.#onRequest(request, response))
    this.#http2 = http2.createServer({
      maxSessionMemory: SESSION_MEMORY_MIB,
      maxHeaderListPairs: 128,
      settings: {
        maxConcurrentStreams: options.streamsPerConnectionMax,
        maxHeaderListSize: HEADER_BYTES_MAX,
        enablePush: false,
      },
    })
    this.#http2.on('session', (session) => this.#onSession(session))
    this.#http2.on('sessionError', () => undefined) // the session is gone; its streams tell their owners
    this.#http2.on('stream', (stream, headers) => {
      stream.on('error', () => undefined) // 'close' follows, which is what the owners watch
      options.handle(http2Exchange(stream, headers))
    })
  }

  /** Starts listening and answers the port. Throws `STREAM_FAILED` when the address cannot be had. */
  async listen(host: string, port: number): Promise<AddressInfo> {
    await new Promise<void>((resolve, reject) => {
      const onError = (error: Error): void =>
        reject(
          new ClusterError('STREAM_FAILED', `cannot listen on ${host}:${port}: ${error.message}`, { cause: error }),
        )
      this.#server.once('error', onError)
      this.#server.listen({ host, port }, () => {
        this.#server.off('error', onError)
        resolve()
      })
    })
    const address = this.#server.address()
    if (address === null || typeof address === 'string')
      throw new ClusterError('STREAM_FAILED', 'listening on no TCP port')
    return address
  }

  get connectionCount(): number {
    return this.#sockets.size
  }

  /** Takes a connection: decides its protocol and serves it. */
  accept(socket: Socket): void {
    socket.on('error', () => undefined) // 'close' follows
    if (this.#sockets.size >= this.#options.connectionsMax) {
      socket.destroy()
      return
    }
    this.#sockets.add(socket)
    socket.once('close', () => {
      this.#sockets.delete(socket)
      this.#deadlines.get(socket)?.cancel()
      this.#deadlines.delete(socket)
    })
    this.#sniff(socket)
  }

  /** Stops accepting; open connections go on. */
  stopListening(): void {
    if (this.#server.listening) this.#server.close()
  }

  /**
   * Ends every connection once its answers are out, and resolves when all are closed, which takes the peers' help.
   * Breaking a connection at once could lose what was written last: a reset overtakes it.
   */
  async endConnections(): Promise<void> {
    const closed = this.#allClosed()
    for (const socket of this.#sockets) {
      const session = this.#sessions.get(socket)
      if (session === undefined) socket.end()
      else session.close()
    }
    await closed
  }

  /** Breaks every connection. */
  async destroyConnections(): Promise<void> {
    const closed = this.#allClosed()
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }

  #allClosed(): Promise<unknown> {
    return Promise.all([...this.#sockets].map((socket) => new Promise((resolve) => socket.once('close', resolve))))
  }

  #sniff(socket: Socket): void {
    this.#expire(socket, this.#options.requestTimeoutMs)
    let seen = Buffer.alloc(0)
    const onReadable = (): void => {
      const bytes = socket.read() as Buffer | null
      if (bytes === null) return
      seen = Buffer.concat([seen, bytes])
      const start = seen.subarray(0, HTTP2_PREFACE_START.length)
      const mayBeHttp2 = start.equals(HTTP2_PREFACE_START.subarray(0, start.length))
      if (mayBeHttp2 && start.length < HTTP2_PREFACE_START.length) return // the deadline bounds the wait for the rest
      socket.off('readable', onReadable)
      socket.unshift(seen)
      if (mayBeHttp2) this.#serveHttp2(socket)
      else this.#serveHttp1(socket)
    }
    socket.on('readable', onReadable)
  }

  #serveHttp2(socket: Socket): void {
    this.#deadlines.get(socket)?.cancel() // from here on the session has its own
    // The session is made while this event is handled; its own `socket` is a proxy, useless as a key.
    this.#http2.once('session', (session) => this.#sessions.set(socket, session))
    this.#http2.emit('connection', socket)
  }

  #serveHttp1(socket: Socket): void {
    this.#http1.emit('connection', socket)
    socket.resume()
  }

  #onRequest(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request
    this.#deadlines.get(socket)?.cancel()
    response.once('close', () => {
      // The next request on this connection: its first byte within the idle time, its headers soon after.
      if (!socket.destroyed) this.#expire(socket, this.#options.idleTimeoutMs + this.#options.requestTimeoutMs)
    })
    this.#options.handle(http1Exchange(request, response))
  }

  #onSession(session: Http2Session): void {
    session.on('error', () => undefined) // 'close' follows
    let requestCount = 0
    let idle: Timer | undefined
    const rest = (): void => {
      idle = this.#options.clock.setTimer(this.#options.idleTimeoutMs, () => session.close())
    }
    session.on('stream', (stream) => {
      requestCount++
      idle?.cancel()
      stream.once('close', () => {
        if (--requestCount === 0 && !session.closed) rest()
      })
    })
    const stopPings = this.#keepAlive(session)
    session.once('close', () => {
      idle?.cancel()
      stopPings()
    })
    rest()
  }

  /** A peer that vanished without a word is noticed although nothing is sent to it. */
  #keepAlive(session: Http2Session): () => void {
    let isAnswered = true
    let timer: Timer
    const tick = (): void => {
      if (!isAnswered) {
        session.destroy()
        return
      }
      isAnswered = false
      session.ping((error) => {
        if (error === null) isAnswered = true
      })
      timer = this.#options.clock.setTimer(this.#options.pingIntervalMs, tick)
    }
    timer = this.#options.clock.setTimer(this.#options.pingIntervalMs, tick)
    return () => timer.cancel()
  }

  /** Closes the connection after `delayMs`, unless a request is complete before. */
  #expire(socket: Socket, delayMs: number): void {
    this.#deadlines.get(socket)?.cancel()
    this.#deadlines.set(
      socket,
      this.#options.clock.setTimer(delayMs, () => socket.destroy()),
    )
  }
}
