/**
 * The handle of a node that runs in a process of its own (node-process.ts), to be killed, stopped and asked by a test.
 *
 * Promises: what is asked of a node that is gone, or goes before it answered, is refused with the outcome `unknown`; `kill` and
 * `stop` answer when the process has ended.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import type {
  ClusterWarning,
  OfficeOptions,
  Outcome,
  PromoteOptions,
  ResolvedWrite,
  ResolveOptions,
  SqlStatement,
  SqlValue,
  WriteOptions,
} from '@litefleet/core'
import { type CrashMoment, type DiskMethod, type FaultRule, GROWING, type SeenOperation } from './fault-disk.ts'
import type {
  NodeCall,
  NodeCommand,
  NodeFailure,
  NodeMessage,
  NodeReceipt,
  NodeSettings,
  NodeStatus,
} from './node-process.ts'

const PROGRAM = path.join(import.meta.dirname, 'node-process.ts')
/** Compiled sources, because starting a node is mostly reading TypeScript. Node writes it when a process ends in good order. */
const COMPILE_CACHE = path.resolve(import.meta.dirname, '../../node_modules/.cache/node-compile')
const START_TIMEOUT_MS = 60_000
const CLOSE_TIMEOUT_MS = 30_000

export type ReadyMessage = NodeMessage & { readonly kind: 'ready' }

/** What a node refused, or what became of it. */
export class NodeError extends Error {
  override readonly name = 'NodeError'
  readonly code: string | undefined
  readonly outcome: Outcome | undefined
  readonly hint: string | undefined
  readonly details: Readonly<Record<string, unknown>>

  constructor(failure: NodeFailure) {
    super(failure.message)
    this.code = failure.code
    this.outcome = failure.outcome
    this.hint = failure.hint
    this.details = failure.details
  }
}

/** Which calls of an operation a fault holds for. */
export type FaultScope = Pick<FaultRule, 'methods' | 'occurrence' | 'times' | 'forMs'>

interface PendingCall {
  resolve(value: unknown): void
  reject(error: Error): void
}

export class ProcessNode {
  readonly #child: ChildProcess
  readonly #exit: Promise<unknown>
  readonly #pending = new Map<number, PendingCall>()
  readonly #ready = Promise.withResolvers<ReadyMessage>()
  readonly #onWarning: (warning: ClusterWarning) => void
  #printed = ''
  #nextId = 1

