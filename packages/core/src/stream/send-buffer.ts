/**
 * The sending side of one endless response body, with a bound on what waits in it.
 *
 * HTTP/2 takes any amount of data and keeps it in memory until the peer opens its window, so the bound is kept here: each write
 * counts until its callback says that the bytes have left for the socket, and `room()` waits until they fit.
 *
 * Relies on: one sender, which awaits `room(n)` before it writes n bytes.
 * Promises: never more than `bytesMax` bytes wait (one larger piece alone excepted); a peer that takes nothing for
 * `stallTimeoutMs` while bytes wait is cut off; after that, or once the peer left, `room()` throws and `closed` is aborted.
 */
import type { Writable } from 'node:stream'
import { assert } from '../base/assert.ts'
import type { Clock, Timer } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'

export interface SendBufferOptions {
  readonly body: Writable
  /** Breaks the body off, so that the peer does not take it for complete. */
  readonly reset: () => void
  readonly bytesMax: number
  readonly stallTimeoutMs: number
  readonly clock: Clock
}

export class SendBuffer {
  readonly #options: SendBufferOptions
  readonly #closed = new AbortController()
  #unsentBytes = 0
  #mostUnsentBytes = 0
  #sentBytes = 0
  #waiter: { readonly bytes: number; readonly resolve: () => void; readonly reject: (error: Error) => void } | undefined
  #stallTimer: Timer | undefined
  #progressMs = 0

  constructor(options: SendBufferOptions) {
    this.#options = options
    options.body.on('close', () => this.#close('the peer closed the stream'))
    options.body.on('error', () => this.#close('the stream broke'))
  }

  /** Written and not yet gone to the socket. */
  get unsentBytes(): number {
    return this.#unsentBytes
  }

  /** The largest `unsentBytes` there ever was. */
  get mostUnsentBytes(): number {
    return this.#mostUnsentBytes
  }

  /** Gone to the socket since the beginning. */
  get sentBytes(): number {
    return this.#sentBytes
  }

  /** Aborted once nothing can be sent any more. */
  get closed(): AbortSignal {
    return this.#closed.signal
  }

  /** Resolves when `bytes` more fit. Throws `STREAM_FAILED` when the stream is closed. */
  room(bytes: number): Promise<void> | void {
    this.#requireOpen()
    if (this.#fits(bytes)) return
    assert(this.#waiter === undefined, 'two senders wait for one stream')
    return new Promise((resolve, reject) => {
      this.#waiter = { bytes, resolve, reject }
    })
  }

  /** Throws `STREAM_FAILED` when the stream is closed. */
  write(bytes: Buffer): void {
    this.#requireOpen()
    this.#count(bytes.length)
    this.#options.body.write(bytes, () => this.#sent(bytes.length))
  }

  /** Writes the last bytes and ends the body in good order; does nothing on a closed stream. */
  end(last: Buffer): void {
    if (this.#closed.signal.aborted) return
    this.#count(last.length)
    this.#options.body.end(last, () => this.#sent(last.length))
  }

  /** Breaks the stream off. Idempotent. */
  reset(reason: string): void {
    if (this.#closed.signal.aborted) return
    this.#options.reset()
    this.#close(reason)
  }

  #count(bytes: number): void {
    if (this.#unsentBytes === 0) this.#progressMs = this.#options.clock.monotonicMs()
    this.#unsentBytes += bytes
    this.#mostUnsentBytes = Math.max(this.#mostUnsentBytes, this.#unsentBytes)
    if (this.#stallTimer === undefined) this.#armStallTimer(this.#options.stallTimeoutMs)
  }

  #sent(bytes: number): void {
    this.#unsentBytes -= bytes
    this.#sentBytes += bytes
    this.#progressMs = this.#options.clock.monotonicMs()
    const waiter = this.#waiter
    if (waiter === undefined || !this.#fits(waiter.bytes)) return
    this.#waiter = undefined
    waiter.resolve()
  }

  #fits(bytes: number): boolean {
    return this.#unsentBytes === 0 || this.#unsentBytes + bytes <= this.#options.bytesMax
  }

  /** One timer for many writes: it looks at the progress when it fires, and rests when nothing waits. */
  #armStallTimer(delayMs: number): void {
    this.#stallTimer = this.#options.clock.setTimer(delayMs, () => {
      this.#stallTimer = undefined
      if (this.#unsentBytes === 0) return
      const leftMs = this.#progressMs + this.#options.stallTimeoutMs - this.#options.clock.monotonicMs()
      if (leftMs > 0) this.#armStallTimer(leftMs)
      else this.reset(`the peer took nothing for ${this.#options.stallTimeoutMs} ms`)
    })
  }

  #requireOpen(): void {
    if (this.#closed.signal.aborted) throw this.#closed.signal.reason
  }

  #close(reason: string): void {
    if (this.#closed.signal.aborted) return
    const error = new ClusterError('STREAM_FAILED', `replication stream: ${reason}`)
    this.#closed.abort(error)
    this.#stallTimer?.cancel()
    this.#waiter?.reject(error)
    this.#waiter = undefined
  }
}
