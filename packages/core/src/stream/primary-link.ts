/**
 * The one HTTP/2 connection of a replica to its primary, shared by the streams of all databases and made anew when it is lost.
 *
 * Windows: each stream may have `streamWindowBytes` under way. The connection's own window is opened as far as the protocol allows:
 * Node gives its credit back as data arrives, whether a stream is read or not, so a paused stream never blocks the others, and
 * what is held here is bounded by the streams' windows.
 *
 * Promises: one attempt to connect at a time, however many databases wait; waits between attempts grow until a stream answered.
 */
import http2, { type ClientHttp2Session } from 'node:http2'
import net from 'node:net'
import type { Clock } from '../base/clock.ts'
import { RunLoop } from '../base/run-loop.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import { addressOf } from './node-address.ts'
import type { ResolvedStreamSinkOptions } from './stream-sink-options.ts'

export interface PrimaryLinkOptions {
  /** `http://host:port`. LiteFS too speaks h2c whatever the scheme says. */
  readonly url: URL
  readonly options: ResolvedStreamSinkOptions
  readonly clock: Clock
  /** Where to connect for an address, both `host:port`. */
  route(address: string): string
  /** Default: TCP. */
  readonly connect?: Connect | undefined
  readonly random: () => number
  readonly onFailure: (error: unknown, delayMs: number) => void
}

/** Begins an HTTP/2 session with an address; trouble is an event of the session. */
export type Connect = (url: URL, address: { readonly host: string; readonly port: number }) => ClientHttp2Session

/** Largest window of HTTP/2. */
const CONNECTION_WINDOW_BYTES = 2 ** 31 - 1
/** Windows are not in it; headers and queued frames of all streams are. */
const SESSION_MEMORY_MIB = 256

export class PrimaryLink {
  readonly #options: PrimaryLinkOptions
  readonly #loop: RunLoop
  #connected = Promise.withResolvers<ClientHttp2Session>()
  #session: ClientHttp2Session | undefined
  #progress: () => void = () => undefined
  #lastByteMs = 0

  constructor(options: PrimaryLinkOptions) {
    this.#options = options
    this.#loop = new RunLoop({
      clock: options.clock,
      minDelayMs: options.options.reconnectMinMs,
      maxDelayMs: options.options.reconnectMaxMs,
      random: options.random,
      onFailure: options.onFailure,
      task: (signal, progress) => this.#connect(signal, progress),
    })
  }

  get isConnected(): boolean {
    return this.#session !== undefined
  }

  start(): void {
    this.#loop.start()
  }

  /** Closes the connection and waits for it. Idempotent. */
  stop(): Promise<void> {
    return this.#loop.stop()
  }

  /** The connection, as soon as there is one. Rejects with the signal's reason when it is aborted before. */
  async session(signal: AbortSignal): Promise<ClientHttp2Session> {
    signal.throwIfAborted()
    const aborted = Promise.withResolvers<never>()
    const onAbort = (): void => aborted.reject(signal.reason as Error)
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      return await Promise.race([this.#connected.promise, aborted.promise])
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  /** The primary answered a request: the next loss is a new one, not the same trouble going on. */
  markHealthy(): void {
    this.#progress()
  }

  /** Bytes arrived on any stream. */
  markAlive(): void {
    this.#lastByteMs = this.#options.clock.monotonicMs()
  }

  /** A stream heard nothing for too long. When no other heard anything either, the connection itself is given up. */
  suspect(): void {
    const silentMs = this.#options.clock.monotonicMs() - this.#lastByteMs
    if (silentMs >= this.#options.options.heartbeatTimeoutMs) this.#session?.destroy()
  }

  async #connect(signal: AbortSignal, progress: () => void): Promise<void> {
    const session = this.#open()
    const lost = new Promise<void>((resolve) => session.once('close', resolve))
    const onAbort = (): void => session.destroy()
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      await this.#established(session)
      if (signal.aborted) return
      this.#progress = progress
      this.markAlive()
      this.#session = session
      this.#connected.resolve(session)
      await lost
      if (!signal.aborted) throw failed(this.#options.url, 'the connection was lost')
    } finally {
      signal.removeEventListener('abort', onAbort)
      session.destroy()
      await lost
      if (this.#session !== undefined) this.#connected = Promise.withResolvers()
      this.#session = undefined
      this.#progress = () => undefined
    }
  }

  #open(): ClientHttp2Session {
    const { url, options, route, connect = tcpConnect(options) } = this.#options
    const session = connect(url, addressOf(url, route))
    session.on('goaway', () => session.destroy()) // a stream is endless: waiting for its end would be waiting for ever
    return session
  }

  #established(session: ClientHttp2Session): Promise<void> {
    const { url, options, clock } = this.#options
    return new Promise((resolve, reject) => {
      const timer = clock.setTimer(options.connectTimeoutMs, () => {
        reject(failed(url, `no connection within ${options.connectTimeoutMs} ms`))
      })
      const settle = (): void => {
        timer.cancel()
        session.setLocalWindowSize(CONNECTION_WINDOW_BYTES)
        resolve()
      }
      // A connection counts once the primary's SETTINGS came: a port that accepts and says nothing is no primary.
      session.once('remoteSettings', settle)
      session.on('error', (error) => {
        timer.cancel()
        reject(failed(url, error.message, error))
      })
      session.once('close', () => {
        timer.cancel()
        reject(failed(url, 'the connection was closed'))
      })
    })
  }
}

function tcpConnect({ streamWindowBytes }: ResolvedStreamSinkOptions): Connect {
  return (url, { host, port }) =>
    http2.connect(url.origin, {
      maxSessionMemory: SESSION_MEMORY_MIB,
      settings: { initialWindowSize: streamWindowBytes, enablePush: false },
      // A plain connection whatever the scheme is: TLS is not spoken yet, by LiteFS neither.
      createConnection: () =>
        net.connect({ host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000 }),
    })
}

function failed(url: URL, reason: string, cause?: unknown): ClusterError {
  return new ClusterError('STREAM_FAILED', `primary ${url.host}: ${reason}`, { cause, details: { primary: url.host } })
}
