/**
 * One key of etcd as it is now, kept up to date: read, then watched from that revision on; from the beginning when either fails.
 *
 * Promises: entries are told in the order of their revisions, each change once; what is known stays while etcd cannot be reached.
 * Bound: one read of `refresh` is under way at a time; waits between attempts grow to `RETRY_MS_MAX`.
 */
import type { Clock } from '../base/clock.ts'
import { RunLoop } from '../base/run-loop.ts'
import type { EtcdClient, EtcdEntry } from './etcd-client.ts'

export interface KeyWatchParts {
  readonly client: EtcdClient
  readonly key: string
  readonly clock: Clock
  random(): number
  /** Called for every read and every change; the same entry may be told again. */
  onEntry(entry: EtcdEntry): void
}

const RETRY_MS_MIN = 100
const RETRY_MS_MAX = 2_000

export class EtcdKeyWatch {
  readonly #parts: KeyWatchParts
  readonly #loop: RunLoop
  readonly #stopped = new AbortController()
  #revision = 0
  /** Attempts so far: what an earlier one asked for is no news. */
  #attempt = 0
  #isRefreshing = false

  constructor(parts: KeyWatchParts) {
    this.#parts = parts
    const { client, key, clock } = parts
    this.#loop = new RunLoop({
      clock,
      minDelayMs: RETRY_MS_MIN,
      maxDelayMs: RETRY_MS_MAX,
      random: () => parts.random(),
      task: async (signal, progress) => {
        this.#attempt++
        const entry = await client.get(key, signal)
        progress()
        // Also when it is older than what was known: an etcd that was restored from a backup has earlier revisions.
        this.#revision = entry.revision
        this.#tell(entry)
        await client.watch(key, entry.revision + 1, (change) => this.#changed(change), signal)
      },
    })
    this.#loop.start()
  }

  /** Reads now. What cannot be read is told by the next attempt. */
  refresh(): void {
    if (this.#isRefreshing || this.#stopped.signal.aborted) return
    const { client, key } = this.#parts
    const attempt = this.#attempt
    this.#isRefreshing = true
    client
      .get(key, this.#stopped.signal)
      .then(
        (entry) => {
          if (attempt === this.#attempt && entry.revision >= this.#revision) this.#changed(entry)
        },
        () => undefined,
      )
      .finally(() => {
        this.#isRefreshing = false
      })
  }

  /** Nothing is told any more. */
  async stop(): Promise<void> {
    this.#stopped.abort()
    await this.#loop.stop()
  }

  #changed(entry: EtcdEntry): void {
    // A read may have told it before the watch does.
    if (entry.revision <= this.#revision) return
    this.#revision = entry.revision
    this.#tell(entry)
  }

  #tell(entry: EtcdEntry): void {
    if (!this.#stopped.signal.aborted) this.#parts.onEntry(entry)
  }
}
