/** The handle of a process that reads a book (book-reader.ts) from a replica's file. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import type { ReaderAnswer, ReaderQuestion, ReaderReport } from './book-reader.ts'

const PROGRAM = path.join(import.meta.dirname, 'book-reader.ts')

export class ReaderProcess implements AsyncDisposable {
  readonly #child: ChildProcess
  readonly #pending = new Map<number, (answer: ReaderAnswer) => void>()
  readonly #exit: Promise<unknown>
  #nextId = 1

  private constructor(file: string, pauseMs: number) {
    this.#child = fork(PROGRAM, [file, String(pauseMs)], { execArgv: [] })
    this.#exit = once(this.#child, 'exit')
    this.#child.on('message', (message) => {
      const answer = message as ReaderAnswer
      this.#pending.get(answer.id)?.(answer)
      this.#pending.delete(answer.id)
    })
  }

  /** Resolves once it has read for the first time. */
  static async start(file: string, pauseMs: number): Promise<ReaderProcess> {
    const reader = new ReaderProcess(file, pauseMs)
    await reader.read()
    return reader
  }

  /** The version that a read sees which begins after this call. */
  async read(): Promise<number> {
    return (await this.#ask('read')).version
  }

  /** Begins a read transaction and stays in it; answers its version. */
  async hold(): Promise<number> {
    return (await this.#ask('hold')).version
  }

  /** Ends it, after a last look at what it sees; answers the version a new read sees then. */
  async release(): Promise<number> {
    return (await this.#ask('release')).version
  }

  /** Ends the process. */
  async stop(): Promise<ReaderReport> {
    const { report } = await this.#ask('stop')
    await this.#exit
    return report
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill('SIGKILL')
    await this.#exit
  }

  #ask(kind: ReaderQuestion['kind']): Promise<ReaderAnswer> {
    const answer = new Promise<ReaderAnswer>((resolve, reject) => {
      const id = this.#nextId++
      this.#pending.set(id, resolve)
      this.#child.once('exit', () => reject(new Error('the reader is gone')))
      this.#child.send({ id, kind } satisfies ReaderQuestion)
    })
    return answer
  }
}
