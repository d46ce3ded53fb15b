/**
 * Lets many callers share one flush.
 *
 * Promises: a caller's promise settles with a run of the work that covers everything there was at the call: the running
 * one when nothing was added since it began, else the next. At most one run at a time and at most one waiting behind it,
 * however many callers there are.
 */
export class SharedFlush {
  readonly #work: () => Promise<void>
  readonly #version: () => number
  #running: { readonly version: number; readonly promise: Promise<void> } | undefined
  #waiting: Promise<void> | undefined

  /** @param version another number whenever there is something new to flush */
  constructor(work: () => Promise<void>, version: () => number) {
    this.#work = work
    this.#version = version
  }

  run(): Promise<void> {
    if (this.#running?.version === this.#version()) return this.#running.promise
    if (this.#waiting !== undefined) return this.#waiting
    if (this.#running === undefined) return this.#begin()
    const follow = (): Promise<void> => {
      this.#waiting = undefined
      return this.#begin()
    }
    this.#waiting = this.#running.promise.then(follow, follow)
    return this.#waiting
  }

  /** Resolves when nothing runs or waits, whatever became of it. */
  async idle(): Promise<void> {
    for (let last = this.#last(); last !== undefined; last = this.#last()) await Promise.allSettled([last])
  }

  #begin(): Promise<void> {
    const version = this.#version()
    const promise = this.#work().finally(() => {
      this.#running = undefined
    })
    this.#running = { version, promise }
    return promise
  }

  #last(): Promise<void> | undefined {
    return this.#waiting ?? this.#running?.promise
  }
}
