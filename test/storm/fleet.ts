/**
 * The nodes of a storm, to be ended and started again by several faults at once.
 *
 * Promises: what one fault does to a node as a process is finished before another one may (`exclusively`); every start, stop and wait is
 * bounded; a node that does not come up after `START_ATTEMPTS` is a finding. A node keeps its wrong clock over restarts.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { ClusterOptions, LogOptions } from '@litefleet/core'
import type { FaultRule } from '../support/fault-disk.ts'
import { ProcessCluster } from '../support/process-cluster.ts'
import type { ProcessNode } from '../support/process-node.ts'
import { until, within } from './bounded.ts'
import type { StormLog } from './storm-log.ts'
import { type LeaseKind, StormLease } from './storm-lease.ts'
import { DATABASE, STORM_SCHEMA } from './storm-schema.ts'

const START_ATTEMPTS = 5
const STOP_MS = 45_000
const ASK_MS = 30_000
const TRACK_EVERY_MS = 50
const TRACK_ASK_MS = 400

/** The lease of a node that is started: as the fleet is, a primary whatever the others are, or a replica of this one. */
export type StartAs = 'as appointed' | 'a primary' | { readonly follower: number }

export class Fleet {
  readonly cluster: ProcessCluster
  readonly #log: StormLog
  readonly #turns: Promise<unknown>[] = []
  readonly #serving = new Set<number>()
  readonly #skewsMs: number[] = []
  readonly #lease: StormLease | undefined
  #voters: readonly string[] = []
  readonly #tracking = new AbortController()
  #tracked: Promise<void> = Promise.resolve()
  /** Epoch → the process that was in office in it. */
  readonly #offices = new Map<number, string>()
  /** How often another node was found in office. */
  elections = 0
  /** Nodes that had to be started again by hand, because a database had stopped for good. */
  mended = 0

  private constructor(cluster: ProcessCluster, lease: StormLease | undefined, log: StormLog) {
    this.cluster = cluster
    this.#lease = lease
    this.#log = log
  }

  static async start(
    nodes: number,
    retention: LogOptions,
    leaseKind: LeaseKind,
    makeLog: (directory: string) => StormLog,
  ): Promise<Fleet> {
    const cluster = new ProcessCluster({ database: DATABASE, links: true, log: retention })
    try {
      const lease = await StormLease.start(leaseKind, cluster.directory)
      const fleet = new Fleet(cluster, lease, makeLog(cluster.directory))
      if (lease === undefined) for (let index = 0; index < nodes; index++) await fleet.start(index)
      else await fleet.#found(nodes)
      await cluster.primary.batch(DATABASE, STORM_SCHEMA, { await: 'all', timeoutMs: 60_000 })
      await cluster.settle(...fleet.replicas)
      return fleet
    } catch (error) {
      await cluster.close()
      throw error
    }
  }

