/**
 * The door for tests: a small cluster in one process, each node with a data directory of its own under the system's
 * temporary directory, removed when the cluster is closed.
 *
 *   await using cluster = await TestCluster.start({ nodes: 3 })
 *   const primary = await cluster.primary.database('app.db')
 */
import { randomUUID } from 'node:crypto'
import os from 'node:os'
import path from 'node:path'
import { type Cluster, openClusterIn } from './cluster.ts'
import type { Database } from './database/database.ts'
import { ClusterError } from './errors/cluster-error.ts'
import { removeTree } from './files/remove-tree.ts'
import { type NodeEnvironment, realEnvironment } from './node/environment.ts'
import type { ClusterOptions, ClusterWarning, ListenOptions } from './options/cluster-options.ts'
import { samePosition } from './position/position.ts'

export interface TestClusterOptions {
  /** @internal The machine of all nodes, where it is not the real one. */
  readonly environment?: Partial<NodeEnvironment> | undefined
  /** How many nodes; the first is the primary. Default: 3. */
  readonly nodes?: number | undefined
  /** Regions of the nodes, in order; further nodes are in the last one. Default: gru, lhr, nrt. */
  readonly regions?: readonly string[] | undefined
  /** Options for all nodes. */
  readonly options?: Partial<Omit<ClusterOptions, 'dataDir' | 'lease' | 'node'>> | undefined
}

const REGIONS = ['gru', 'lhr', 'nrt']

export class TestCluster implements AsyncDisposable {
  /** Everything the nodes warned of, with the name of the node. */
  readonly warnings: (ClusterWarning & { readonly node: string })[] = []
  readonly directory: string
  readonly #options: TestClusterOptions
  readonly #nodes = new Map<number, Cluster>()
  readonly #ports = new Map<number, ListenOptions>()

  private constructor(options: TestClusterOptions) {
    this.#options = options
    this.directory = path.join(os.tmpdir(), `litefleet-test-${randomUUID()}`)
  }

  static async start(options: TestClusterOptions = {}): Promise<TestCluster> {
    const cluster = new TestCluster(options)
    try {
      for (let index = 0; index < (options.nodes ?? 3); index++) await cluster.startNode(index)
      return cluster
    } catch (error) {
      await cluster.close()
      throw error
    }
  }

  get primary(): Cluster {
    return this.node(0)
  }

  get replicas(): readonly Cluster[] {
    return [...this.#nodes].filter(([index]) => index > 0).map(([, node]) => node)
  }

  get nodes(): readonly Cluster[] {
    return [...this.#nodes.values()]
  }

  node(index: number): Cluster {
    const node = this.#nodes.get(index)
    if (node === undefined) throw new ClusterError('CLOSED', `node ${index} is not running`)
    return node
  }

  dataDirOf(index: number): string {
    return path.join(this.directory, `node-${index}`)
  }

  /** Starts a node, or starts it again on what it left on disk, and with the ports it had. */
  async startNode(index: number, options: Partial<ClusterOptions> = {}): Promise<Cluster> {
    const regions = this.#options.regions ?? REGIONS
    const name = `node-${index}`
    const node = await openClusterIn(
      { ...realEnvironment, ...this.#options.environment },
      {
        dataDir: this.dataDirOf(index),
        node: { name, region: regions[index] ?? regions.at(-1) },
        lease: options.lease ?? { kind: 'static', primary: index === 0 ? true : { url: this.primary.addresses.http } },
        listen: this.#ports.get(index),
        onWarning: (warning) => this.warnings.push({ ...warning, node: name }),
        ...this.#options.options,
        ...options,
      },
    )
    this.#nodes.set(index, node)
    const port = (address: string): number => Number(address.split(':').at(-1))
    this.#ports.set(index, { httpPort: port(node.addresses.http), grpcPort: port(node.addresses.grpc) })
    return node
  }

  async stopNode(index: number): Promise<void> {
    const node = this.node(index)
    this.#nodes.delete(index)
    await node.close()
  }

  /** The handles of one database on all nodes, the primary's first. */
  async database(name: string): Promise<Database[]> {
    const handles: Database[] = []
    for (const [, node] of [...this.#nodes].toSorted(([a], [b]) => a - b)) handles.push(await node.database(name))
    return handles
  }

  /** Waits until every node shows what the primary shows now. */
  async settle(name: string, timeoutMs = 20_000): Promise<void> {
    const [primary, ...replicas] = await this.database(name)
    if (primary === undefined) return
    for (const replica of replicas) {
      await replica.waitFor(primary.position, { timeoutMs })
      if (!samePosition(replica.position, primary.position)) return this.settle(name, timeoutMs)
    }
  }

  async close(): Promise<void> {
    // The primary last, so that the replicas can say goodbye.
    for (const index of [...this.#nodes.keys()].toSorted((a, b) => b - a)) await this.stopNode(index)
    removeTree(this.directory)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}
