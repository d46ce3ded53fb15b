/**
 * Notices commits of other processes: a watch on the `-wal` for speed, a slow poll for certainty.
 *
 * Events and polls do no work, they only mark; once per turn of the event loop the wal-index is asked whether there is
 * something to capture, and `onChange` is called if there is. Our own commits raise events too, and are mostly captured by
 * the time the mark is looked at, so they cost one read of 96 bytes.
 *
 * Promises: never calls after `close()`. Without a working watch (error, no inotify instance left) the poll goes on alone,
 * so a commit is noticed within `pollMs` at the latest. When looking or capturing throws, the watcher closes itself and
 * says so once: a WAL that cannot be captured is not looked at again and again.
 */
import type { Clock, Timer } from '../base/clock.ts'
import type { FileWatch, WatchFile } from '../files/file-watch.ts'

export interface WalWatcherParts {
  /** The `-wal` of the database. */
  readonly walPath: string
  /** `watchFile`, or a stand-in. */
  readonly watch: WatchFile
  readonly clock: Clock
  /** Longest time between two looks, in ms. */
  readonly pollMs: number
  /** Usually `WalCapture.hasUncaptured`. */
  hasUncaptured(): boolean
  /** Captures. Called from the event loop, at most once per turn. */
  onChange(): void
  /** Told what `hasUncaptured` or `onChange` threw; the watcher is closed by then. */
  onFailure(error: unknown): void
  /** Told once when only the poll is left. */
  onWatchLost?: ((error: unknown) => void) | undefined
}

export const WAL_WATCHER_DEFAULTS = { pollMs: 250 } as const

export class WalWatcher {
  readonly #parts: WalWatcherParts
  #watch: FileWatch | undefined
  #poll: Timer | undefined
  #look: NodeJS.Immediate | undefined
  #closed = false

  constructor(parts: WalWatcherParts) {
    this.#parts = parts
  }

  /** True while the operating system reports writes; otherwise only the poll finds them. */
  get isWatching(): boolean {
    return this.#watch !== undefined
  }

  /** Begins. A second call does nothing. */
  open(): void {
    if (this.#closed || this.#poll !== undefined) return
    try {
      this.#watch = this.#parts.watch(
        this.#parts.walPath,
        () => this.#mark(),
        (error) => this.#loseWatch(error),
      )
    } catch (error) {
      this.#loseWatch(error)
    }
    this.#schedulePoll()
    // What was committed before the watch stood raised no event.
    this.#mark()
  }

  /** Ends. Idempotent. */
  close(): void {
    this.#closed = true
    this.#watch?.close()
    this.#watch = undefined
    this.#poll?.cancel()
    if (this.#look !== undefined) clearImmediate(this.#look)
    this.#look = undefined
  }

  #mark(): void {
    if (this.#closed || this.#look !== undefined) return
    this.#look = setImmediate(() => {
      this.#look = undefined
      try {
        if (this.#parts.hasUncaptured()) this.#parts.onChange()
      } catch (error) {
        this.close()
        this.#parts.onFailure(error)
      }
    })
  }

  #schedulePoll(): void {
    this.#poll = this.#parts.clock.setTimer(this.#parts.pollMs, () => {
      if (this.#closed) return
      this.#schedulePoll()
      this.#mark()
    })
  }

  #loseWatch(error: unknown): void {
    if (this.#closed) return
    this.#watch?.close()
    this.#watch = undefined
    this.#parts.onWatchLost?.(error)
  }
}
