/** A `sqlite3` shell that stays open, so that it can sit in a transaction; on any file, that of a mount too. One answer of one line at a time. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface, type Interface } from 'node:readline'

export class ShellSession implements AsyncDisposable {
  readonly #child: ChildProcess
  readonly #lines: Interface

  constructor(file: string) {
    this.#child = spawn('sqlite3', ['-batch', file], { stdio: ['pipe', 'pipe', 'inherit'] })
    this.#lines = createInterface({ input: this.#child.stdout! })
  }

  /** Runs statements that print nothing. */
  send(sql: string): void {
    this.#child.stdin!.write(`${sql};\n`)
  }

  /** Runs a statement that prints one line, and answers it. */
  async ask(sql: string): Promise<string> {
    const answer = once(this.#lines, 'line') as Promise<[string]>
    this.send(sql)
    const [line] = await answer
    return line
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const exit = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await exit
  }
}
