/**
 * The only source of time outside the doorkeeper rooms. Handed in, so that the deterministic simulation can own it.
 *
 * `monotonicMs` orders events inside one process and measures waits; it stops while the machine is suspended.
 * `nowMs` is the wall clock, for timestamps that travel.
 */
export interface Clock {
  /** Milliseconds since the Unix epoch. */
  nowMs(): number
  /** Milliseconds since an arbitrary start; never goes back. Sub-millisecond fractions are kept. */
  monotonicMs(): number
  /** Calls `action` once after `delayMs`; the timer never keeps the process alive. */
  setTimer(delayMs: number, action: () => void): Timer
}

export interface Timer {
  cancel(): void
}

/** The clock of the operating system. */
export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  setTimer(delayMs, action) {
    const handle = setTimeout(action, delayMs)
    handle.unref()
    return { cancel: () => clearTimeout(handle) }
  },
}
