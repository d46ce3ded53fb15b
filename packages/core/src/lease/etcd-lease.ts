/**
 * The lease in etcd (version 3): one key, bound to a lease of etcd, which deletes it when nobody renews it.
 *
 *   <key>          who has it (lease-holder.ts); there while somebody has it
 *   <key>/epoch    the newest epoch, in decimal; stays
 *   <key>/office   the newest epoch whose holder took office, likewise
 *   <key>/clusterid  which cluster the nodes are; written once
 *
 * Order of acquiring: look → a lease of etcd → one transaction that writes both keys, if nobody has the one and nobody wrote the other since.
 * So an epoch is durable at the majority of etcd with the acquisition, and none is given twice. It is one above the newest one, above the
 * revision of the store and above what the candidate has seen: the revision alone would not do, because it starts anew with an etcd that was set up anew or
 * restored, and because the epochs of a cluster that had a static lease are far above every revision.
 * Relies on: etcd's clocks run at most as much faster than this node's as the margin of leadership allows for.
 * Promises: a holder that dies is replaced after the time to live at the latest, counted from its last renewal; an etcd that is away for less costs
 * nothing, for longer the office. When the majority of etcd changes its leader, etcd lets a lease live longer, never shorter.
 * After a crash: the key stays for the rest of its time, also for the same node, started again.
 */
import type { Clock } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import { type Epoch, epoch, NO_EPOCH } from '../position/epoch.ts'
import { EtcdClient, type EtcdEntry, type EtcdGrant, entryOf } from './etcd-client.ts'
import { KeyWatch } from './key-watch.ts'
import type { AcquireOutcome, AcquireRequest, ClusterIdKey, Lease, LeaseObservation } from './lease.ts'
import { formatLeaseHolder, type LeaseHolder, parseLeaseHolder, sameHolder } from './lease-holder.ts'
import { LeaseTime, LeaseValidity } from './lease-time.ts'
import { RenewedLease } from './renewed-lease.ts'

export interface EtcdLeaseParts {
  /** `http://host:port` or `https://host:port`, tried in turn. */
  readonly endpoints: readonly string[]
  readonly key: string
  /** Whole seconds, at least 2. */
  readonly ttlMs: number
  readonly username?: string | undefined
  readonly password?: string | undefined
  /** Certificate authority in PEM, for https. Default: those of Node.js. */
  readonly ca?: Buffer | undefined
  /** False: this node only watches. Default: true. */
  readonly isCandidate?: boolean | undefined
  readonly clock: Clock
  random(): number
  /** Where to connect for an address, both `host:port`. */
  route(address: string): string
  /** Default: of the clock and the machine. */
  readonly time?: LeaseTime | undefined
}

/** Parts of the time to live. */
const RENEWALS = 3
const RETRIES = 20
const CALL_MS_MIN = 1_000
const CALL_MS_MAX = 5_000
/** Others may win and give back meanwhile. */
const TRIES_MAX = 3

export class EtcdLease implements Lease {
  readonly kind = 'etcd'
  readonly isCandidate: boolean
  readonly ttlMs: number
  readonly clusterId: ClusterIdKey
  readonly #parts: EtcdLeaseParts
  readonly #client: EtcdClient
  readonly #time: LeaseTime
  readonly #watches = new Set<KeyWatch<EtcdEntry>>()
  readonly #closing = new AbortController()
  #acquiring: Promise<unknown> = Promise.resolve()
  #held: { readonly lease: RenewedLease; readonly self: LeaseHolder } | undefined

