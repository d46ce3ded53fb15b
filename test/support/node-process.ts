/**
 * A node in a process of its own: `node node-process.ts <JSON of NodeSettings>`, with an IPC channel of advanced serialization.
 *
 * It opens a cluster and its databases, says `ready` (or `failed`, and ends), then carries out commands, any number at a time.
 * Its disk fails where it is told (fault-disk.ts), its wall clock may be wrong, and its connections go where its routes lead.
 * Warnings are passed on as they come. It ends with `close`, by a signal, or when the process that started it is gone.
 */
import {
  type AwaitLevel,
  type Cluster,
  type ClusterOptions,
  type ClusterWarning,
  type Database,
  isClusterError,
  type NodeStatus,
  type OfficeOptions,
  type Outcome,
  type Position,
  type PromoteOptions,
  type ResolveOptions,
  type SqlStatement,
  type SqlValue,
  type WriteOptions,
} from '@litefleet/core'
import { openClusterIn } from '../../packages/core/src/cluster.ts'
import { realDisk } from '../../packages/core/src/files/disk.ts'
import { FaultDisk, type FaultRule, type SeenOperation } from './fault-disk.ts'
import { SkewedClock } from './skewed-clock.ts'

/** What is wrong with the machine of a node from its start on. */
export interface NodeTroubles {
  readonly faults?: readonly FaultRule[] | undefined
  /** How far the wall clock is off. */
  readonly skewMs?: number | undefined
  /** Address → where to connect instead, both `host:port`. */
  readonly routes?: Readonly<Record<string, string>> | undefined
}

export interface NodeSettings extends NodeTroubles {
  readonly options: Omit<ClusterOptions, 'onWarning' | 'setup'>
  /** Opened before the node is ready. */
  readonly databases: readonly string[]
}

export type NodeCommand =
  | {
      readonly kind: 'batch'
      readonly database: string
      readonly statements: readonly SqlStatement[]
      readonly options: WriteOptions | undefined
    }
  | {
      readonly kind: 'resolve'
      readonly database: string
      readonly requestId: string
      readonly options: ResolveOptions | undefined
    }
  /** All rows of a read, as arrays of values. */
  | { readonly kind: 'read'; readonly database: string; readonly sql: string; readonly params: readonly SqlValue[] }
  | { readonly kind: 'promote'; readonly options: PromoteOptions | undefined }
  /** Answers the name of the new primary. */
  | { readonly kind: 'hand-off'; readonly to: string | undefined; readonly options: OfficeOptions | undefined }
  | { readonly kind: 'status' }
  | { readonly kind: 'memory' }
  | { readonly kind: 'add-faults'; readonly rules: readonly FaultRule[] }
  | { readonly kind: 'clear-faults' }
  | { readonly kind: 'operations'; readonly forget: boolean }
  | { readonly kind: 'skew-clock'; readonly skewMs: number }
  /** Adds to the routes, or replaces those to the same addresses. */
  | { readonly kind: 'route'; readonly routes: Readonly<Record<string, string>> }
  /** Answers all operations since the start or the last `operations` that forgot. */
  | { readonly kind: 'close' }

export interface NodeCall {
  readonly id: number
  readonly command: NodeCommand
}

/** An error of the node, as far as it can be told to another process. */
export interface NodeFailure {
  readonly message: string
  readonly code: string | undefined
  /** What became of the write; `undefined` for errors of SQLite. */
  readonly outcome: Outcome | undefined
  readonly hint: string | undefined
  readonly details: Readonly<Record<string, unknown>>
}

export type NodeMessage =
  | {
      readonly kind: 'ready'
      readonly addresses: Cluster['addresses']
      readonly clusterId: string | undefined
      /** Threads started until now. A database of more than a few MiB is hashed in threads. */
      readonly threads: number
    }
  | { readonly kind: 'failed'; readonly failure: NodeFailure }
  | { readonly kind: 'warning'; readonly warning: ClusterWarning }
  | { readonly kind: 'answer'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'refusal'; readonly id: number; readonly failure: NodeFailure }

export interface NodeReceipt {
  readonly position: Position
  readonly replayed: boolean
  readonly level: AwaitLevel
}

export type { NodeStatus, SeenOperation }