  /**
   * @param onWarning told of every warning of the node, also before it is ready
   * @param launcher a command that runs the one behind it in another place, e.g. in a network namespace
   */
  constructor(settings: NodeSettings, onWarning: (warning: ClusterWarning) => void, launcher: readonly string[] = []) {
    this.#onWarning = onWarning
    const [execPath, ...execArgv] = [...launcher, process.execPath]
    this.#child = fork(PROGRAM, [JSON.stringify(settings)], {
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      execPath,
      execArgv,
      env: { NODE_COMPILE_CACHE: COMPILE_CACHE, ...process.env },
    })
    this.#exit = once(this.#child, 'exit')
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.#printed += text))
    this.#child.on('message', (message) => this.#receive(message as NodeMessage))
    this.#child.once('exit', () => this.#gone())
    // Somebody may kill it before anybody asks whether it is ready.
    this.#ready.promise.catch(() => undefined)
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  /** The process has not ended. */
  get isAlive(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null
  }

  /** Resolves when the process has ended, whatever ended it; answers the signal that did. */
  async gone(): Promise<NodeJS.Signals | undefined> {
    await this.#exit
    return this.#child.signalCode ?? undefined
  }

  /** What the process printed to its standard error. */
  get printed(): string {
    return this.#printed
  }

  /** Resolves when the node serves; rejects with what kept it from that. */
  async ready(): Promise<ReadyMessage> {
    const timer = setTimeout(
      () => this.#ready.reject(new Error(`the node was not ready in time: ${this.#printed}`)),
      START_TIMEOUT_MS,
    )
    try {
      return await this.#ready.promise
    } finally {
      clearTimeout(timer)
    }
  }

  batch(database: string, statements: readonly SqlStatement[], options?: WriteOptions): Promise<NodeReceipt> {
    return this.#call({ kind: 'batch', database, statements, options }) as Promise<NodeReceipt>
  }

  run(database: string, sql: string, params?: readonly SqlValue[], options?: WriteOptions): Promise<NodeReceipt> {
    return this.batch(database, [params === undefined ? { sql } : { sql, params }], options)
  }

  /** What became of a write. */
  resolve(database: string, requestId: string, options?: ResolveOptions): Promise<ResolvedWrite> {
    return this.#call({ kind: 'resolve', database, requestId, options }) as Promise<ResolvedWrite>
  }

  /** A local read; rows as arrays of values. */
  read(database: string, sql: string, params: readonly SqlValue[] = []): Promise<readonly (readonly SqlValue[])[]> {
    return this.#call({ kind: 'read', database, sql, params }) as Promise<readonly (readonly SqlValue[])[]>
  }

  promote(options?: PromoteOptions): Promise<void> {
    return this.#call({ kind: 'promote', options }) as Promise<void>
  }

  /** Answers the name of the new primary. */
  handOff(to?: string, options?: OfficeOptions): Promise<string> {
    return this.#call({ kind: 'hand-off', to, options }) as Promise<string>
  }

  status(): Promise<NodeStatus> {
    return this.#call({ kind: 'status' }) as Promise<NodeStatus>
  }

  /** One database of the status. */
  async facts(database: string): Promise<NodeStatus['databases'][number]> {
    const { databases } = await this.status()
    const found = databases.find(({ name }) => name === database)
    if (found === undefined) throw new Error(`the node has no database ${database}`)
    return found
  }

  memory(): Promise<NodeJS.MemoryUsage> {
    return this.#call({ kind: 'memory' }) as Promise<NodeJS.MemoryUsage>
  }

  addFaults(...rules: readonly FaultRule[]): Promise<void> {
    return this.#call({ kind: 'add-faults', rules }) as Promise<void>
  }

  /** The disk is whole again. */
  clearFaults(): Promise<void> {
    return this.#call({ kind: 'clear-faults' }) as Promise<void>
  }

  /** The process dies by SIGKILL in the middle of an operation that is still to come; `gone()` tells when. */
  crashAt(operation: string, scope: FaultScope & { readonly when?: CrashMoment } = {}): Promise<void> {
    const { when = 'before', ...rest } = scope
    return this.addFaults({ operation, effect: { kind: 'crash', when }, ...rest })
  }

  /** Calls of the operation fail: the next one, unless the scope says otherwise. */
  failOperation(
    operation: string,
    errno: string,
    scope: FaultScope & { readonly isShort?: boolean } = {},
  ): Promise<void> {
    const { isShort = false, ...rest } = scope
    return this.addFaults({ operation, effect: { kind: isShort ? 'short' : 'fail', errno }, ...rest })
  }

  /** What the node itself writes finds no room until `clearFaults`. SQLite's own writes do not pass there: see small-disk.ts. */
  fillDisk(methods: readonly DiskMethod[] = GROWING): Promise<void> {
    return this.failOperation('*', 'ENOSPC', { methods, times: 'always' })
  }

  /** Operations since the start, or since this was last asked for with `forget`, in the order of their first calls. */
  operations(options: { readonly forget?: boolean } = {}): Promise<readonly SeenOperation[]> {
    return this.#call({ kind: 'operations', forget: options.forget ?? false }) as Promise<readonly SeenOperation[]>
  }

  /** The wall clock jumps, and is off by this from now on. */
  skewClock(skewMs: number): Promise<void> {
    return this.#call({ kind: 'skew-clock', skewMs }) as Promise<void>
  }

  /** New connections to these addresses go elsewhere. */
  route(routes: Readonly<Record<string, string>>): Promise<void> {
    return this.#call({ kind: 'route', routes }) as Promise<void>
  }

  /** SIGKILL. Nothing is flushed, nothing is closed. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL')
    await this.#exit
  }

  /** SIGSTOP: the process stands still until `resume`. */
  pause(): void {
    this.#child.kill('SIGSTOP')
  }

  resume(): void {
    this.#child.kill('SIGCONT')
  }

  /**
   * Closes the node in good order; answers what it did with its disk since the start, or since it was last asked with `forget`.
   * Rejects when closing fails, or leaves something behind that keeps the process alive.
   */
  async stop(): Promise<readonly SeenOperation[]> {
    const operations = (await this.#call({ kind: 'close' })) as readonly SeenOperation[]
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), CLOSE_TIMEOUT_MS)
    await this.#exit
    clearTimeout(timer)
    if (this.#child.exitCode !== 0) {
      throw new Error(
        `the node did not end by itself: ${this.#child.signalCode} ${this.#child.exitCode} ${this.#printed}`,
      )
    }
    return operations
  }

  #call(command: NodeCommand): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (!this.#child.connected) return reject(gone())
      const id = this.#nextId++
      this.#pending.set(id, { resolve, reject })
      this.#child.send({ id, command } satisfies NodeCall, (error) => {
        if (error === null) return
        this.#pending.delete(id)
        reject(gone())
      })
    })
  }

  #receive(message: NodeMessage): void {
    switch (message.kind) {
      case 'ready':
        return this.#ready.resolve(message)
      case 'failed':
        return this.#ready.reject(new NodeError(message.failure))
      case 'warning':
        return this.#onWarning(message.warning)
      case 'answer':
        this.#pending.get(message.id)?.resolve(message.value)
        this.#pending.delete(message.id)
        return
      case 'refusal':
        this.#pending.get(message.id)?.reject(new NodeError(message.failure))
        this.#pending.delete(message.id)
    }
  }

  #gone(): void {
    this.#ready.reject(new Error(`the node ended before it was ready: ${this.#printed}`))
    for (const { reject } of this.#pending.values()) reject(gone())
    this.#pending.clear()
  }
}

function gone(): NodeError {
  return new NodeError({
    message: 'the process is gone',
    code: undefined,
    outcome: 'unknown',
    hint: undefined,
    details: {},
  })
}
