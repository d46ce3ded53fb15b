/**
 * Nodes as processes, each with a data directory of its own under the system's temporary directory. Node 0 is the primary until
 * `movePrimary` says otherwise.
 *
 * Promises: a node that is started again finds what it left on disk, and its addresses, whatever ended it; after
 * `close` no process and no file is left. Warnings of all nodes are kept, over their restarts. With `links`, each node reaches each other
 * one through a link of its own (link.ts), also after restarts.
 */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  type ClusterOptions,
  type ClusterWarning,
  formatPosition,
  type LogOptions,
  type Position,
} from '@litefleet/core'
import { expect } from 'vitest'
import { type Damage, damage } from './damage.ts'
import { freePort } from './free-port.ts'
import { differingPages, imageOf, integrityOf } from './images.ts'
import { Link, type NodePorts } from './link.ts'
import type { NodeTroubles } from './node-process.ts'
import { ProcessNode } from './process-node.ts'

const SETTLE_TIMEOUT_MS = 30_000
const ELECTION_TIMEOUT_MS = 60_000
/** On an address that nobody else uses. */
const HTTP_PORT = 4200
const GRPC_PORT = 4201

/** Where a node runs, when it is not an ordinary process on loopback. */
export interface NodePlace {
  /** Of a small file system (small-disk.ts). */
  readonly dataDir?: string | undefined
  /** Of a network namespace (namespaces.ts); the ports there are free. */
  readonly host?: string | undefined
  readonly launcher?: readonly string[] | undefined
}

export interface ProcessClusterOptions {
  /** Opened on every node. */
  readonly database: string
  /** Opened as well. */
  readonly moreDatabases?: readonly string[] | undefined
  /** Of all nodes, or of each. */
  readonly log?: LogOptions | ((index: number) => LogOptions) | undefined
  readonly clusterKey?: string | undefined
  /** A link for each directed pair of nodes. */
  readonly links?: boolean | undefined
  readonly places?: readonly (NodePlace | undefined)[] | undefined
}

/** A file of a node, or a kind of file of which the newest one is meant. */
export type NodeFile =
  | 'database'
  | 'wal'
  | 'segment'
  | 'epochs'
  | 'state'
  | 'epoch'
  | 'clusterid'
  | { readonly path: string }

export type NodeWarning = ClusterWarning & { readonly node: number }

export class ProcessCluster implements AsyncDisposable {
  readonly directory: string
  readonly warnings: NodeWarning[] = []
  readonly database: string
  readonly #options: ProcessClusterOptions
  readonly #nodes = new Map<number, ProcessNode>()
  readonly #all = new Set<ProcessNode>()
  readonly #ports = new Map<number, NodePorts>()
  /** `from>to` */
  readonly #links = new Map<string, Link>()
  #primaryIndex = 0

  constructor(options: ProcessClusterOptions) {
    this.#options = options
    this.database = options.database
    this.directory = mkdtempSync(path.join(tmpdir(), 'litefleet-processes-'))
  }

  /** Starts the primary and replicas, one after another. */
  static async start(nodes: number, options: ProcessClusterOptions): Promise<ProcessCluster> {
    const cluster = new ProcessCluster(options)
    try {
      for (let index = 0; index < nodes; index++) await cluster.startNode(index)
      return cluster
    } catch (error) {
      await cluster.close()
      throw error
    }
  }

  dataDirOf(index: number): string {
    return this.#options.places?.[index]?.dataDir ?? path.join(this.directory, `node-${index}`)
  }

  directoryOf(index: number): string {
    return path.join(this.dataDirOf(index), 'main', 'dbs', this.database)
  }

  fileOf(index: number): string {
    return path.join(this.directoryOf(index), 'database')
  }