let threads = 0
process.on('worker', () => threads++)
// Nobody is left to end this process, or to clean up behind it.
const exitWithParent = (): never => process.exit(1)
process.on('disconnect', exitWithParent)

const settings = JSON.parse(process.argv[2] ?? '') as NodeSettings
const faultDisk = new FaultDisk(realDisk)
for (const rule of settings.faults ?? []) faultDisk.addRule(rule)
const skewedClock = new SkewedClock(settings.skewMs ?? 0)
const routes = new Map(Object.entries(settings.routes ?? {}))

function send(message: NodeMessage): void {
  process.send?.(message)
}

/** The process ends when nothing of the node is left in it. */
function sendLast(message: NodeMessage): void {
  process.off('disconnect', exitWithParent)
  process.send?.(message, () => process.disconnect())
}

function failureOf(error: unknown): NodeFailure {
  if (isClusterError(error)) {
    const { message, code, outcome, hint } = error
    return { message, code, outcome, hint, details: plain(error.details) }
  }
  const { message, code } = error as { message?: string; code?: string }
  return { message: message ?? String(error), code, outcome: undefined, hint: undefined, details: {} }
}

/** Only what survives the channel. */
function plain(details: Readonly<Record<string, unknown>>): Record<string, unknown> {
  try {
    return structuredClone(details)
  } catch {
    return { unreadable: Object.keys(details).join(', ') }
  }
}

class Commands {
  readonly #cluster: Cluster
  readonly #databases: ReadonlyMap<string, Database>

  constructor(cluster: Cluster, databases: ReadonlyMap<string, Database>) {
    this.#cluster = cluster
    this.#databases = databases
  }

  async carryOut(command: NodeCommand): Promise<unknown> {
    switch (command.kind) {
      case 'batch': {
        const answer = await this.#database(command.database).batch(command.statements, command.options)
        return { position: answer.position, replayed: answer.replayed, level: answer.level } satisfies NodeReceipt
      }
      case 'resolve':
        return this.#database(command.database).resolve(command.requestId, command.options)
      case 'read': {
        const statement = this.#database(command.database).prepare(command.sql).raw()
        return statement.all(...command.params)
      }
      case 'promote':
        return this.#cluster.promote(command.options)
      case 'hand-off':
        return this.#cluster.handOff(command.to, command.options)
      case 'status':
        return this.#cluster.status()
      case 'memory':
        return process.memoryUsage()
      case 'add-faults':
        for (const rule of command.rules) faultDisk.addRule(rule)
        return undefined
      case 'clear-faults':
        return faultDisk.clearRules()
      case 'operations':
        return faultDisk.seen(command.forget)
      case 'skew-clock':
        skewedClock.skewMs = command.skewMs
        return undefined
      case 'route':
        for (const [address, to] of Object.entries(command.routes)) routes.set(address, to)
        return undefined
      default:
        await this.#cluster.close()
        return faultDisk.seen(true)
    }
  }

  #database(name: string): Database {
    const database = this.#databases.get(name)
    if (database === undefined) throw new Error(`database ${name} is not open in this process`)
    return database
  }
}

async function serve(): Promise<void> {
  const environment = {
    clock: skewedClock.clock,
    disk: faultDisk.disk,
    route: (address: string) => routes.get(address) ?? address,
  }
  const cluster = await openClusterIn(environment, {
    ...settings.options,
    onWarning: ({ name, message, details }) =>
      send({ kind: 'warning', warning: { name, message, details: plain(details) } }),
  })
  const databases = new Map<string, Database>()
  for (const name of settings.databases) databases.set(name, await cluster.database(name))
  const commands = new Commands(cluster, databases)
  process.on('message', ({ id, command }: NodeCall) => {
    commands.carryOut(command).then(
      (value) => {
        if (command.kind === 'close') sendLast({ kind: 'answer', id, value })
        else send({ kind: 'answer', id, value })
      },
      (error: unknown) => send({ kind: 'refusal', id, failure: failureOf(error) }),
    )
  })
  send({ kind: 'ready', addresses: cluster.addresses, clusterId: cluster.clusterId, threads })
}

try {
  await serve()
} catch (error) {
  process.exitCode = 1
  sendLast({ kind: 'failed', failure: failureOf(error) })
}
