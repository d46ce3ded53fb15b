/**
 * Lets many callers share one flush.
 *
 * Promises: a caller's promise settles with a run of the work that began after the call, so everything the caller did
 * before is covered; at most one run at a time, and at most one more waiting behind it, however many callers there are.
 */
export class SharedFlush {
  readonly #work: () => Promise<void>
  #running: Promise<void> | undefined
  #waiting: Promise<void> | undefined

  constructor(work: () => Promise<void>) {
    this.#work = work
  }

  run(): Promise<void> {
    if (this.#waiting !== undefined) return this.#waiting
    if (this.#running === undefined) return this.#begin()
    const follow = (): Promise<void> => {
      this.#waiting = undefined
      return this.#begin()
    }
    this.#waiting = this.#running.then(follow, follow)
    return this.#waiting
  }

  /** Resolves when nothing runs or waits, whatever became of it. */
  async idle(): Promise<void> {
    for (let last = this.#last(); last !== undefined; last = this.#last()) await Promise.allSettled([last])
  }

  #begin(): Promise<void> {
    const run = this.#work().finally(() => {
      this.#running = undefined
    })
    this.#running = run
    return run
  }

  #last(): Promise<void> | undefined {
    return this.#waiting ?? this.#running
  }
}
