/**
 * One supervised loop: runs a task again and again until it is stopped, waits between failures, dies with its signal.
 *
 * Relies on: the task honours the `AbortSignal` it is given.
 * Promises: at most one run of the task at a time; after `stop()` resolves the task is not running and never runs again;
 * waits grow from `minDelayMs` to `maxDelayMs` (doubling, with jitter) and fall back to the minimum once the task called `progress()`.
 */
import type { Clock } from './clock.ts'

export interface RunLoopOptions {
  readonly clock: Clock
  /** First wait after a failure, in milliseconds. */
  readonly minDelayMs: number
  /** Longest wait between two runs, in milliseconds. */
  readonly maxDelayMs: number
  /** One turn of the loop. Resolving means "run again after the minimum delay"; rejecting means "back off". */
  task(signal: AbortSignal, progress: () => void): Promise<void>
  /** Told of every failure, with the wait that follows. */
  onFailure?: ((error: unknown, delayMs: number) => void) | undefined
  /** Source of jitter in [0, 1). */
  random(): number
}

export class RunLoop {
  readonly #options: RunLoopOptions
  readonly #abort = new AbortController()
  #running: Promise<void> | undefined
  #wake: (() => void) | undefined

  constructor(options: RunLoopOptions) {
    this.#options = options
  }

  /** Starts the loop; a second call does nothing. */
  start(): void {
    this.#running ??= this.#run()
  }

  /** Ends a wait between two runs at once. */
  wake(): void {
    this.#wake?.()
  }

  /** Aborts the task and waits for it. Idempotent. */
  async stop(): Promise<void> {
    this.#abort.abort()
    this.wake()
    await this.#running
  }

  async #run(): Promise<void> {
    const { minDelayMs, maxDelayMs, onFailure, random } = this.#options
    const signal = this.#abort.signal
    let delayMs = minDelayMs
    while (!signal.aborted) {
      try {
        await this.#options.task(signal, () => {
          delayMs = minDelayMs
        })
        delayMs = minDelayMs
      } catch (error) {
        if (signal.aborted) return
        onFailure?.(error, delayMs)
      }
      if (signal.aborted) return
      await this.#sleep(delayMs * (0.5 + random() / 2))
      delayMs = Math.min(delayMs * 2, maxDelayMs)
    }
  }

  #sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        timer.cancel()
        this.#wake = undefined
        resolve()
      }
      const timer = this.#options.clock.setTimer(delayMs, done)
      this.#wake = done
    })
  }
}
