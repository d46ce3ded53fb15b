/**
 * Calls to Consul's HTTP API (version 1): keys, sessions, transactions.
 *
 * Promises: every call ends within its time or with the signal; each is made once. Rejects with `LEASE_UNAVAILABLE`, which names the place and never
 * the token.
 * Relies on: https://developer.hashicorp.com/consul/api-docs for paths, fields and the rules of blocking queries.
 */
import type { Clock } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { ConsulAddress } from './consul-url.ts'
import type { KeyEntry } from './key-watch.ts'

export interface ConsulClientParts {
  readonly address: ConsulAddress
  readonly clock: Clock
  readonly timeoutMs: number
  /** Where to connect for an address, both `host:port`. */
  route(address: string): string
}

/** A key; its revision is the index of the answer. */
export interface ConsulEntry extends KeyEntry {
  /** `undefined`: there is no such key, or it is empty. */
  readonly value: string | undefined
  /** Who locks it. */
  readonly session: string | undefined
  /** 0: there is no such key. */
  readonly modifyIndex: number
}

export interface SessionRequest {
  readonly name: string
  /** Of the catalog; `undefined`: that of the agent. */
  readonly node: string | undefined
  readonly ttlMs: number
  readonly lockDelayMs: number
}

/** One step of a transaction, in Consul's own words. */
export interface ConsulOperation {
  readonly KV: {
    readonly Verb: 'lock' | 'unlock' | 'set' | 'cas' | 'check-session' | 'check-index'
    readonly Key: string
    /** Base 64. */
    readonly Value?: string
    readonly Session?: string
    readonly Index?: number
  }
}

interface Answer {
  readonly status: number
  readonly text: string
  readonly index: number
}

/** How long Consul holds a question for changes; it adds up to a sixteenth. */
const BLOCK_MS = 30_000
const BLOCK_SLACK_MS = 5_000
const TEXT_SHOWN_MAX = 200

export class ConsulClient {
  readonly #parts: ConsulClientParts
  readonly #base: string

  constructor(parts: ConsulClientParts) {
    this.#parts = parts
    const { protocol, host, port } = new URL(parts.address.origin)
    const address = port === '' ? `${host}:443` : host
    const routed = parts.route(address)
    this.#base = routed === address ? parts.address.origin : `${protocol}//${routed}`
  }

  /** Answered by the leader of Consul's servers. */
  async get(key: string, signal?: AbortSignal): Promise<ConsulEntry> {
    return entryOf(await this.#call('GET', `${kvPath(key)}?consistent`, { signal, accepts: [200, 404] }))
  }

  /** The key when it is not any more as it was, or after some time. */
  async getAfter(key: string, revision: number, signal: AbortSignal): Promise<ConsulEntry> {
    const path = `${kvPath(key)}?index=${revision}&wait=${BLOCK_MS / 1000}s`
    const timeoutMs = BLOCK_MS + BLOCK_MS / 16 + BLOCK_SLACK_MS
    return entryOf(await this.#call('GET', path, { signal, timeoutMs, accepts: [200, 404] }))
  }

  /** Without health checks, as LiteFS: its keys go with it. Answers its id. */
  async createSession(request: SessionRequest, signal?: AbortSignal): Promise<string> {
    const body = {
      Name: request.name,
      ...(request.node === undefined ? {} : { Node: request.node }),
      NodeChecks: [],
      Behavior: 'delete',
      TTL: `${request.ttlMs / 1000}s`,
      LockDelay: `${request.lockDelayMs}ms`,
    }
    const { text } = await this.#call('PUT', '/v1/session/create', { body, signal })
    const { ID } = parsed(text) as { ID?: unknown }
    if (typeof ID !== 'string') throw this.#unavailable('a session without an id', undefined)
    return ID
  }

  /** Answers its time to live in ms; `undefined`: it is over. */
  async renewSession(id: string, signal?: AbortSignal): Promise<number | undefined> {
    const { status, text } = await this.#call('PUT', `/v1/session/renew/${id}`, { signal, accepts: [200, 404] })
    if (status === 404) return undefined
    const sessions = parsed(text) as readonly { readonly TTL?: string }[]
    return durationMs((Array.isArray(sessions) && sessions[0]?.TTL) || '')
  }

  /** The keys that it locks are deleted. */
  async destroySession(id: string): Promise<void> {
    await this.#call('PUT', `/v1/session/destroy/${id}`, {})
  }

  /** Empties a key and unlocks it, so that others may have it at once. */
  async release(key: string, session: string): Promise<void> {
    await this.#call('PUT', `${kvPath(key)}?release=${session}`, {})
  }

  /** All of it or nothing; false: nothing, because the world is another one than was thought. */
  async txn(operations: readonly ConsulOperation[], signal?: AbortSignal): Promise<boolean> {
    const answer = await this.#call('PUT', '/v1/txn', { body: operations, signal, accepts: [200, 409] })
    // Consul says of both with the same status that the world is another one, and that the token may not.
    if (answer.status === 409 && /permission denied|acl not found/i.test(answer.text))
      throw this.#refused({ ...answer, status: 403 })
    return answer.status === 200
  }

  /** A node of the catalog that no agent speaks for, so that sessions can be bound to it. */
  async registerNode(node: string, signal?: AbortSignal): Promise<void> {
    await this.#call('PUT', '/v1/catalog/register', { body: { Node: node, Address: 'localhost' }, signal })
  }

  async #call(
    method: 'GET' | 'PUT',
    path: string,
    call: {
      readonly body?: unknown
      readonly signal?: AbortSignal | undefined
      readonly timeoutMs?: number
      readonly accepts?: readonly number[]
    },
  ): Promise<Answer> {
    const { clock, address, timeoutMs: ownTimeoutMs } = this.#parts
    const { body, signal, timeoutMs = ownTimeoutMs, accepts = [200] } = call
    const deadline = new AbortController()
    const timer = clock.setTimer(timeoutMs, () => deadline.abort(new Error(`no answer within ${timeoutMs} ms`)))
    let answer: Answer
    try {
      const response = await fetch(this.#base + path, {
        method,
        headers: address.token === undefined ? {} : { 'x-consul-token': address.token },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: signal === undefined ? deadline.signal : AbortSignal.any([deadline.signal, signal]),
      })
      const index = Number(response.headers.get('x-consul-index') ?? 0)
      answer = { status: response.status, text: await response.text(), index }
    } catch (error) {
      throw this.#unavailable(reasonOf(error), error)
    } finally {
      timer.cancel()
    }
    if (accepts.includes(answer.status)) return answer
    throw this.#refused(answer)
  }

