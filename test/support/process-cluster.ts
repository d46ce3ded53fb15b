/**
 * Nodes as processes, each with a data directory of its own under the system's temporary directory. Node 0 is the primary.
 *
 * Promises: a node that is started again finds what it left on disk, and the primary its address, whatever ended it; after
 * `close` no process and no file is left. Warnings of all nodes are kept, over their restarts.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type ClusterOptions, type ClusterWarning, formatPosition, type LogOptions } from '@litefleet/core'
import { expect } from 'vitest'
import { differingPages, imageOf, integrityOf } from './images.ts'
import { ProcessNode } from './process-node.ts'

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

  /** Waits until the replicas show what the primary shows when nothing more is written. */
  async settle(...replicas: readonly number[]): Promise<void> {
    const { position } = await this.primary.facts(this.database)
    for (const index of replicas) {
      await this.node(index)
        .waitFor(this.database, position)
        .catch(async (error: unknown) => {
          console.log(
            'DEBUG',
            index,
            await this.node(index).status(),
            await this.primary.status(),
            this.warnings,
            this.node(index).printed,
          )
          throw error
        })
      // A replica that is ahead of a primary that starts another history must come back to it.
      await expect
        .poll(async () => formatPosition((await this.node(index).facts(this.database)).position), { timeout: 20_000 })
        .toBe(formatPosition(position))
    }
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
