/** Lets clients through, or holds them back until it is opened again. */
export class Gate {
  #opened: PromiseWithResolvers<void> | undefined
  #inside = 0
  #emptied: PromiseWithResolvers<void> | undefined

  /** Runs the work when the gate is open. */
  async pass<T>(work: () => Promise<T>): Promise<T> {
    while (this.#opened !== undefined) await this.#opened.promise
    this.#inside++
    try {
      return await work()
    } finally {
      if (--this.#inside === 0) this.#emptied?.resolve()
    }
  }

  /** Nobody enters from now on; resolves when those inside have left. */
  async close(): Promise<void> {
    this.#opened ??= Promise.withResolvers()
    if (this.#inside === 0) return
    this.#emptied ??= Promise.withResolvers()
    await this.#emptied.promise
    this.#emptied = undefined
  }

  open(): void {
    this.#opened?.resolve()
    this.#opened = undefined
  }
}
