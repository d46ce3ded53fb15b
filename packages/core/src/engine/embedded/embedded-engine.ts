/**
 * The embedded engine: all databases of one node, in one group, in the role the node has.
 *
 * A database is opened when the application first asks for it, or when the node takes office and finds it on disk, so that a
 * primary serves everything it has. Bound: none on the number of databases; each costs a few descriptors and connections.
 */
import type { Clock } from '../../base/clock.ts'
import { ClusterError } from '../../errors/cluster-error.ts'
import type { DataDirectory } from '../../files/data-directory.ts'
import type { Disk } from '../../files/disk.ts'
import type { ResolvedLogOptions } from '../../log/log-options.ts'
import type { Epoch, EpochTable } from '../../position/epoch.ts'
import type { Txid } from '../../position/txid.ts'
import type { DatabaseName } from '../../request/database-name.ts'
import type { RequestIdSource } from '../../request/request-id.ts'
import type { ConnectionSetup } from '../../sqlite/connection.ts'
import type { ResolvedLedgerOptions } from '../../write/ledger-options.ts'
import { DatabaseStore } from './database-store.ts'
import { EmbeddedDatabase } from './embedded-database.ts'

export interface EmbeddedEngineOptions {
  readonly disk: Disk
  readonly clock: Clock
  readonly directory: DataDirectory
  readonly log: ResolvedLogOptions
  readonly setup: ConnectionSetup | undefined
  readonly nodeId: bigint
  readonly requestIds: RequestIdSource
  readonly ledger: ResolvedLedgerOptions
  requirePrimary(): void
  onProgress(database: EmbeddedDatabase): void
  onRestartStream(database: EmbeddedDatabase): void
  onEpochs(table: EpochTable): void
  /** The epoch in which this node was in office last; asked when a database is opened as a replica's. */
  lastOffice(): Epoch
  warn(name: string, message: string, details: Readonly<Record<string, unknown>>): void
}

/** Every database of a node belongs to one group; leases, epochs and paths are keyed by it. */
export const GROUP = 'main'

export class EmbeddedEngine {
  readonly #options: EmbeddedEngineOptions
  readonly #databases = new Map<DatabaseName, EmbeddedDatabase>()
  readonly #opening = new Map<DatabaseName, Promise<EmbeddedDatabase>>()
  readonly #addedListeners = new Set<(database: EmbeddedDatabase) => void>()
  /** The epoch in which this node is in office, or takes it; `undefined`: databases are replicas'. */
  #office: Epoch | undefined
  #isClosed = false

  constructor(options: EmbeddedEngineOptions) {
    this.#options = options
  }

  /** The databases that are open, by name. */
  get databases(): readonly EmbeddedDatabase[] {
    return [...this.#databases.values()]
  }

  database(name: string): EmbeddedDatabase | undefined {
    return this.#databases.get(name as DatabaseName)
  }

  /** Throws `UNKNOWN_DATABASE`. */
  require(name: DatabaseName): EmbeddedDatabase {
    const found = this.#databases.get(name)
    if (found !== undefined) return found
    throw new ClusterError('UNKNOWN_DATABASE', `this node has not opened a database "${name}"`, {
      hint: 'Open it with cluster.database() on every node.',
      details: { database: name },
    })
  }

  /** Calls `listener` for each database opened from now on. Answers how to stop. */
  onDatabaseAdded(listener: (database: EmbeddedDatabase) => void): () => void {
    this.#addedListeners.add(listener)
    return () => this.#addedListeners.delete(listener)
  }

  /** Opens a database once, in the role that the node has; further callers get the same. */
  open(name: DatabaseName): Promise<EmbeddedDatabase> {
    const open = this.#databases.get(name)
    if (open !== undefined) return Promise.resolve(open)
    const opening = this.#opening.get(name) ?? this.#open(name).finally(() => this.#opening.delete(name))
    this.#opening.set(name, opening)
    return opening
  }

  /**
   * The node takes office: every open database becomes a primary's, under its readers, then what else is on disk is opened. The streams into
   * this node must have ended. When one cannot, those that did are replicas again.
   * @throws what `EmbeddedDatabase.becomePrimary` and opening throw
   */
  async takeOffice(epoch: Epoch): Promise<void> {
    this.#office = epoch // what is opened from now on is a primary's
    await Promise.allSettled(this.#opening.values())
    try {
      for (const database of this.#databases.values()) if (!database.isPrimary) await database.becomePrimary(epoch)
      await this.openAll()
    } catch (error) {
      await this.leaveOffice(new ClusterError('NOT_PRIMARY', 'the node could not take office', { cause: error }))
      throw error
    }
  }

  /**
   * The node left office: every database that is a primary's becomes a replica, under its readers.
   * @param refusal for the writes that wait
   */
  async leaveOffice(refusal: ClusterError): Promise<void> {
    this.#office = undefined
    await Promise.allSettled(this.#opening.values())
    const primaries = [...this.#databases.values()].filter((database) => database.isPrimary)
    await Promise.all(primaries.map((database) => database.becomeReplica(refusal)))
  }

  /** Opens what is on disk. */
  async openAll(): Promise<void> {
    for (const name of this.#options.directory.databaseNames(GROUP)) await this.open(name)
  }

  /** Resolves when nothing that the stream delivered is under way any more in any database, and all logs are durable. */
  async settled(): Promise<void> {
    await Promise.all([...this.#databases.values()].map((database) => database.settled()))
  }

  /** Removes what nobody needs from all logs. */
  prune(slowestDurable: (database: string) => Txid | undefined): void {
    for (const database of this.#databases.values()) database.prune(slowestDurable(database.name))
  }

  /** Fails everybody who waits for a database. */
  abandonWaits(): void {
    for (const database of this.#databases.values()) database.abandonWaits()
  }

  /** Closes all databases; what fails is reported, the others are closed all the same. */
  async close(): Promise<void> {
    this.#isClosed = true
    await Promise.allSettled(this.#opening.values())
    const results = await Promise.allSettled([...this.#databases.values()].map((database) => database.close()))
    this.#databases.clear()
    const failed = results.find((result) => result.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  }

  async #open(name: DatabaseName): Promise<EmbeddedDatabase> {
    if (this.#isClosed) throw new ClusterError('CLOSED', 'the node was closed')
    const { disk, clock, directory, log, setup, warn, nodeId, requestIds, ledger } = this.#options
    const store = DatabaseStore.open({
      name,
      directory: directory.databaseDirectory(GROUP, name),
      disk,
      clock,
      log,
      setup,
      warn,
    })
    const database = new EmbeddedDatabase({
      store,
      nodeId,
      requestIds,
      ledger,
      requirePrimary: () => this.#options.requirePrimary(),
      onProgress: (changed) => this.#options.onProgress(changed),
      onRestartStream: (changed) => this.#options.onRestartStream(changed),
      onEpochs: (table) => this.#options.onEpochs(table),
    })
    try {
      const office = this.#office
      if (office === undefined) await database.openAsReplica(this.#options.lastOffice())
      else await database.openAsPrimary(office)
    } catch (error) {
      await store.close(undefined)
      throw error
    }
    this.#databases.set(name, database)
    for (const listener of this.#addedListeners) listener(database)
    return database
  }
}
