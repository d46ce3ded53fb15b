/**
 * Ends the session of a Litefleet holder that has stopped renewing it, as soon as its time is surely over.
 *
 * Consul counts a session's time to live twice before it ends it, so that whoever dies is missed for up to twice as long as its own promise says.
 * The holder itself goes by one time to live, from before it sent its last renewal (lease-time.ts). So it notes each renewal in a key that candidates
 * watch: who has seen none for one time to live, on its own monotonic clock, knows that the holder's time is over, because the holder counts from
 * earlier than anybody can have seen the note. A candidate that is suspended meanwhile waits for longer, and one that lost contact looks again first.
 *
 *   <key>/renewed   "<session> <node id> <time to live in ms> <count>"
 *
 * Order: looked again → one transaction that frees the key if neither it nor the note has changed since → session ended. So a renewal that was under way
 * either shows, or fails. Keys that were freed before their session ends cost nobody the lock delay.
 * Relies on: clocks that run at most as much faster than the holder's as the margin of leadership allows for.
 * LiteFS notes nothing: its sessions, and those it took over, are left to Consul.
 */
import type { Clock, Timer } from '../base/clock.ts'
import type { ConsulClient, ConsulEntry } from './consul-client.ts'
import { KeyWatch } from './key-watch.ts'
import { parseLeaseHolder } from './lease-holder.ts'

export interface ConsulExpiryParts {
  readonly client: ConsulClient
  /** Of the lease. */
  readonly key: string
  readonly renewedKey: string
  readonly clock: Clock
  random(): number
  follow(key: string, after: ConsulEntry, onChange: (entry: ConsulEntry) => void, signal: AbortSignal): Promise<never>
}

export interface RenewalNote {
  readonly session: string
  readonly nodeId: string
  readonly ttlMs: number
}

/** Consul could not be reached, or somebody was faster. */
const RETRY_MS = 1_000

export function formatRenewal({ session, nodeId, ttlMs }: RenewalNote, count: number): string {
  return `${session} ${nodeId} ${ttlMs} ${count}`
}

export class ConsulExpiry {
  readonly #parts: ConsulExpiryParts
  readonly #watch: KeyWatch<ConsulEntry>
  readonly #stopped = new AbortController()
  #seen: { readonly entry: ConsulEntry; readonly note: RenewalNote; readonly atMs: number } | undefined
  #timer: Timer | undefined
  #ending: Promise<void> = Promise.resolve()

  constructor(parts: ConsulExpiryParts) {
    const { client, renewedKey, clock } = parts
    this.#parts = parts
    this.#watch = new KeyWatch({
      read: (signal) => client.get(renewedKey, signal),
      follow: (after, onChange, signal) => parts.follow(renewedKey, after, onChange, signal),
      clock,
      random: () => parts.random(),
      onEntry: (entry) => this.#renewed(entry),
    })
  }

  async stop(): Promise<void> {
    this.#stopped.abort()
    this.#timer?.cancel()
    await Promise.all([this.#watch.stop(), this.#ending])
  }

  #renewed(entry: ConsulEntry): void {
    if (this.#seen?.entry.modifyIndex === entry.modifyIndex) return
    const note = parseRenewal(entry.value ?? '')
    this.#timer?.cancel()
    this.#seen = note && { entry, note, atMs: this.#parts.clock.monotonicMs() }
    if (note !== undefined) this.#lookIn(note.ttlMs)
  }

  #lookIn(ms: number): void {
    if (this.#stopped.signal.aborted) return
    this.#timer = this.#parts.clock.setTimer(ms, () => {
      this.#ending = this.#end().catch(() => this.#lookIn(RETRY_MS))
    })
  }

  async #end(): Promise<void> {
    const { client, clock, key, renewedKey } = this.#parts
    const { signal } = this.#stopped
    const seen = this.#seen
    if (seen === undefined) return
    const leftMs = seen.atMs + seen.note.ttlMs - clock.monotonicMs()
    if (leftMs > 0) return this.#lookIn(leftMs)
    const [holder, renewed] = [await client.get(key, signal), await client.get(renewedKey, signal)]
    if (renewed.modifyIndex !== seen.entry.modifyIndex) return this.#renewed(renewed)
    const { session, nodeId } = seen.note
    // Freed, or somebody else's: what it says then will be noted.
    if (holder.session !== session || parseLeaseHolder(holder.value ?? '')?.nodeId !== nodeId) return
    const isFree = await client.txn(
      [
        { KV: { Verb: 'check-index', Key: key, Index: holder.modifyIndex } },
        { KV: { Verb: 'check-index', Key: renewedKey, Index: renewed.modifyIndex } },
        { KV: { Verb: 'unlock', Key: key, Value: '', Session: session } },
      ],
      signal,
    )
    if (isFree) await client.destroySession(session)
    else this.#lookIn(RETRY_MS)
  }
}

function parseRenewal(text: string): RenewalNote | undefined {
  const [session, nodeId, ttl, ...rest] = text.split(' ')
  const ttlMs = Number(ttl)
  if (session === undefined || nodeId === undefined || nodeId === '' || rest.length !== 1) return undefined
  return Number.isSafeInteger(ttlMs) && ttlMs > 0 ? { session, nodeId, ttlMs } : undefined
}
