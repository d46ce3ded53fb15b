/**
 * The lease in Consul, on the keys and with the session that LiteFS 0.5.14 has, so that both may stand in one election.
 *
 *   <prefix>/<key>            who has it (lease-holder.ts): locked by the holder's session, gone or empty when nobody has it
 *   <prefix>/<key>/clusterid  which cluster the nodes are; written once
 *   <prefix>/<key>/epoch      the newest epoch, in decimal; stays. LiteFS knows nothing of it
 *   <prefix>/<key>/office     the newest epoch whose holder took office, likewise
 *   <prefix>/<key>/renewed    when its holder renewed last (consul-expiry.ts), likewise
 *
 * The session has the name `litefs`, no health checks, and takes its keys along when it ends. With a prefix it is bound to a node of the catalog
 * named `<prefix>/litefs`, which is registered where it is missing.
 * Order of acquiring: look, as LiteFS does, → session → one transaction that locks the key and writes the epoch, if nobody wrote that since. So no
 * epoch is given twice. It is one above the newest one, above the index of the store and above what the candidate has seen.
 * Relies on: Consul's clocks run at most as much faster than this node's as the margin of leadership allows for.
 * Promises: a holder that dies is replaced after the time to live; a LiteFS holder when Consul ends its session, which may take twice that, and after the
 * lock delay. A Consul that is away for less costs nothing, for longer the office.
 * A LiteFS node in the election has no epochs: after its time in office `lastOffice` is the one before, and nobody can tell (design D12).
 */
import type { Clock } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import { type Epoch, epoch, NO_EPOCH } from '../position/epoch.ts'
import { ConsulClient, type ConsulEntry, type ConsulOperation } from './consul-client.ts'
import type { ConsulAddress } from './consul-url.ts'
import { ConsulExpiry, formatRenewal, type RenewalNote } from './consul-expiry.ts'
import { KeyWatch } from './key-watch.ts'
import type { AcquireOutcome, AcquireRequest, ClusterIdKey, Lease, LeaseObservation } from './lease.ts'
import { formatLeaseHolder, type LeaseHolder, parseLeaseHolder, sameHolder } from './lease-holder.ts'
import { LeaseTime, LeaseValidity } from './lease-time.ts'
import { RenewedLease } from './renewed-lease.ts'

export interface ConsulLeaseParts {
  readonly address: ConsulAddress
  /** Below the prefix. */
  readonly key: string
  /** Consul accepts 10 s and more. */
  readonly ttlMs: number
  /** For how long nobody may have the key after its holder died. */
  readonly lockDelayMs: number
  /** False: this node only watches. Default: true. */
  readonly isCandidate?: boolean | undefined
  readonly clock: Clock
  random(): number
  /** Where to connect for an address, both `host:port`. */
  route(address: string): string
  /** Default: of the clock and the machine. */
  readonly time?: LeaseTime | undefined
}

const SESSION_NAME = 'litefs'
const CALL_MS = 3_000
/** LiteFS's: half the time to live, and every second after a renewal that failed. */
const RENEWALS = 2
const RETRY_MS = 1_000
/** Others may win and give back meanwhile. */
const TRIES_MAX = 3
const PAUSE_MS_MIN = 20
/** The last try comes after the lock delay, of which nobody is told when it is over. */
const LOCK_DELAY_TRIES = TRIES_MAX - 1
const LOCK_DELAY_SLACK_MS = 50

export class ConsulLease implements Lease {
  readonly kind = 'consul'
  readonly isCandidate: boolean
  readonly ttlMs: number
  readonly clusterId: ClusterIdKey
  readonly #parts: ConsulLeaseParts
  readonly #client: ConsulClient
  readonly #key: string
  readonly #time: LeaseTime
  readonly #watches = new Set<{ stop(): Promise<void> }>()
  readonly #closing = new AbortController()
  #acquiring: Promise<unknown> = Promise.resolve()
  #held: { readonly lease: RenewedLease; readonly self: LeaseHolder } | undefined
  #hasNode = false

