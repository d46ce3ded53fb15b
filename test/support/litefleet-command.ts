/**
 * The command line as a process: what an operator types.
 *
 * Promises: `run` answers when the command has ended; `startNode` when the node says it serves; every process started is gone after
 * `stopAll`, by SIGKILL if it must be.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'

const BIN = path.resolve(import.meta.dirname, '../../packages/cli/src/bin.ts')
const START_TIMEOUT_MS = 30_000

export interface CommandResult {
  readonly code: number
  readonly out: string
  readonly err: string
}

export function run(...args: readonly string[]): Promise<CommandResult> {
  return new Promise((resolve) => {
    execFile(process.execPath, [BIN, ...args], { timeout: 60_000 }, (error, out, err) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1
      resolve({ code, out, err })
    })
  })
}

export interface RunningNode {
  /** The line the node printed when it was ready. */
  readonly line: string
  /** URL of the HTTP listener. */
  readonly http: string
  /** host:port */
  readonly grpc: string
  /** Sends SIGTERM and answers the exit code and everything printed. */
  stop(): Promise<CommandResult>
}

export class NodeCommands {
  readonly #children: ChildProcess[] = []

  /** `litefleet run …`; answers when it is ready, rejects with what it said when it ends instead. */
  async startNode(...args: readonly string[]): Promise<RunningNode> {
    const child = spawn(process.execPath, [BIN, 'run', ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
    this.#children.push(child)
    const printed = { out: '', err: '' }
    const exit = once(child, 'exit')
    child.stderr.setEncoding('utf8').on('data', (text: string) => (printed.err += text))
    const line = await new Promise<string>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`not ready: ${printed.out}${printed.err}`)), START_TIMEOUT_MS)
      child.once('exit', (code) => {
        clearTimeout(timer)
        reject(new Error(`ended with ${code}: ${printed.err}`))
      })
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        printed.out += text
        const end = printed.out.indexOf('\n')
        if (end < 0) return
        clearTimeout(timer)
        resolve(printed.out.slice(0, end))
      })
    })
    return {
      line,
      http: /http (http:\/\/[^,\s]+)/.exec(line)?.[1] ?? '',
      grpc: /grpc (\S+)/.exec(line)?.[1] ?? '',
      stop: async () => {
        child.kill('SIGTERM')
        const [code] = (await exit) as [number | null]
        return { code: code ?? -1, ...printed }
      },
    }
  }

  async stopAll(): Promise<void> {
    for (const child of this.#children.splice(0)) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      const exit = once(child, 'exit')
      child.kill('SIGTERM')
      const timer = setTimeout(() => child.kill('SIGKILL'), 10_000)
      await exit
      clearTimeout(timer)
    }
  }
}
