/**
 * A program of the bench in a process of its own: started, asked by name over the channel between parent and child, ended.
 *
 * Promises: a program that dies rejects what it was asked, with what it wrote to its error output; it ends when this process does.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { machineMs } from './lag.ts'

interface Reply {
  readonly id: number
  readonly value?: unknown
  readonly error?: string
}

interface Request {
  readonly id: number
  readonly verb: string
  readonly argument: unknown
}

export class ChildProgram {
  readonly #child: ChildProcess
  readonly #pending = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>()
  #nextId = 0
  #errorOutput = ''

  /** @param file in `bench/processes/` */
  constructor(file: string) {
    const program = path.join(import.meta.dirname, 'processes', file)
    this.#child = fork(program, [], { stdio: ['ignore', 'inherit', 'pipe', 'ipc'] })
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#errorOutput = (this.#errorOutput + text).slice(-4_000)
    })
    this.#child.on('message', (reply: Reply) => {
      const pending = this.#pending.get(reply.id)
      this.#pending.delete(reply.id)
      if (reply.error === undefined) pending?.resolve(reply.value)
      else pending?.reject(new Error(`${file}: ${reply.error}`))
    })
    this.#child.once('exit', (code, signal) => {
      for (const pending of this.#pending.values()) {
        pending.reject(new Error(`${file} ended with ${signal ?? code}: ${this.#errorOutput}`))
      }
      this.#pending.clear()
    })
  }

  ask<T>(verb: string, argument?: unknown): Promise<T> {
    const id = this.#nextId++
    return new Promise<T>((resolve, reject) => {
      this.#pending.set(id, { resolve, reject })
      this.#child.send({ id, verb, argument } satisfies Request)
    })
  }

  /** SIGKILL; answers when it was sent, on the machine's monotonic clock in ms. */
  async kill(): Promise<number> {
    const exit = once(this.#child, 'exit')
    const atMs = machineMs()
    this.#child.kill('SIGKILL')
    await exit
    return atMs
  }

  /** Lets the program close what it holds, then waits for its end. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const exit = once(this.#child, 'exit')
    this.#child.disconnect()
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 20_000)
    await exit
    clearTimeout(timer)
  }
}

export type Verbs = Readonly<Record<string, (argument: never) => unknown>>

/** The child's side: answers each request with what its verb returns, until the parent leaves. */
export function serveParent(verbs: Verbs, close: () => void | Promise<void>): void {
  process.on('message', (request: Request) => {
    void answer(verbs, request).then((reply) => process.connected && process.send?.(reply))
  })
  process.on('disconnect', () => {
    void Promise.resolve(close()).finally(() => process.exit(0))
  })
}

async function answer(verbs: Verbs, { id, verb, argument }: Request): Promise<Reply> {
  try {
    const run = verbs[verb]
    if (run === undefined) throw new Error(`no verb is called ${verb}`)
    return { id, value: await run(argument as never) }
  } catch (error) {
    return { id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) }
  }
}
