/**
 * One key of a backend as it is now, kept up to date: read, then followed from that revision on; from the beginning when either fails.
 *
 * Promises: entries are told in the order of their revisions, each change once; what is known stays while the backend cannot be reached.
 * Bound: one read of `refresh` is under way at a time; waits between attempts grow to `RETRY_MS_MAX`.
 */
import type { Clock } from '../base/clock.ts'
import { RunLoop } from '../base/run-loop.ts'

/** A key at a revision of its backend, which grows with every change of it. */
export interface KeyEntry {
  readonly revision: number
}

export interface KeyWatchParts<Entry extends KeyEntry> {
  /** Rejects when the backend cannot be reached. */
  read(signal: AbortSignal): Promise<Entry>
  /** Tells each change after the entry. Rejects when it ends, and with the signal. */
  follow(after: Entry, onChange: (entry: Entry) => void, signal: AbortSignal): Promise<never>
  readonly clock: Clock
  random(): number
  /** Called for every read and every change; the same entry may be told again. */
  onEntry(entry: Entry): void
}

const RETRY_MS_MIN = 100
const RETRY_MS_MAX = 2_000

export class KeyWatch<Entry extends KeyEntry> {
  readonly #parts: KeyWatchParts<Entry>
  readonly #loop: RunLoop
  readonly #stopped = new AbortController()
  #revision = 0
  /** Attempts so far: what an earlier one asked for is no news. */
  #attempt = 0
  #isRefreshing = false

  constructor(parts: KeyWatchParts<Entry>) {
    this.#parts = parts
    this.#loop = new RunLoop({
      clock: parts.clock,
      minDelayMs: RETRY_MS_MIN,
      maxDelayMs: RETRY_MS_MAX,
      random: () => parts.random(),
      task: async (signal, progress) => {
        this.#attempt++
        const entry = await parts.read(signal)
        progress()
        // Also when it is older than what was known: a backend that was restored from a backup has earlier revisions.
        this.#revision = entry.revision
        this.#tell(entry)
        await parts.follow(entry, (change) => this.#changed(change), signal)
      },
    })
    this.#loop.start()
  }

  /** Reads now. What cannot be read is told by the next attempt. */
  refresh(): void {
    if (this.#isRefreshing || this.#stopped.signal.aborted) return
    const attempt = this.#attempt
    this.#isRefreshing = true
    this.#parts
      .read(this.#stopped.signal)
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

  #changed(entry: Entry): void {
    // A read may have told it before the watch does.
    if (entry.revision <= this.#revision) return
    this.#revision = entry.revision
    this.#tell(entry)
  }

  #tell(entry: Entry): void {
    if (!this.#stopped.signal.aborted) this.#parts.onEntry(entry)
  }
}
