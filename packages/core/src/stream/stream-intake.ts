/**
 * Reads one `/stream` body and hands it to a receiver, one delivery at a time.
 *
 * While a receiver's promise is pending the stream is paused: HTTP/2's window of this stream then fills and the primary stops
 * sending this database. Other databases on the connection go on, because Node returns credit of the connection's own window
 * as data arrives, paused or not; only the stream's window waits for its reader.
 *
 * What arrived within one turn of the event loop is delivered together, and so is what piled up while the stream was paused.
 *
 * Relies on: nobody else reads the stream.
 * Promises: settles only when no call to the receiver is pending and no snapshot is open, so that its position is true then.
 */
import type { Readable } from 'node:stream'
import type { Clock, Timer } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import { type Delivery, FrameCollector } from './frame-collector.ts'
import type { SnapshotIntake, StreamReceiver } from './stream-receiver.ts'

export interface StreamIntakeOptions {
  readonly stream: Readable
  readonly database: string
  readonly receiver: StreamReceiver
  readonly recordBytesMax: number
  /** Fails after this long without a byte, while it is not the receiver that is waited for. */
  readonly heartbeatTimeoutMs: number
  readonly clock: Clock
  /** Each chunk as it arrives, before it is parsed. */
  readonly onBytes: (bytes: number) => void
  /** The primary gives its lease to this node; the stream ends after it. */
  readonly onHandoff: (leaseId: string) => void
  /** Each delivery after the receiver took it. */
  readonly onDelivered: (delivery: Delivery) => void
}

export class StreamIntake {
  readonly #options: StreamIntakeOptions
  readonly #collector: FrameCollector
  readonly #outcome = Promise.withResolvers<void>()
  #snapshot: SnapshotIntake | undefined
  /** Deliveries are being handed over, or will be in this turn. */
  #isDelivering = false
  #failure: { readonly error: unknown } | undefined
  #isEnded = false
  #silence: Timer | undefined
  #lastByteMs = 0

  constructor(options: StreamIntakeOptions) {
    this.#options = options
    this.#collector = new FrameCollector(options.database, options.recordBytesMax)
  }

  /** Resolves at END; rejects with why the body cannot be used any further. */
  async run(signal: AbortSignal): Promise<void> {
    const { stream, clock } = this.#options
    const onAbort = (): void => this.#fail(signal.reason)
    const onClose = (): void => this.#fail(failed('the connection was lost'))
    const onData = (chunk: Buffer): void => this.#accept(chunk)
    const onError = (error: Error): void => this.#fail(failed('the connection broke', error))
    this.#lastByteMs = clock.monotonicMs()
    this.#watchSilence(this.#options.heartbeatTimeoutMs)
    signal.addEventListener('abort', onAbort, { once: true })
    stream.on('error', onError)
    stream.on('close', onClose)
    stream.on('data', onData)
    if (signal.aborted) onAbort()
    else if (stream.destroyed) onClose()
    try {
      await this.#outcome.promise
    } finally {
      this.#silence?.cancel()
      signal.removeEventListener('abort', onAbort)
      stream.off('data', onData)
      stream.off('close', onClose)
      stream.off('error', onError)
    }
  }

  #accept(chunk: Buffer): void {
    if (this.#failure !== undefined || this.#isEnded) return
    this.#lastByteMs = this.#options.clock.monotonicMs()
    this.#options.onBytes(chunk.length)
    try {
      this.#collector.push(chunk)
    } catch (error) {
      this.#failure = { error } // told after what came before it in this chunk was delivered
    }
    this.#schedule()
  }

  #schedule(): void {
    if (this.#isDelivering) return
    this.#isDelivering = true
    // After the other chunks of this turn.
    setImmediate(() => void this.#deliverAll())
  }

  async #deliverAll(): Promise<void> {
    try {
      for (let taken = this.#collector.take(); taken.length > 0; taken = this.#collector.take()) {
        for (const delivery of taken) await this.#wait(this.#deliver(delivery))
      }
    } catch (error) {
      this.#failure = { error } // the receiver's error says more than whatever befell the connection meanwhile
    }
    this.#isDelivering = false
    this.#settle()
  }

  /** Pauses the stream for a receiver that needs time. A receiver that is done at once costs neither a pause nor a turn. */
  async #wait(pending: void | Promise<void>): Promise<void> {
    if (pending === undefined) return
    const { stream, clock } = this.#options
    stream.pause()
    try {
      await pending
    } finally {
      this.#lastByteMs = clock.monotonicMs()
      stream.resume()
    }
  }

  #deliver(delivery: Delivery): void | Promise<void> {
    const { receiver, onDelivered } = this.#options
    switch (delivery.kind) {
      case 'records':
        return then(receiver.records(delivery.records), () => onDelivered(delivery))
      case 'snapshot-begin':
        this.#snapshot = receiver.beginSnapshot()
        break
      case 'snapshot-data':
        return this.#snapshot?.data(delivery.bytes)
      case 'snapshot-end':
        return this.#finishSnapshot(delivery)
      case 'ready':
        receiver.ready()
        break
      case 'heartbeat':
        receiver.heartbeat(delivery.timestampMs)
        break
      case 'dropped':
        return then(receiver.dropped(), () => onDelivered(delivery))
      case 'handoff':
        this.#options.onHandoff(delivery.leaseId)
        break
      case 'end':
        this.#isEnded = true
        break
    }
    onDelivered(delivery)
  }

  async #finishSnapshot(delivery: Delivery): Promise<void> {
    const snapshot = this.#snapshot
    this.#snapshot = undefined
    await snapshot?.finish()
    this.#options.onDelivered(delivery)
  }

  /** Remembers the first reason and stops reading; deliveries under way go on, so that nothing that arrived whole is lost. */
  #fail(error: unknown): void {
    this.#failure ??= { error }
    this.#settle()
  }

  #settle(): void {
    if (this.#isDelivering) return
    if (this.#isEnded) return this.#outcome.resolve()
    if (this.#failure === undefined) return
    const { error } = this.#failure
    this.#snapshot?.abort(error)
    this.#snapshot = undefined
    this.#outcome.reject(error)
  }

  #watchSilence(delayMs: number): void {
    const { clock, heartbeatTimeoutMs } = this.#options
    this.#silence = clock.setTimer(delayMs, () => {
      // While the receiver is busy the stream is paused: silence is ours then, not the primary's.
      const leftMs = this.#isDelivering
        ? heartbeatTimeoutMs
        : this.#lastByteMs + heartbeatTimeoutMs - clock.monotonicMs()
      if (leftMs > 0) this.#watchSilence(leftMs)
      else this.#fail(failed(`no sign of life from the primary for ${heartbeatTimeoutMs} ms`))
    })
  }
}

/** `action` after `pending`, at once when there is nothing to wait for. */
function then(pending: void | Promise<void>, action: () => void): void | Promise<void> {
  if (pending !== undefined) return pending.then(action)
  action()
}

function failed(reason: string, cause?: unknown): ClusterError {
  return new ClusterError('STREAM_FAILED', `replication stream: ${reason}`, { cause })
}
