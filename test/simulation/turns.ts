/**
 * Lets the code under test do everything it can do before time goes on.
 *
 * Between two timers it works in microtasks, `nextTick` and `setImmediate`; the first two are drained by the event loop
 * before its next turn, the third is counted here. When a turn ends and none is due, nothing is left but to wait.
 * Relies on: no real timer, file or socket is used meanwhile; then the order of all this is the same in every run.
 * Bound: `turnsMax` turns; a loop that never waits is a violation.
 */
export class Turns {
  #due = 0
  #realSetImmediate: typeof setImmediate | undefined
  turnCount = 0

  /** From here on immediates are counted, those of anybody in this thread. */
  install(): void {
    const real = globalThis.setImmediate
    this.#realSetImmediate = real
    const counted = (action: (...args: unknown[]) => void, ...args: unknown[]): unknown => {
      this.#due++
      return real(() => {
        this.#due--
        action(...args)
      })
    }
    Object.defineProperty(globalThis, 'setImmediate', { value: counted, configurable: true, writable: true })
  }

  uninstall(): void {
    if (this.#realSetImmediate !== undefined) globalThis.setImmediate = this.#realSetImmediate
    this.#realSetImmediate = undefined
  }

  /** Resolves when nothing is left to do in this moment. */
  async settle(turnsMax = 100_000): Promise<void> {
    const real = this.#realSetImmediate ?? setImmediate
    for (let turns = 0; turns < turnsMax; turns++) {
      this.turnCount++
      await new Promise<void>((resolve) => void real(resolve))
      if (this.#due === 0) return
    }
    throw new Error(`the node still works after ${turnsMax} turns of the event loop without any time passing`)
  }
}
