/** A node with databases, a role and a running stream server. */
import type { Clock } from '../../base/clock.ts'
import { systemClock } from '../../base/clock.ts'
import { type Epoch, NO_EPOCH } from '../../position/epoch.ts'
import type { ClusterKeys } from '../../request/cluster-token.ts'
import type { OfficeControl } from '../office-route.ts'
import type { NodeFacts, StreamNode } from '../stream-node.ts'
import { StreamServer } from '../stream-server.ts'
import { resolveStreamServerOptions, type StreamServerOptions } from '../stream-server-options.ts'
import type { StreamableDatabase } from '../streamable-database.ts'
import { FakeDatabase } from './fake-database.ts'

export const CLUSTER_ID = 'LFSC0123456789ABCDEF'

export class FakeNode implements StreamNode {
  readonly nodeId: string = '000000000000ABCD'
  cluster: string | undefined = CLUSTER_ID
  primary = true
  inTerm: Epoch = NO_EPOCH
  promisedEpoch: Epoch = NO_EPOCH
  readonly failures: unknown[] = []
  readonly #databases = new Map<string, StreamableDatabase>()
  readonly #listeners = new Set<(database: StreamableDatabase) => void>()
  server!: StreamServer
  url = ''

  static async start(
    o: {
      clock?: Clock
      keys?: ClusterKeys
      options?: StreamServerOptions
      databases?: readonly StreamableDatabase[]
      office?: OfficeControl
    } = {},
  ): Promise<FakeNode> {
    const node = new FakeNode()
    for (const database of o.databases ?? []) node.add(database)
    node.server = new StreamServer({
      node,
      keys: o.keys ?? [],
      office: o.office,
      clock: o.clock ?? systemClock,
      options: resolveStreamServerOptions({ port: 0, closeTimeoutMs: 500, ...o.options }),
      onFailure: (error) => node.failures.push(error),
    })
    node.url = `http://127.0.0.1:${await node.server.listen()}`
    return node
  }

  add(database: StreamableDatabase): void {
    this.#databases.set(database.name, database)
    for (const listener of this.#listeners) listener(database)
  }

  create(name: string, commits = 0): FakeDatabase {
    const database = new FakeDatabase(name)
    if (commits > 0) database.commit(commits)
    this.add(database)
    return database
  }

  clusterId(): string | undefined {
    return this.cluster
  }

  term(): Epoch {
    return this.inTerm
  }

  promised(): Epoch {
    return this.promisedEpoch
  }

  isPrimary(): boolean {
    return this.primary
  }

  facts(): NodeFacts {
    return {
      isPrimary: this.primary,
      candidate: true,
      path: '/data',
      primaryHostname: 'hosta',
      name: 'gru-1',
      region: 'gru',
      grpc: '127.0.0.1:20203',
    }
  }

  databases(): readonly StreamableDatabase[] {
    return [...this.#databases.values()]
  }

  database(name: string): StreamableDatabase | undefined {
    return this.#databases.get(name)
  }

  onDatabaseAdded(listener: (database: StreamableDatabase) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  get listenerCount(): number {
    return this.#listeners.size
  }
}
