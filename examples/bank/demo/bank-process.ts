/**
 * One bank node as a process of its own, started and ended by the demo.
 *
 * Promises: `start` resolves when the node answers, or rejects with what the process wrote before it died; after `stop` the
 * process is gone, by SIGKILL if it does not leave within `GRACE_MS`. A node whose parent dies ends by itself (see node.ts).
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import type { ReadyMessage, ReportMessage, SupervisorMessage } from '../src/supervisor-messages.ts'

const PROGRAM = path.resolve(import.meta.dirname, '../node.ts')
const START_TIMEOUT_MS = 30_000
const GRACE_MS = 10_000
const ERROR_LINES_MAX = 40

export interface BankProcessOptions {
  readonly name: string
  readonly dataDir: string
  /** URL of the primary's cluster listener; `undefined` on the primary, and with an election. */
  readonly primary: string | undefined
  /** An election, and who has a vote in it. */
  readonly election?: { readonly directory: string; readonly voters: readonly string[] } | undefined
  /** Of a node that ran before: it is found where it was. */
  readonly addresses?: ReadyMessage | undefined
  onReport(report: ReportMessage): void
}

export class BankProcess {
  readonly name: string
  readonly #child: ChildProcess
  readonly #errorLines: string[] = []
  #ready: ReadyMessage | undefined

  private constructor(options: BankProcessOptions) {
    this.name = options.name
    const args = ['--name', options.name, '--data', options.dataDir]
    if (options.primary !== undefined) args.push('--primary', options.primary)
    const { election, addresses } = options
    if (election !== undefined) args.push('--host-lease', election.directory, '--voters', election.voters.join(','))
    if (addresses !== undefined) {
      const [port, grpc, http] = [addresses.url, `http://${addresses.grpc}`, addresses.http].map(
        (url) => new URL(url).port,
      )
      args.push('--port', port!, '--grpc-port', grpc!, '--http-port', http!)
    }
    this.#child = fork(PROGRAM, args, { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] })
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => this.#keepErrors(text))
    this.#child.on('message', (message: SupervisorMessage) => {
      if (message.kind === 'report') options.onReport(message)
    })
  }

  static async start(options: BankProcessOptions): Promise<BankProcess> {
    const node = new BankProcess(options)
    try {
      await node.#untilReady()
    } catch (error) {
      await node.stop()
      throw error
    }
    return node
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  get ready(): ReadyMessage {
    if (this.#ready === undefined) throw new Error(`${this.name} is not ready`)
    return this.#ready
  }

  /** Why the process is not running any more; `undefined` while it is. */
  get ended(): string | undefined {
    const { exitCode, signalCode } = this.#child
    if (exitCode === null && signalCode === null) return undefined
    return `${this.name} ended with ${signalCode ?? `code ${exitCode}`}${this.errorOutput}`
  }

  /** What the process wrote to its error output last. */
  get errorOutput(): string {
    return this.#errorLines.length === 0 ? '' : `:\n${this.#errorLines.join('\n')}`
  }

  async stop(): Promise<void> {
    if (this.ended !== undefined) return
    const exit = once(this.#child, 'exit')
    this.#child.kill('SIGTERM')
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), GRACE_MS)
    await exit
    clearTimeout(timer)
  }

  /** For the last moment of the parent, when nothing can be awaited any more. */
  killNow(): void {
    if (this.ended === undefined) this.#child.kill('SIGKILL')
  }

  async #untilReady(): Promise<void> {
    const signal = AbortSignal.timeout(START_TIMEOUT_MS)
    await new Promise<void>((resolve, reject) => {
      this.#child.once('exit', () => reject(new Error(this.ended)))
      this.#child.once('error', reject)
      signal.addEventListener('abort', () =>
        reject(new Error(`${this.name} was not ready after ${START_TIMEOUT_MS / 1000} s${this.errorOutput}`)),
      )
      this.#child.on('message', (message: SupervisorMessage) => {
        if (message.kind !== 'ready') return
        this.#ready = message
        resolve()
      })
    })
  }

  #keepErrors(text: string): void {
    this.#errorLines.push(...text.split('\n').filter((line) => line !== ''))
    this.#errorLines.splice(0, Math.max(0, this.#errorLines.length - ERROR_LINES_MAX))
  }
}