  /** Nobody takes office before a majority is there: all start at once. */
  async #found(nodes: number): Promise<void> {
    const indexes = Array.from({ length: nodes }, (_, index) => index)
    this.#voters = indexes.map((index) => `node-${index}`)
    await this.cluster.connect(indexes)
    await Promise.all(indexes.map((index) => this.start(index)))
    await this.elected()
  }

  get lease(): StormLease | undefined {
    return this.#lease
  }

  /** Until one is in office. */
  elected(): Promise<number> {
    return this.cluster.elected()
  }

  /**
   * Follows the elections: whoever is in office is the primary for everybody here.
   * @param changed told when it is another one than before
   */
  track(changed: () => void): void {
    this.#tracked = this.#lease === undefined ? Promise.resolve() : this.#track(changed)
  }

  async stopTracking(): Promise<void> {
    this.#tracking.abort()
    await this.#tracked
  }

  async #track(changed: () => void): Promise<void> {
    while (!this.#tracking.signal.aborted) {
      await Promise.all(this.indexes.map((index) => this.#lookAt(index, changed)))
      await sleep(TRACK_EVERY_MS)
    }
  }

  /** At most one node is in office in an epoch, ever. */
  async #lookAt(index: number, changed: () => void): Promise<void> {
    const node = this.serving(index)
    if (node === undefined) return
    const status = await within(TRACK_ASK_MS, `the role of node ${index}`, node.status()).catch(() => undefined)
    if (status === undefined || status.term === 0) return
    const who = `node ${index} (process ${node.pid})`
    const known = this.#offices.get(status.term)
    if (known !== undefined && known !== who)
      this.#log.finding(`in epoch ${status.term} both ${known} and ${who} were in office`)
    if (known !== undefined) return
    this.#offices.set(status.term, who)
    if (status.term < Math.max(...this.#offices.keys())) return // it does not know yet
    this.elections++
    this.#log.line(`${who} is in office in epoch ${status.term}`)
    this.cluster.appointPrimary(index)
    changed()
  }

  get size(): number {
    return this.cluster.indexes.length
  }

  get indexes(): readonly number[] {
    return this.cluster.indexes
  }

  get log(): StormLog {
    return this.#log
  }

  get replicas(): readonly number[] {
    return this.indexes.filter((index) => index !== this.cluster.primaryIndex)
  }

  get primaryIndex(): number {
    return this.cluster.primaryIndex
  }

  /** The process of a node, when it lives and has been ready. */
  serving(index: number): ProcessNode | undefined {
    if (!this.#serving.has(index)) return undefined
    const node = this.cluster.node(index)
    return node.isAlive ? node : undefined
  }

  /** How often a node gave up its history, over its restarts. */
  divergedOf(index: number): number {
    return this.cluster.warnings.filter(
      ({ node, name }) => node === index && (name === 'diverged' || name === 'seeded-again'),
    ).length
  }

  /** Nobody else ends or starts these nodes meanwhile. */
  async exclusively<T>(indexes: readonly number[], work: () => Promise<T>): Promise<T> {
    const before = Promise.all(indexes.map((index) => this.#turns[index] ?? Promise.resolve()))
    const done = before.then(work)
    const settled = done.catch(() => undefined)
    for (const index of indexes) this.#turns[index] = settled
    return done
  }

  async kill(index: number): Promise<void> {
    this.#serving.delete(index)
    await this.cluster.node(index).kill()
  }

  /** In good order; what does not end so is killed. */
  async stop(index: number): Promise<void> {
    const node = this.cluster.node(index)
    this.#serving.delete(index)
    try {
      if (node.isAlive) await within(STOP_MS, `the stop of node ${index}`, node.stop())
    } catch (error) {
      this.#log.line(`node ${index} did not stop in good order: ${messageOf(error)}`)
    }
    await node.kill()
  }

  /** Until it serves. Throws when it does not after several attempts. */
  async start(index: number, as: StartAs = 'as appointed'): Promise<ProcessNode> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#tryStart(index, as, [])
      } catch (error) {
        this.#log.line(`node ${index} did not start: ${messageOf(error).slice(0, 400)}`)
        if (attempt < START_ATTEMPTS) continue
        throw new Error(`node ${index} does not start: ${messageOf(error)}`, { cause: error })
      }
    }
  }

  /** One attempt on a disk with faults; whether it serves. Then the disk is whole again. */
  async startDespite(index: number, faults: readonly FaultRule[]): Promise<boolean> {
    try {
      const node = await this.#tryStart(index, 'as appointed', faults)
      await node.clearFaults()
      return node.isAlive
    } catch {
      await this.kill(index)
      return false
    }
  }

  async #tryStart(index: number, as: StartAs, faults: readonly FaultRule[]): Promise<ProcessNode> {
    try {
      const routes = await this.#lease?.routesOf(index)
      const troubles = { skewMs: this.#skewsMs[index], faults, routes }
      const node = await this.cluster.startNode(index, this.#options(as), troubles)
      this.#serving.add(index)
      return node
    } catch (error) {
      await this.cluster.node(index).kill()
      throw error
    }
  }

  async skew(index: number, skewMs: number): Promise<void> {
    this.#skewsMs[index] = skewMs
    await this.serving(index)?.skewClock(skewMs)
  }

  /** The state of a node's database, `gone` when it cannot be asked. */
  async stateOf(index: number): Promise<string> {
    const node = this.serving(index)
    if (node === undefined) return 'gone'
    try {
      return (await within(ASK_MS, `the status of node ${index}`, node.facts(DATABASE))).state
    } catch {
      return 'gone'
    }
  }

  /** TXID and checksum of a node, empty when it cannot be asked. */
  async standOf(index: number): Promise<string> {
    const node = this.serving(index)
    try {
      if (node === undefined) return ''
      const { position } = await within(ASK_MS, `the status of node ${index}`, node.facts(DATABASE))
      return `${position.txid}/${position.checksum}`
    } catch {
      return ''
    }
  }

  /** Whether these nodes came to where the primary is, in time. */
  settle(indexes: readonly number[], ms: number): Promise<boolean> {
    return until(ms, async () => {
      const stands = await Promise.all([this.primaryIndex, ...indexes].map((index) => this.standOf(index)))
      return stands[0] !== '' && stands.every((stand) => stand === stands[0])
    })
  }

  /** Starts nodes again that a failed fault left behind, and those whose database stopped and did not come back by itself. */
  async mend(index: number, stoppedSinceMs: number): Promise<void> {
    await this.exclusively([index], async () => {
      const state = await this.stateOf(index)
      if (state !== 'stopped' && state !== 'gone') return
      this.mended++
      this.#log.line(`node ${index} is ${state} since ${Math.round(stoppedSinceMs)} ms: started again by hand`)
      await this.stop(index)
      await this.start(index)
    })
  }

  #options(as: StartAs): Partial<ClusterOptions> {
    if (this.#lease !== undefined) return { lease: this.#lease.options, voters: this.#voters }
    if (as === 'as appointed') return {}
    if (as === 'a primary') return { lease: { kind: 'static', primary: true } }
    return { lease: { kind: 'static', primary: { url: this.cluster.urlOf(as.follower) } } }
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
