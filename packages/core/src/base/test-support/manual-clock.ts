/** A clock that stands still until it is told to advance. Timers run in the order they are due. */
import type { Clock, Timer } from '../clock.ts'

export class ManualClock implements Clock {
  readonly #timers = new Set<{ readonly dueMs: number; readonly action: () => void }>()
  #elapsedMs = 0
  readonly #startMs: number

  constructor(startMs = 1_700_000_000_000) {
    this.#startMs = startMs
  }

  nowMs(): number {
    return this.#startMs + this.#elapsedMs
  }

  monotonicMs(): number {
    return this.#elapsedMs
  }

  setTimer(delayMs: number, action: () => void): Timer {
    const timer = { dueMs: this.#elapsedMs + delayMs, action }
    this.#timers.add(timer)
    return { cancel: () => void this.#timers.delete(timer) }
  }

  get timerCount(): number {
    return this.#timers.size
  }

  advance(ms: number): void {
    const endMs = this.#elapsedMs + ms
    for (;;) {
      const due = [...this.#timers].filter((timer) => timer.dueMs <= endMs).sort((a, b) => a.dueMs - b.dueMs)[0]
      if (due === undefined) break
      this.#elapsedMs = Math.max(this.#elapsedMs, due.dueMs)
      this.#timers.delete(due)
      due.action()
    }
    this.#elapsedMs = endMs
  }
}
