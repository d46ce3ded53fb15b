/**
 * What nobody caught: an error thrown to the event loop, a rejection without a handler. Either ends a real process.
 *
 * The death of a simulated process is an exception on purpose and may surface anywhere; it is no finding. Other listeners
 * (those of a test runner) are set aside meanwhile, because they would take that for a failure.
 */
import { Violation } from './violation.ts'

type Listener = (...args: unknown[]) => void

export class Uncaught {
  #found: Violation[] = []
  #others: Listener[] = []
  readonly #onRejection = (reason: unknown): void => this.#add(reason, 'a rejection that nobody handles')

  install(): void {
    this.#others = process.rawListeners('unhandledRejection') as Listener[]
    process.removeAllListeners('unhandledRejection')
    process.on('unhandledRejection', this.#onRejection)
    process.setUncaughtExceptionCaptureCallback((error) => this.#add(error, 'an error that nobody catches'))
  }

  uninstall(): void {
    process.setUncaughtExceptionCaptureCallback(null)
    process.off('unhandledRejection', this.#onRejection)
    for (const other of this.#others) process.on('unhandledRejection', other)
  }

  /** Does something that stands for the event loop: what it throws, nobody caught. */
  guard(action: () => void): void {
    try {
      action()
    } catch (error) {
      this.#add(error, 'an error that nobody catches')
    }
  }

  take(): readonly Violation[] {
    const found = this.#found
    this.#found = []
    return found
  }

  #add(error: unknown, what: string): void {
    if (error instanceof Error && error.name === 'SimulatedCrash') return
    if (error instanceof Violation) this.#found.push(error)
    else this.#found.push(new Violation('uncaught', `${what}: ${error instanceof Error ? error.stack : String(error)}`))
  }
}