  /** Of the node that is the primary for whoever is started from now on. */
  get primaryUrl(): string {
    return this.urlOf(this.#primaryIndex)
  }

  /** Of a node that was started before. */
  urlOf(index: number): string {
    const ports = this.#ports.get(index)
    if (ports === undefined) throw new Error(`node ${index} was never started`)
    return `http://${ports.host}:${ports.http}`
  }

  /** The newest process of a node, whether it lives or not. */
  node(index: number): ProcessNode {
    const node = this.#nodes.get(index)
    if (node === undefined) throw new Error(`node ${index} was never started`)
    return node
  }

  /** Of all nodes that were ever started. */
  get indexes(): readonly number[] {
    return [...this.#nodes.keys()].toSorted((a, b) => a - b)
  }

  get primary(): ProcessNode {
    return this.node(this.#primaryIndex)
  }

  get primaryIndex(): number {
    return this.#primaryIndex
  }

  /** The way on which node `from` reaches node `to`; both were started before. */
  link(from: number, to: number): Link {
    const link = this.#links.get(`${from}>${to}`)
    if (link === undefined) throw new Error(`there is no link from node ${from} to node ${to}`)
    return link
  }

  /** Every link from or to a node. */
  linksOf(index: number): readonly Link[] {
    return [...this.#links].filter(([pair]) => pair.split('>').includes(String(index))).map(([, link]) => link)
  }

  /** Starts a node, or starts it again, and waits until it serves. */
  async startNode(
    index: number,
    options: Partial<ClusterOptions> = {},
    troubles: NodeTroubles = {},
  ): Promise<ProcessNode> {
    await this.#connect(index)
    const node = this.spawnNode(index, options, troubles)
    await node.ready()
    return node
  }

  /** Gives nodes that start at once their ports and links. */
  async connect(indexes: readonly number[]): Promise<void> {
    for (const index of indexes) await this.#connect(index)
  }

  /** Starts several nodes at once, which may need each other to serve, and waits until all do. */
  async startNodes(indexes: readonly number[], options: Partial<ClusterOptions> = {}): Promise<void> {
    await this.connect(indexes)
    const nodes = indexes.map((index) => this.spawnNode(index, options))
    await Promise.all(nodes.map((node) => node.ready()))
  }

  /** Starts a node that was started before, or the second and further ones without links, and does not wait for it. */
  spawnNode(index: number, options: Partial<ClusterOptions> = {}, troubles: NodeTroubles = {}): ProcessNode {
    const place = this.#options.places?.[index]
    const { log, clusterKey } = this.#options
    const ports = this.#ports.get(index)
    const settings = {
      options: {
        dataDir: this.dataDirOf(index),
        node: { name: `node-${index}` },
        lease: {
          kind: 'static' as const,
          primary: index === this.#primaryIndex ? (true as const) : { url: this.primaryUrl },
        },
        listen: ports === undefined ? {} : { host: ports.host, httpPort: ports.http, grpcPort: ports.grpc },
        ...(log === undefined ? {} : { log: typeof log === 'function' ? log(index) : log }),
        ...(clusterKey === undefined ? {} : { clusterKey }),
        ...options,
      },
      databases: [this.database, ...(this.#options.moreDatabases ?? [])],
      ...troubles,
      routes: { ...this.#routesOf(index), ...troubles.routes },
    }
    const onWarning = (warning: ClusterWarning): void => void this.warnings.push({ ...warning, node: index })
    const node = new ProcessNode(settings, onWarning, place?.launcher)
    this.#nodes.set(index, node)
    this.#all.add(node)
    return node
  }

  /**
   * Another node is the primary from now on, for everybody who is started again: those that live, one after another, the new primary
   * first. Who is excepted goes on as it was and knows nothing of it, an old primary too.
   */
  async movePrimary(
    to: number,
    options: { readonly end?: 'stop' | 'kill'; readonly except?: readonly number[] } = {},
  ): Promise<void> {
    const { end = 'stop', except = [] } = options
    const restarted = this.indexes.filter((index) => !except.includes(index) && this.node(index).isAlive)
    await Promise.all(restarted.map((index) => (end === 'stop' ? this.node(index).stop() : this.node(index).kill())))
    this.appointPrimary(to)
    await this.startNode(to)
    for (const index of restarted) if (index !== to) await this.startNode(index)
  }

  /** Another node is the primary for whoever is started from now on; those that run are not told. */
  appointPrimary(index: number): void {
    this.#primaryIndex = index
  }

  /** Waits until one of these nodes is in office by an election, and appoints it. Fails when two are. */
  async elected(among: readonly number[] = this.indexes): Promise<number> {
    const deadlineMs = performance.now() + ELECTION_TIMEOUT_MS
    for (;;) {
      const alive = among.filter((index) => this.node(index).isAlive)
      const roles = await Promise.all(alive.map(async (index) => (await this.node(index).status()).role))
      const primaries = alive.filter((_index, i) => roles[i] === 'primary')
      expect(primaries.length).toBeLessThan(2)
      if (primaries[0] !== undefined) {
        this.appointPrimary(primaries[0])
        return primaries[0]
      }
      if (performance.now() > deadlineMs) {
        const warnings = this.warningsOf('leadership').map(({ node, message }) => `node ${node}: ${message}`)
        throw new Error(`nobody took office: ${roles.join(', ')}\n${warnings.slice(-5).join('\n')}`)
      }
      await sleep(20)
    }
  }

  /** Starts a node as a primary, though another one is: by mistake, or because nobody told it. */
  startStalePrimary(index: number): Promise<ProcessNode> {
    return this.startNode(index, { lease: { kind: 'static', primary: true } })
  }

  /** Damages a file of a node that does not run; answers which one. */
  corrupt(index: number, file: NodeFile, how: Damage): string {
    const found = this.pathOf(index, file)
    damage(found, how)
    return found
  }

  /** The newest one where there are several. */
  pathOf(index: number, file: NodeFile): string {
    if (typeof file === 'object') return path.join(this.dataDirOf(index), file.path)
    const directory = this.directoryOf(index)
    switch (file) {
      case 'database':
        return this.fileOf(index)
      case 'wal':
        return `${this.fileOf(index)}-wal`
      case 'segment':
        return this.segmentsOf(index).at(-1) ?? path.join(directory, 'log', 'no segment')
      case 'epochs':
        return path.join(directory, 'log', 'epochs')
      case 'state':
        return path.join(directory, 'state')
      default:
        return path.join(this.dataDirOf(index), file === 'epoch' ? 'main' : '', file)
    }
  }

  /** The segments of a node's log, the oldest first. */
  segmentsOf(index: number): readonly string[] {
    const log = path.join(this.directoryOf(index), 'log')
    const names = readdirSync(log).filter((name) => /^[0-9a-f]{16}\.seg$/.test(name))
    return names.toSorted().map((name) => path.join(log, name))
  }

  /** Warnings of one name, or of all names but those that only tell of lost connections. */
  warningsOf(name?: string): readonly NodeWarning[] {
    return this.warnings.filter((warning) => (name === undefined ? warning.name !== 'stream' : warning.name === name))
  }

  /** Waits until the replicas are where the primary is; a write whose caller gave up may still arrive there meanwhile. */
  async settle(...replicas: readonly number[]): Promise<void> {
    for (const index of replicas) {
      const deadlineMs = performance.now() + SETTLE_TIMEOUT_MS
      // Not `waitFor`: a replica may have to come back from another history, on which it is ahead.
      while (!(await this.#isWherePrimaryIs(index))) {
        if (performance.now() > deadlineMs) await this.#explain(index)
        await sleep(10)
      }
    }
  }

  async #isWherePrimaryIs(index: number): Promise<boolean> {
    const { position } = await this.primary.facts(this.database)
    return isSame((await this.node(index).facts(this.database)).position, position)
  }

  /** Says where everybody stands when a replica does not come to where the primary is. */
  async #explain(index: number): Promise<never> {
    const facts = await Promise.all([this.#primaryIndex, index].map((node) => this.node(node).facts(this.database)))
    const stand = facts.map(({ position, state, stateReason }) => `${formatPosition(position)} ${state} ${stateReason}`)
    const warnings = this.warnings.map(({ node, message }) => `node ${node}: ${message}`).join('\n')
    throw new Error(`node ${index} stands at ${stand[1]}, the primary at ${stand[0]}\n${warnings}`)
  }

  /** After `settle`: every page of the replicas is the primary's, and SQLite finds nothing wrong with any of them. */
  async expectEqual(...replicas: readonly number[]): Promise<void> {
    await this.settle(...replicas)
    const { pageSize } = await this.primary.facts(this.database)
    const image = imageOf(this.fileOf(this.#primaryIndex))
    expect(integrityOf(this.fileOf(this.#primaryIndex))).toBe('ok')
    for (const index of replicas) {
      expect(differingPages(image, imageOf(this.fileOf(index)), pageSize), `node ${index}`).toBe('')
      expect(integrityOf(this.fileOf(index))).toBe('ok')
    }
  }

  /** After `settle`: the TXID before the first record of a node's log. It moves only when records are pruned, or a snapshot replaced all. */
  async logStart(index: number): Promise<number> {
    const { position, logRecords } = await this.node(index).facts(this.database)
    return Number(position.txid) - logRecords
  }

  async close(options: { readonly keepsFiles?: boolean } = {}): Promise<void> {
    await Promise.all([...this.#all].map((node) => node.kill()))
    await Promise.all([...this.#links.values()].map((link) => link.close()))
    if (options.keepsFiles !== true) rmSync(this.directory, { recursive: true, force: true })
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  /** Gives a new node its ports, and links from and to every other one. */
  async #connect(index: number): Promise<void> {
    if (this.#ports.has(index)) return
    const host = this.#options.places?.[index]?.host
    const ports =
      host === undefined
        ? { host: '127.0.0.1', http: await freePort(), grpc: await freePort() }
        : { host, http: HTTP_PORT, grpc: GRPC_PORT }
    const others = [...this.#ports]
    this.#ports.set(index, ports)
    if (this.#options.links !== true) return
    for (const [other, otherPorts] of others) {
      this.#links.set(`${index}>${other}`, await Link.open(otherPorts))
      const back = await Link.open(ports)
      this.#links.set(`${other}>${index}`, back)
      if (this.#nodes.get(other)?.isAlive === true) await this.node(other).route(back.routes)
    }
  }

  #routesOf(index: number): Readonly<Record<string, string>> {
    const links = [...this.#links].filter(([pair]) => pair.startsWith(`${index}>`))
    return Object.assign({}, ...links.map(([, { routes }]) => routes))
  }
}

function isSame(a: Position, b: Position): boolean {
  return a.txid === b.txid && a.checksum === b.checksum
}