  constructor(parts: ConsulLeaseParts) {
    const { address, clock, key } = parts
    this.#parts = parts
    this.isCandidate = parts.isCandidate ?? true
    this.ttlMs = parts.ttlMs
    this.#key = address.prefix === '' ? key : `${address.prefix}/${key}`
    this.#time = parts.time ?? new LeaseTime(clock)
    this.#client = new ConsulClient({ address, clock, timeoutMs: CALL_MS, route: (to) => parts.route(to) })
    this.clusterId = {
      read: async (signal) => (await this.#client.get(this.#keyOf('clusterid'), signal)).value?.trim(),
      found: (id, signal) => this.#foundCluster(id, signal),
    }
  }

  acquire(request: AcquireRequest): Promise<AcquireOutcome> {
    return this.#attempt(request, (whole) => this.#acquire(whole))
  }

  takeOver(session: string, request: AcquireRequest): Promise<AcquireOutcome> {
    return this.#attempt(request, (whole) => this.#takeOver(session, whole))
  }

  decline(session: string): Promise<void> {
    return this.#giveBack(session)
  }

  /** One at a time: two of one node would be two nodes. */
  #attempt(
    request: AcquireRequest,
    attempt: (whole: AcquireRequest) => Promise<AcquireOutcome>,
  ): Promise<AcquireOutcome> {
    if (this.#held !== undefined) return Promise.resolve({ kind: 'taken', holder: this.#held.self })
    if (this.#closing.signal.aborted) return Promise.resolve({ kind: 'taken', holder: undefined })
    const signal = AbortSignal.any([request.signal, this.#closing.signal])
    const outcome = this.#acquiring.then(() => attempt({ ...request, signal }))
    this.#acquiring = outcome.catch(() => undefined)
    return outcome
  }

  observe(listener: (holder: LeaseHolder | undefined) => void): LeaseObservation {
    let told: LeaseHolder | undefined
    listener(undefined)
    const watch = this.#watchKey(({ value }) => {
      const holder = parseLeaseHolder(value ?? '')
      if (sameHolder(told, holder)) return
      told = holder
      listener(holder)
    })
    const watches = this.isCandidate ? [watch, this.#watchRenewals()] : [watch]
    for (const one of watches) this.#watches.add(one)
    const stop = (): void => {
      for (const one of watches) {
        this.#watches.delete(one)
        void one.stop()
      }
    }
    return { refresh: () => watch.refresh(), stop }
  }

  async close(): Promise<void> {
    this.#closing.abort()
    await this.#acquiring
    await this.#held?.lease.release()
    await Promise.all([...this.#watches].map((watch) => watch.stop()))
    this.#watches.clear()
  }

  async #acquire({ self, epochAbove, signal }: AcquireRequest): Promise<AcquireOutcome> {
    for (let tries = 0; tries < TRIES_MAX && !signal.aborted; tries++) {
      if (this.#held !== undefined) return { kind: 'taken', holder: this.#held.self }
      const found = await this.#client.get(this.#key, signal)
      if (found.value !== undefined || !this.isCandidate) return takenBy(found)
      const terms = await this.#nextTerms(epochAbove, signal)
      const askedAt = this.#time.now()
      const session = await this.#createSession(signal)
      const lease = await this.#win(session, self, terms, new LeaseValidity(this.#time, this.ttlMs, askedAt), signal)
      if (lease !== undefined) return { kind: 'held', lease }
      await this.#pause(signal)
    }
    return { kind: 'taken', holder: undefined }
  }

  /** The session of another node: as LiteFS does it, the key stays locked by it, and says who goes on with it. */
  async #takeOver(session: string, { self, epochAbove, signal }: AcquireRequest): Promise<AcquireOutcome> {
    const askedAt = this.#time.now()
    const ttlMs = await this.#client.renewSession(session, signal)
    if (ttlMs === undefined) return { kind: 'taken', holder: undefined }
    const found = await this.#client.get(this.#key, signal)
    if (found.session !== session) return takenBy(found)
    // Its time to live is what the other node asked for.
    const validity = new LeaseValidity(this.#time, Math.min(ttlMs, this.ttlMs), askedAt)
    const lease = await this.#win(session, self, await this.#nextTerms(epochAbove, signal), validity, signal)
    return lease === undefined ? { kind: 'taken', holder: undefined } : { kind: 'held', lease }
  }

  async #nextTerms(epochAbove: Epoch, signal: AbortSignal): Promise<Terms> {
    const lastOffice = this.#epochIn(await this.#client.get(this.#keyOf('office'), signal), 'office')
    const newest = await this.#client.get(this.#keyOf('epoch'), signal)
    const next = epoch(Math.max(this.#epochIn(newest, 'epoch'), epochAbove, newest.revision) + 1)
    return { epoch: next, lastOffice, epochIndex: newest.modifyIndex }
  }

  /** Others were faster, or its holder died, and nobody may have it for the lock delay. */
  #pause(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        timer.cancel()
        signal.removeEventListener('abort', end)
        resolve()
      }
      const timer = this.#parts.clock.setTimer(
        Math.max(PAUSE_MS_MIN, this.#parts.lockDelayMs / LOCK_DELAY_TRIES + LOCK_DELAY_SLACK_MS),
        end,
      )
      signal.addEventListener('abort', end, { once: true })
      if (signal.aborted) end()
    })
  }

  async #createSession(signal: AbortSignal): Promise<string> {
    const { address, lockDelayMs } = this.#parts
    const node = address.prefix === '' ? undefined : `${address.prefix}/litefs`
    if (node !== undefined && !this.#hasNode) await this.#client.registerNode(node, signal)
    this.#hasNode = true
    return this.#client.createSession({ name: SESSION_NAME, node, ttlMs: this.ttlMs, lockDelayMs }, signal)
  }

  /** Gives the session up when it did not win, or nobody knows whether it did. */
  async #win(
    session: string,
    self: LeaseHolder,
    terms: Terms,
    validity: LeaseValidity,
    signal: AbortSignal,
  ): Promise<RenewedLease | undefined> {
    let isWon = false
    try {
      const lock: ConsulOperation = {
        KV: { Verb: 'lock', Key: this.#key, Value: encoded(formatLeaseHolder(self)), Session: session },
      }
      const count: ConsulOperation = {
        KV: { Verb: 'cas', Key: this.#keyOf('epoch'), Value: encoded(String(terms.epoch)), Index: terms.epochIndex },
      }
      const note: RenewalNote = { session, nodeId: self.nodeId, ttlMs: validity.ttlMs }
      isWon = (await this.#client.txn([lock, count, this.#noted(note, 0)], signal)) && !signal.aborted
      return isWon ? this.#hold(self, terms, note, validity) : undefined
    } finally {
      if (!isWon) await this.#giveBack(session).catch(() => undefined)
    }
  }

  #noted(note: RenewalNote, count: number): ConsulOperation {
    return { KV: { Verb: 'set', Key: this.#keyOf('renewed'), Value: encoded(formatRenewal(note, count)) } }
  }

  #hold(self: LeaseHolder, terms: Terms, note: RenewalNote, validity: LeaseValidity): RenewedLease {
    const client = this.#client
    const { session } = note
    const isOurs: ConsulOperation = { KV: { Verb: 'check-session', Key: this.#key, Session: session } }
    let renewals = 0
    const lease = new RenewedLease({
      epoch: terms.epoch,
      lastOffice: terms.lastOffice,
      clock: this.#parts.clock,
      time: this.#time,
      validity,
      renewEveryMs: validity.ttlMs / RENEWALS,
      retryEveryMs: RETRY_MS,
      keeping: {
        leaseId: session,
        renew: async (signal) =>
          (await client.renewSession(session, signal)) !== undefined &&
          client.txn([isOurs, this.#noted(note, ++renewals)], signal),
        recordOffice: (signal) =>
          client.txn(
            [isOurs, { KV: { Verb: 'set', Key: this.#keyOf('office'), Value: encoded(String(terms.epoch)) } }],
            signal,
          ),
        giveBack: () => this.#giveBack(session),
        watch: (lose) =>
          this.#watchKey((entry) => {
            if (entry.session === session) return
            lose(entry.value === undefined ? 'its key was deleted, or its session ended' : 'another node has it')
          }),
      },
      onEnd: () => {
        this.#held = undefined
      },
    })
    this.#held = { lease, self }
    return lease
  }

  /** Released first: a session that ends with its lock makes others wait for the lock delay. */
  async #giveBack(session: string): Promise<void> {
    await this.#client.release(this.#key, session).catch(() => undefined)
    await this.#client.destroySession(session)
  }

  #watchKey(onEntry: (entry: ConsulEntry) => void): KeyWatch<ConsulEntry> {
    return new KeyWatch({
      read: (signal) => this.#client.get(this.#key, signal),
      follow: (after, onChange, signal) => this.#follow(this.#key, after, onChange, signal),
      clock: this.#parts.clock,
      random: () => this.#parts.random(),
      onEntry,
    })
  }

  #watchRenewals(): ConsulExpiry {
    return new ConsulExpiry({
      client: this.#client,
      key: this.#key,
      renewedKey: this.#keyOf('renewed'),
      clock: this.#parts.clock,
      random: () => this.#parts.random(),
      follow: (key, after, onChange, signal) => this.#follow(key, after, onChange, signal),
    })
  }

  /** Blocking queries, one after another. An index that goes backwards is another Consul's: everything is read anew. */
  async #follow(
    key: string,
    after: ConsulEntry,
    onChange: (entry: ConsulEntry) => void,
    signal: AbortSignal,
  ): Promise<never> {
    for (let { revision } = after; ; ) {
      const entry = await this.#client.getAfter(key, Math.max(1, revision), signal)
      if (entry.revision < revision) throw new ClusterError('LEASE_UNAVAILABLE', 'Consul has lost its history')
      revision = entry.revision
      onChange(entry)
    }
  }

  async #foundCluster(id: string, signal: AbortSignal): Promise<string> {
    const Key = this.#keyOf('clusterid')
    const isNew = await this.#client.txn([{ KV: { Verb: 'cas', Key, Value: encoded(id), Index: 0 } }], signal)
    return isNew ? id : ((await this.#client.get(Key, signal)).value?.trim() ?? id)
  }

  #keyOf(name: 'clusterid' | 'epoch' | 'office' | 'renewed'): string {
    return `${this.#key}/${name}`
  }

  #epochIn({ value }: ConsulEntry, name: 'epoch' | 'office'): Epoch {
    if (value === undefined) return NO_EPOCH
    if (/^\d{1,16}$/.test(value)) return epoch(Number(value))
    const key = this.#keyOf(name)
    throw new ClusterError('CORRUPT_DATA', `Consul: the key "${key}" does not hold an epoch`, {
      details: { key },
      hint:
        name === 'epoch'
          ? 'Put a number into it that is larger than every epoch that `litefleet status` shows.'
          : 'Delete it: then the next primary asks the other nodes what they have.',
    })
  }
}

interface Terms {
  readonly epoch: Epoch
  readonly lastOffice: Epoch
  /** Of the entry that the epoch replaces. */
  readonly epochIndex: number
}

function takenBy({ value }: ConsulEntry): AcquireOutcome {
  return { kind: 'taken', holder: parseLeaseHolder(value ?? '') }
}

function encoded(text: string): string {
  return Buffer.from(text).toString('base64')
}
