/**
 * Nodes as processes, each with a data directory of its own under the system's temporary directory. Node 0 is the primary.
 *
 * Promises: a node that is started again finds what it left on disk, and the primary its address, whatever ended it; after
 * `close` no process and no file is left. Warnings of all nodes are kept, over their restarts.
 */
import { mkdtempSync, rmSync } from 'node:fs'
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
import { differingPages, imageOf, integrityOf } from './images.ts'
import { ProcessNode } from './process-node.ts'

const SETTLE_TIMEOUT_MS = 30_000

export interface ProcessClusterOptions {
  /** Opened on every node. */
  readonly database: string
  readonly log?: LogOptions | undefined
}

export type NodeWarning = ClusterWarning & { readonly node: number }

export class ProcessCluster implements AsyncDisposable {
  readonly directory: string
  readonly warnings: NodeWarning[] = []
  readonly database: string
  readonly #options: ProcessClusterOptions
  readonly #nodes = new Map<number, ProcessNode>()
  readonly #all = new Set<ProcessNode>()
  #httpPort = 0

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
    return path.join(this.directory, `node-${index}`)
  }

  directoryOf(index: number): string {
    return path.join(this.dataDirOf(index), 'main', 'dbs', this.database)
  }

  fileOf(index: number): string {
    return path.join(this.directoryOf(index), 'database')
  }

  get primaryUrl(): string {
    return `http://127.0.0.1:${this.#httpPort}`
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
    return this.node(0)
  }

  /** Starts a node, or starts it again, and waits until it serves. */
  async startNode(index: number, options: Partial<ClusterOptions> = {}): Promise<ProcessNode> {
    const node = this.spawnNode(index, options)
    const { addresses } = await node.ready()
    if (index === 0) this.#httpPort = Number(new URL(addresses.http).port)
    return node
  }

  /** Starts a node without waiting for it. */
  spawnNode(index: number, options: Partial<ClusterOptions> = {}): ProcessNode {
    const settings = {
      options: {
        dataDir: this.dataDirOf(index),
        node: { name: `node-${index}` },
        lease: { kind: 'static' as const, primary: index === 0 ? (true as const) : { url: this.primaryUrl } },
        listen: index === 0 ? { httpPort: this.#httpPort } : {},
        ...(this.#options.log === undefined ? {} : { log: this.#options.log }),
        ...options,
      },
      databases: [this.database],
    }
    const node = new ProcessNode(settings, (warning) => this.warnings.push({ ...warning, node: index }))
    this.#nodes.set(index, node)
    this.#all.add(node)
    return node
  }

  /** Warnings of one name, or of all names but those that only tell of lost connections. */
  warningsOf(name?: string): readonly NodeWarning[] {
    return this.warnings.filter((warning) => (name === undefined ? warning.name !== 'stream' : warning.name === name))
  }

  /** Waits until the replicas are where the primary is, when nothing more is written. */
  async settle(...replicas: readonly number[]): Promise<void> {
    const { position } = await this.primary.facts(this.database)
    for (const index of replicas) {
      const deadlineMs = performance.now() + SETTLE_TIMEOUT_MS
      // Not `waitFor`: a replica may have to come back from another history, on which it is ahead.
      while (!isSame((await this.node(index).facts(this.database)).position, position)) {
        if (performance.now() > deadlineMs) await this.#explain(index)
        await sleep(10)
      }
    }
  }

  /** Says where everybody stands when a replica does not come to where the primary is. */
  async #explain(index: number): Promise<never> {
    const facts = await Promise.all([0, index].map((node) => this.node(node).facts(this.database)))
    const stand = facts.map(({ position, state, stateReason }) => `${formatPosition(position)} ${state} ${stateReason}`)
    const warnings = this.warnings.map(({ node, message }) => `node ${node}: ${message}`).join('\n')
    throw new Error(`node ${index} stands at ${stand[1]}, the primary at ${stand[0]}\n${warnings}`)
  }

  /** After `settle`: every page of the replicas is the primary's, and SQLite finds nothing wrong with any of them. */
  async expectEqual(...replicas: readonly number[]): Promise<void> {
    await this.settle(...replicas)
    const { pageSize } = await this.primary.facts(this.database)
    const image = imageOf(this.fileOf(0))
    expect(integrityOf(this.fileOf(0))).toBe('ok')
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

  async close(): Promise<void> {
    await Promise.all([...this.#all].map((node) => node.kill()))
    rmSync(this.directory, { recursive: true, force: true })
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

function isSame(a: Position, b: Position): boolean {
  return a.txid === b.txid && a.checksum === b.checksum
}
