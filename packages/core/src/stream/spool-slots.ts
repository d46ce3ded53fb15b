/**
 * Bounds how many copies of databases are made at a time. First come, first served; the queue is as long as there are requests,
 * which have a bound of their own.
 *
 * A slot is held while the copy is made, not while it is sent: a slow replica must not keep others waiting.
 */
import type { SnapshotSpool } from './snapshot-spool.ts'

export class SpoolSlots {
  readonly #waiting: (() => void)[] = []
  #free: number

  constructor(slotsMax: number) {
    this.#free = slotsMax
  }

  /** Waits for a slot and calls `make`. Rejects with the signal's reason when it is aborted while waiting, or with the error of `make`. */
  async open<Spool extends SnapshotSpool | undefined>(signal: AbortSignal, make: () => Promise<Spool>): Promise<Spool> {
    await this.#acquire(signal)
    try {
      const spool = await make()
      const release = (): void => this.#release()
      if (spool === undefined) {
        release()
        return spool
      }
      // A copy that failed shows where it is read; here it only frees the slot.
      spool.done.then(release, release)
      return spool
    } catch (error) {
      this.#release()
      throw error
    }
  }

  #acquire(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    if (this.#free > 0) {
      this.#free--
      return Promise.resolve()
    }
    return new Promise((resolve, reject) => {
      const enter = (): void => {
        signal.removeEventListener('abort', leave)
        resolve()
      }
      const leave = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(enter), 1)
        reject(signal.reason as Error)
      }
      this.#waiting.push(enter)
      signal.addEventListener('abort', leave, { once: true })
    })
  }

  /** The slot passes straight to the next in line. */
  #release(): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#free++
    else next()
  }
}