  #refused({ status, text }: Answer): ClusterError {
    const said = text.trim().slice(0, TEXT_SHOWN_MAX)
    return this.#unavailable(`status ${status}: ${said === '' ? 'no details' : said}`, undefined, status)
  }

  #unavailable(reason: string, cause: unknown, status?: number): ClusterError {
    const { origin } = this.#parts.address
    const { token } = this.#parts.address
    const shown = token === undefined ? reason : reason.replaceAll(token, '(token)')
    return new ClusterError('LEASE_UNAVAILABLE', `Consul at ${origin}: ${shown}`, {
      cause,
      details: { url: origin, status },
      hint: hintOf(shown, status, this.#parts.address.prefix),
    })
  }
}

function hintOf(reason: string, status: number | undefined, prefix: string): string {
  if (status === 403 || status === 401) {
    const keys = prefix === '' ? 'the key' : `keys below "${prefix}/"`
    return `Give the token of lease.url write on ${keys} and on sessions; with a prefix also on the node "${prefix}/litefs".`
  }
  if (/certificate|self.signed|issuer|TLS|SSL/i.test(reason)) {
    return 'Check that lease.url says https:// where Consul speaks TLS, and that Node.js trusts its certificate (NODE_EXTRA_CA_CERTS).'
  }
  return 'Check that Consul runs, has a leader, and is reached from this node under lease.url.'
}

function reasonOf(error: unknown): string {
  const { cause, message } = error as { cause?: { message?: string; code?: string }; message?: string }
  return cause?.message !== undefined && cause.message !== ''
    ? cause.message
    : (cause?.code ?? message ?? String(error))
}

function kvPath(key: string): string {
  return `/v1/kv/${key.split('/').map(encodeURIComponent).join('/')}`
}

function entryOf({ status, text, index }: Answer): ConsulEntry {
  const [found] = status === 404 ? [] : (parsed(text) as readonly WireEntry[])
  const value = Buffer.from(found?.Value ?? '', 'base64').toString()
  return {
    revision: index,
    value: value === '' ? undefined : value,
    session: found?.Session,
    modifyIndex: found?.ModifyIndex ?? 0,
  }
}

/** Of Go's notation, such as `1m30s`; 0 for what is none. */
function durationMs(text: string): number {
  const [, hours = 0, minutes = 0, seconds = 0] = /^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?$/.exec(text) ?? []
  return ((Number(hours) * 60 + Number(minutes)) * 60 + Number(seconds)) * 1000
}

interface WireEntry {
  readonly Value?: string | null
  readonly Session?: string
  readonly ModifyIndex?: number
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return {}
  }
}
