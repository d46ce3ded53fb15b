/**
 * Calls to etcd: one endpoint as long as it answers, then the next.
 *
 * Promises: every call ends within `timeoutMs` for each endpoint it is tried at, or with the signal; what cannot be repeated without harm
 * (`txn`) is tried at one endpoint only. A connection on which a call got no answer in time is given up: the next call dials anew. Every call asks
 * for a member that knows a leader, so one that is cut off from the others refuses instead of telling old news.
 * Rejects with `LEASE_UNAVAILABLE`.
 */
import {
  type ChannelCredentials,
  Client,
  type ClientDuplexStream,
  credentials,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js'
import type { Clock } from '../base/clock.ts'
import { isContactLost, isNotFound, isTokenRefused, leaseUnavailable } from './etcd-failure.ts'
import {
  type EtcdMethod,
  type KeyValue,
  type LeaseResponse,
  loadEtcdProtocol,
  type RangeResponse,
  type TxnResponse,
  type WatchResponse,
} from './etcd-protocol.ts'

export interface EtcdClientParts {
  /** `http://host:port` or `https://host:port`. */
  readonly endpoints: readonly string[]
  /** For messages: what is kept there. */
  readonly key: string
  readonly username: string | undefined
  readonly password: string | undefined
  /** Certificate authority in PEM, for https. Default: those of Node.js. */
  readonly ca: Buffer | undefined
  readonly timeoutMs: number
  readonly clock: Clock
  /** Where to connect for an address, both `host:port`. */
  route(address: string): string
}

/** A key as it was at a revision of the store; `value` is undefined where it does not exist. */
export interface EtcdEntry {
  readonly revision: number
  readonly value: string | undefined
  /** 0: it does not exist. */
  readonly createRevision: number
  readonly modRevision: number
}

export interface EtcdGrant {
  readonly id: string
  readonly ttlMs: number
}

/** etcd refuses pings that come more often than every 5 s. */
const PING_EVERY_MS = 10_000
const PING_TIMEOUT_MS = 3_000

export class EtcdClient {
  readonly #parts: EtcdClientParts
  readonly #protocol = loadEtcdProtocol()
  readonly #clients = new Map<string, Client>()
  #at = 0
  #token: string | undefined

  constructor(parts: EtcdClientParts) {
    this.#parts = parts
  }

  async get(key: string, signal?: AbortSignal): Promise<EtcdEntry> {
    return entryOf((await this.#call(this.#protocol.range, { key: Buffer.from(key) }, signal)) as RangeResponse)
  }

  /** May have happened though it rejects. */
  async txn(request: object, signal?: AbortSignal): Promise<TxnResponse> {
    return (await this.#call(this.#protocol.txn, request, signal, 1)) as TxnResponse
  }

  async grant(ttlMs: number, signal?: AbortSignal): Promise<EtcdGrant> {
    const request = { TTL: Math.ceil(ttlMs / 1000) }
    const { ID, TTL } = (await this.#call(this.#protocol.leaseGrant, request, signal)) as LeaseResponse
    return { id: ID, ttlMs: Number(TTL) * 1000 }
  }

  /** Deletes the keys that are bound to it. One that is over is no error. */
  async revoke(id: string): Promise<void> {
    await this.#attempt(this.#parts.endpoints.length, async (endpoint) => {
      try {
        await this.#unary(endpoint, this.#protocol.leaseRevoke, { ID: id })
      } catch (error) {
        if (!isNotFound(error as ServiceError)) throw error
      }
    })
  }

  /** Answers the time it has from now on, in ms; 0: it is over. */
  async keepAlive(id: string, signal?: AbortSignal): Promise<number> {
    const { TTL } = await this.#attempt(this.#parts.endpoints.length, (endpoint) =>
      this.#firstOf(endpoint, this.#protocol.leaseKeepAlive, { ID: id }, signal),
    )
    return Number(TTL) * 1000
  }

  /**
   * Tells each change of a key from a revision on. Rejects when it ends, and with the signal.
   */
  watch(key: string, fromRevision: number, onChange: (entry: EtcdEntry) => void, signal: AbortSignal): Promise<never> {
    const create = { createRequest: { key: Buffer.from(key), startRevision: String(fromRevision) } }
    return this.#attempt(1, async (endpoint) => {
      const call = this.#open(endpoint, this.#protocol.watch, await this.#metadata(endpoint))
      return this.#untilEnd(
        call,
        signal,
        () => call.write(create),
        (message) => {
          const { created, canceled, cancelReason, compactRevision, events } = message as WatchResponse
          if (canceled) throw new Error(`the watch was ended: ${cancelReason || `compacted up to ${compactRevision}`}`)
          for (const { type, kv } of events) onChange(changeOf(type, kv))
          return created
        },
      )
    })
  }

  close(): void {
    for (const client of this.#clients.values()) client.close()
    this.#clients.clear()
  }

  #call(method: EtcdMethod, request: object, signal?: AbortSignal, tries?: number): Promise<unknown> {
    return this.#attempt(
      tries ?? this.#parts.endpoints.length,
      (endpoint) => this.#unary(endpoint, method, request, signal),
      signal,
    )
  }

  /** At the endpoint that answered last, then at the others. */
  async #attempt<T>(tries: number, work: (endpoint: string) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const { endpoints, key } = this.#parts
    for (let left = tries; ; left--) {
      const at = this.#at
      const endpoint = endpoints[at % endpoints.length]!
      try {
        return await this.#authenticated(() => work(endpoint))
      } catch (error) {
        const failure = error as ServiceError
        if (isContactLost(failure) && signal?.aborted !== true) {
          // Others may have moved on already.
          if (this.#at === at) this.#at = (at + 1) % endpoints.length
          if (left > 1) continue
        }
        throw leaseUnavailable(failure, { endpoint, endpoints, key })
      }
    }
  }

  /** Once more when the token does not count any more. */
  async #authenticated<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (this.#token === undefined || !isTokenRefused(error as ServiceError)) throw error
      this.#token = undefined
      return work()
    }
  }

  async #metadata(endpoint: string, signal?: AbortSignal): Promise<Metadata> {
    const { username, password } = this.#parts
    const metadata = new Metadata()
    metadata.set('hasleader', 'true')
    if (username === undefined) return metadata
    if (this.#token === undefined) {
      const request = { name: username, password: password ?? '' }
      const answer = await this.#send(endpoint, this.#protocol.authenticate, request, metadata, signal)
      this.#token = (answer as { token: string }).token
    }
    metadata.set('token', this.#token)
    return metadata
  }

  async #unary(endpoint: string, method: EtcdMethod, request: object, signal?: AbortSignal): Promise<unknown> {
    return this.#send(endpoint, method, request, await this.#metadata(endpoint, signal), signal)
  }

  #send(
    endpoint: string,
    { path, requestSerialize, responseDeserialize }: EtcdMethod,
    request: object,
    metadata: Metadata,
    signal?: AbortSignal,
  ): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const call = this.#client(endpoint).makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        metadata,
        (error, answer) => {
          ended()
          if (error === null) resolve(answer)
          else reject(error)
        },
      )
      const ended = this.#bound(endpoint, () => call.cancel(), reject, signal)
    })
  }

  /** The first message of a stream that answers one message. */
  async #firstOf(endpoint: string, method: EtcdMethod, request: object, signal?: AbortSignal): Promise<LeaseResponse> {
    const call = this.#open(endpoint, method, await this.#metadata(endpoint, signal))
    return new Promise((resolve, reject) => {
      const ended = this.#bound(endpoint, () => call.cancel(), reject, signal)
      const end = (): void => {
        ended()
        call.cancel()
      }
      call.on('data', (message) => (end(), resolve(message as LeaseResponse)))
      call.on('error', (error) => (end(), reject(error)))
      call.on('end', () => (end(), reject(new Error('it ended the stream'))))
      call.write(request)
    })
  }

  #open(endpoint: string, method: EtcdMethod, metadata: Metadata): ClientDuplexStream<object, unknown> {
    const { path, requestSerialize, responseDeserialize } = method
    return this.#client(endpoint).makeBidiStreamRequest(path, requestSerialize, responseDeserialize, metadata)
  }

  /**
   * Until the stream ends. Until `receive` answers true for the first time there is a limit of time.
   * @param receive throws to end it
   */
  #untilEnd(
    call: ClientDuplexStream<object, unknown>,
    signal: AbortSignal,
    begin: () => void,
    receive: (message: unknown) => boolean,
  ): Promise<never> {
    return new Promise((_resolve, reject) => {
      const fail = (error: unknown): void => {
        timer.cancel()
        signal.removeEventListener('abort', stop)
        call.cancel()
        reject(error)
      }
      const stop = (): void => fail(new Error('it is not needed any more'))
      const timer = this.#parts.clock.setTimer(this.#parts.timeoutMs, () => fail(this.#noAnswer()))
      signal.addEventListener('abort', stop, { once: true })
      call.on('data', (message) => {
        try {
          if (receive(message)) timer.cancel()
        } catch (error) {
          fail(error)
        }
      })
      call.on('error', fail)
      call.on('end', () => fail(new Error('it ended the stream')))
      if (signal.aborted) stop()
      else begin()
    })
  }

  /** Ends a call that takes too long, or with the signal. The answer is to be called when the call has ended by itself. */
  #bound(endpoint: string, cancel: () => void, reject: (error: Error) => void, signal?: AbortSignal): () => void {
    const { clock, timeoutMs } = this.#parts
    const give = (error: Error): void => {
      ended()
      reject(error)
      cancel()
    }
    const timer = clock.setTimer(timeoutMs, () => {
      this.#discard(endpoint)
      give(this.#noAnswer())
    })
    const stop = (): void => give(new Error('it is not needed any more'))
    const ended = (): void => {
      timer.cancel()
      signal?.removeEventListener('abort', stop)
    }
    signal?.addEventListener('abort', stop, { once: true })
    if (signal?.aborted === true) stop()
    return ended
  }

  #noAnswer(): Error {
    return new Error(`no answer within ${this.#parts.timeoutMs} ms`)
  }

  #client(endpoint: string): Client {
    const known = this.#clients.get(endpoint)
    if (known !== undefined) return known
    const [scheme, address] = endpoint.split('://', 2) as [string, string]
    const client = new Client(this.#parts.route(address), this.#credentials(scheme), CHANNEL_OPTIONS)
    this.#clients.set(endpoint, client)
    return client
  }

  #credentials(scheme: string): ChannelCredentials {
    return scheme === 'https' ? credentials.createSsl(this.#parts.ca ?? null) : credentials.createInsecure()
  }

  #discard(endpoint: string): void {
    this.#clients.get(endpoint)?.close()
    this.#clients.delete(endpoint)
  }
}

/** Connections of its own, dialled again soon; dead ones are found by pings. */
const CHANNEL_OPTIONS = {
  'grpc.enable_retries': 0,
  'grpc.enable_http_proxy': 0,
  'grpc.use_local_subchannel_pool': 1,
  'grpc.service_config_disable_resolution': 1,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1_000,
  'grpc.keepalive_time_ms': PING_EVERY_MS,
  'grpc.keepalive_timeout_ms': PING_TIMEOUT_MS,
}

/** Of a range that asked for one key. */
export function entryOf({ header, kvs: [kv] }: RangeResponse): EtcdEntry {
  return {
    revision: Number(header.revision),
    value: kv?.value.toString(),
    createRevision: Number(kv?.createRevision ?? 0),
    modRevision: Number(kv?.modRevision ?? 0),
  }
}

function changeOf(type: 'PUT' | 'DELETE', kv: KeyValue): EtcdEntry {
  const modRevision = Number(kv.modRevision)
  if (type === 'DELETE') return { revision: modRevision, value: undefined, createRevision: 0, modRevision: 0 }
  const { createRevision, value } = kv
  return { revision: modRevision, value: value.toString(), createRevision: Number(createRevision), modRevision }
}