  constructor(parts: EtcdLeaseParts) {
    this.#parts = parts
    this.isCandidate = parts.isCandidate ?? true
    this.ttlMs = parts.ttlMs
    this.#time = parts.time ?? new LeaseTime(parts.clock)
    const timeoutMs = Math.min(CALL_MS_MAX, Math.max(CALL_MS_MIN, parts.ttlMs / 4))
    const { username, password, ca, clock, endpoints, key } = parts
    const route = (address: string): string => parts.route(address)
    this.#client = new EtcdClient({ endpoints, key, username, password, ca, clock, timeoutMs, route })
    this.clusterId = {
      read: async (signal) => (await this.#client.get(clusterIdKey(key), signal)).value,
      found: (id, signal) => this.#foundCluster(id, signal),
    }
  }

  acquire(request: AcquireRequest): Promise<AcquireOutcome> {
    if (this.#held !== undefined) return Promise.resolve({ kind: 'taken', holder: this.#held.self })
    if (this.#closing.signal.aborted) return Promise.resolve({ kind: 'taken', holder: undefined })
    const signal = AbortSignal.any([request.signal, this.#closing.signal])
    // One at a time: two of one node would be two nodes.
    const attempt = this.#acquiring.then(() => this.#acquire({ ...request, signal }))
    this.#acquiring = attempt.catch(() => undefined)
    return attempt
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
    this.#watches.add(watch)
    const stop = (): void => {
      this.#watches.delete(watch)
      void watch.stop()
    }
    return { refresh: () => watch.refresh(), stop }
  }

  async close(): Promise<void> {
    this.#closing.abort()
    await this.#acquiring
    await this.#held?.lease.release()
    await Promise.all([...this.#watches].map((watch) => watch.stop()))
    this.#watches.clear()
    this.#client.close()
  }

  async #acquire({ self, epochAbove, signal }: AcquireRequest): Promise<AcquireOutcome> {
    const { key } = this.#parts
    for (let tries = 0; tries < TRIES_MAX && !signal.aborted; tries++) {
      if (this.#held !== undefined) return { kind: 'taken', holder: this.#held.self }
      const found = await this.#client.get(key, signal)
      if (found.value !== undefined || !this.isCandidate) return takenBy(found)
      const lastOffice = this.#epochOf(await this.#client.get(officeKey(key), signal), officeKey(key))
      const newest = await this.#client.get(epochKey(key), signal)
      const next = epoch(Math.max(this.#epochOf(newest, epochKey(key)), epochAbove, newest.revision) + 1)
      const askedAt = this.#time.now()
      const grant = await this.#client.grant(this.#parts.ttlMs, signal)
      const won = await this.#win(grant, self, newest, next, signal)
      if (won.kind === 'lost' && won.to.value !== undefined) return takenBy(won.to)
      if (won.kind === 'won') {
        const ttlMs = Math.min(grant.ttlMs, this.#parts.ttlMs)
        const validity = new LeaseValidity(this.#time, ttlMs, askedAt)
        const terms = { epoch: next, lastOffice }
        return { kind: 'held', lease: this.#hold(self, terms, grant.id, won.revision, validity) }
      }
    }
    return { kind: 'taken', holder: undefined }
  }

  /** Gives the lease of etcd back when it did not win, or nobody knows whether it did. */
  async #win(
    { id }: EtcdGrant,
    self: LeaseHolder,
    newest: EtcdEntry,
    next: Epoch,
    signal: AbortSignal,
  ): Promise<{ kind: 'won'; revision: number } | { kind: 'lost'; to: EtcdEntry }> {
    const key = Buffer.from(this.#parts.key)
    const newestKey = Buffer.from(epochKey(this.#parts.key))
    let isWon = false
    try {
      const { succeeded, header, responses } = await this.#client.txn(
        {
          compare: [
            { result: 'EQUAL', target: 'CREATE', key, createRevision: '0' },
            { result: 'EQUAL', target: 'MOD', key: newestKey, modRevision: String(newest.modRevision) },
          ],
          success: [
            { requestPut: { key, value: Buffer.from(formatLeaseHolder(self)), lease: id } },
            { requestPut: { key: newestKey, value: Buffer.from(String(next)) } },
          ],
          failure: [{ requestRange: { key } }],
        },
        signal,
      )
      isWon = succeeded && !signal.aborted
      if (isWon) return { kind: 'won', revision: Number(header.revision) }
      const range = responses[0]?.responseRange ?? { header, kvs: [] }
      return { kind: 'lost', to: entryOf({ ...range, header }) }
    } finally {
      if (!isWon) await this.#client.revoke(id).catch(() => undefined)
    }
  }

  #hold(
    self: LeaseHolder,
    terms: { readonly epoch: Epoch; readonly lastOffice: Epoch },
    id: string,
    createRevision: number,
    validity: LeaseValidity,
  ): RenewedLease {
    const { clock, key, ttlMs } = this.#parts
    const client = this.#client
    const lease = new RenewedLease({
      ...terms,
      clock,
      time: this.#time,
      validity,
      renewEveryMs: ttlMs / RENEWALS,
      retryEveryMs: ttlMs / RETRIES,
      keeping: {
        renew: async (signal) => (await client.keepAlive(id, signal)) > 0,
        recordOffice: async (signal) => {
          const value = Buffer.from(String(terms.epoch))
          const isOurs = {
            result: 'EQUAL',
            target: 'CREATE',
            key: Buffer.from(key),
            createRevision: String(createRevision),
          }
          const put = { requestPut: { key: Buffer.from(officeKey(key)), value } }
          return (await client.txn({ compare: [isOurs], success: [put] }, signal)).succeeded
        },
        giveBack: () => client.revoke(id),
        watch: (lose) =>
          this.#watchKey((entry) => {
            if (entry.createRevision === 0) lose('its key was deleted')
            else if (entry.createRevision !== createRevision) lose('another node has it')
          }),
      },
      onEnd: () => {
        this.#held = undefined
      },
    })
    this.#held = { lease, self }
    return lease
  }

  #watchKey(onEntry: (entry: EtcdEntry) => void): KeyWatch<EtcdEntry> {
    const { clock, key } = this.#parts
    return new KeyWatch({
      read: (signal) => this.#client.get(key, signal),
      follow: ({ revision }, onChange, signal) => this.#client.watch(key, revision + 1, onChange, signal),
      clock,
      random: () => this.#parts.random(),
      onEntry,
    })
  }

  async #foundCluster(id: string, signal: AbortSignal): Promise<string> {
    const key = Buffer.from(clusterIdKey(this.#parts.key))
    const isNew = { result: 'EQUAL', target: 'CREATE', key, createRevision: '0' }
    const { succeeded, header, responses } = await this.#client.txn(
      {
        compare: [isNew],
        success: [{ requestPut: { key, value: Buffer.from(id) } }],
        failure: [{ requestRange: { key } }],
      },
      signal,
    )
    const kept = entryOf(responses[0]?.responseRange ?? { header, kvs: [] }).value
    return succeeded ? id : (kept ?? id)
  }

  #epochOf({ value }: EtcdEntry, key: string): Epoch {
    if (value === undefined) return NO_EPOCH
    if (/^\d{1,16}$/.test(value)) return epoch(Number(value))
    throw new ClusterError('CORRUPT_DATA', `etcd: the key "${key}" does not hold an epoch`, {
      details: { key },
      hint:
        key === epochKey(this.#parts.key)
          ? 'Put a number into it that is larger than every epoch that `litefleet status` shows.'
          : 'Delete it: then the next primary asks the other nodes what they have.',
    })
  }
}

function epochKey(key: string): string {
  return `${key}/epoch`
}

function officeKey(key: string): string {
  return `${key}/office`
}

function clusterIdKey(key: string): string {
  return `${key}/clusterid`
}

function takenBy({ value }: EtcdEntry): AcquireOutcome {
  return { kind: 'taken', holder: parseLeaseHolder(value ?? '') }
}
