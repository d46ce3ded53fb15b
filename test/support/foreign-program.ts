/** Other programs on a database file, as processes: plain better-sqlite3, which knows nothing of a cluster. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import type { LoopMessage } from './foreign-loop.ts'

function start(program: string, args: readonly string[]): ChildProcess {
  return fork(path.join(import.meta.dirname, program), args, { execArgv: [] })
}

/** Commits each statement, then dies by SIGKILL: the WAL keeps the commits, and nobody tidied up. */
export async function commitAndDie(file: string, statements: readonly string[]): Promise<void> {
  const child = start('foreign-commits.ts', [file, JSON.stringify(statements)])
  const [code, signal] = (await once(child, 'exit')) as [number | null, string | null]
  if (signal !== 'SIGKILL') throw new Error(`the other program ended with ${code ?? signal}`)
}

/** A program that runs one statement again and again until it is stopped. */
export class ForeignLoop implements AsyncDisposable {
  readonly #child: ChildProcess
  readonly #exit: Promise<unknown>

  private constructor(child: ChildProcess) {
    this.#child = child
    this.#exit = once(child, 'exit')
  }

  /** Resolves after the first turn. */
  static async start(file: string, sql: string, pauseMs: number): Promise<ForeignLoop> {
    const child = start('foreign-loop.ts', [file, sql, String(pauseMs)])
    const loop = new ForeignLoop(child)
    await once(child, 'message')
    return loop
  }

  /** Ends the program; answers how many turns it committed. */
  async stop(): Promise<number> {
    const answer = once(this.#child, 'message') as Promise<[LoopMessage]>
    this.#child.send('stop')
    const [message] = await answer
    await this.#exit
    return typeof message === 'string' ? 0 : message.committed
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill('SIGKILL')
    await this.#exit
  }
}
