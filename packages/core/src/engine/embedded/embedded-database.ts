/**
 * One database of the embedded engine: its disk (`DatabaseStore`), and the mode it is in, primary or replica.
 *
 * The object outlives modes and files: handles, waiters and streams hold on to it, its tracker and its procedure table.
 *
 * A database that stopped after a failure of the disk is served as it is, and opened again in place by `RepairLoop` until that
 * works. Meanwhile nothing is sent from its log, which may end before what was announced.
 */
import { assert } from '../../base/assert.ts'
import type { Clock } from '../../base/clock.ts'
import { ClusterError, isClusterError } from '../../errors/cluster-error.ts'
import { DivergenceStore } from '../../divergence/divergence-store.ts'
import type { PageChecksums } from '../../ltx/page-checksums.ts'
import type { Checksum } from '../../position/checksum.ts'
import { type Epoch, epochOf, type EpochTable, NO_EPOCH } from '../../position/epoch.ts'
import { formatPosition, type Position, ZERO_POSITION } from '../../position/position.ts'
import { PositionTracker, type TrackedPosition } from '../../position/position-tracker.ts'
import type { DatabaseStanding, ReplicaReport } from '../../position/replica-report.ts'
import { type Txid, ZERO_TXID } from '../../position/txid.ts'
import type { DatabaseName } from '../../request/database-name.ts'
import type { RequestIdSource } from '../../request/request-id.ts'
import type { Connection } from '../../sqlite/connection.ts'
import { isSqliteError } from '../../sqlite/sqlite-error.ts'
import type { StreamReceiver } from '../../stream/stream-receiver.ts'
import type { LogRead, StreamableDatabase } from '../../stream/streamable-database.ts'
import type { SnapshotSpool } from '../../stream/snapshot-spool.ts'
import type { ResolvedLedgerOptions } from '../../write/ledger-options.ts'
import { ProcedureTable } from '../../write/procedure-table.ts'
import type {
  CommittedWrite,
  DatabaseFacts,
  DatabaseState,
  EngineDatabase,
  LocalResolve,
  LocalWrite,
  ResolvedWrite,
} from '../engine.ts'
import type { ClosingState, DatabaseStore, KnownFile } from './database-store.ts'
import { LiveSnapshots } from './live-snapshots.ts'
import { PrimaryMode, type PrimaryModeOptions } from './primary-mode.ts'
import { RepairLoop } from './repair-loop.ts'
import { type Contact, ReplicaMode, type ReplicaModeOptions } from './replica-mode.ts'

export interface EmbeddedDatabaseOptions {
  readonly store: DatabaseStore
  /** Random, not zero; new in each process. */
  readonly nodeId: bigint
  readonly requestIds: RequestIdSource
  readonly ledger: ResolvedLedgerOptions
  /** Throws unless this node surely holds the lease. */
  requirePrimary(): void
  /** Log or database of a replica moved on. */
  onProgress(database: EmbeddedDatabase): void
  /** The stream of this database must be made anew, from the position it then has. */
  onRestartStream(database: EmbeddedDatabase): void
  /** A primary's epochs were seen. */
  onEpochs(table: EpochTable): void
}

interface ReadyWaiter {
  resolve(): void
  reject(error: Error): void
}

const SEEDING: DatabaseState = { kind: 'seeding', reason: 'it is being opened' }

export class EmbeddedDatabase implements EngineDatabase, StreamableDatabase {
  readonly name: DatabaseName
  readonly tracker: PositionTracker
  readonly procedures = new ProcedureTable()
  readonly #options: EmbeddedDatabaseOptions
  readonly #store: DatabaseStore
  readonly #clock: Clock
  readonly #snapshots: LiveSnapshots
  readonly #reports: DivergenceStore
  readonly #replaceListeners = new Set<() => Promise<void>>()
  readonly #readyWaiters = new Set<ReadyWaiter>()
  readonly #repair: RepairLoop
  #primary: PrimaryMode | undefined
  #replica: ReplicaMode | undefined
  #state: DatabaseState = SEEDING

  constructor(options: EmbeddedDatabaseOptions) {
    const { store } = options
    this.#options = options
    this.#store = store
    this.#clock = store.options.clock
    this.name = store.options.name
    const { disk, directory, warn } = store.options
    this.#reports = new DivergenceStore(disk, directory, (removed) =>
      warn('report-removed', `database "${this.name}": its oldest divergence report made room for a new one`, {
        report: removed,
      }),
    )
    this.tracker = new PositionTracker({
      database: this.name,
      clock: this.#clock,
      initial: { position: ZERO_POSITION, epoch: NO_EPOCH },
      checksumAt: (txid) => this.#checksumAt(txid),
      epochAt: (txid) => epochOf(this.#store.log.epochTable(), txid),
    })
    this.#snapshots = new LiveSnapshots({ store, nodeId: options.nodeId, settle: () => this.#settle() })
    this.#repair = new RepairLoop({
      clock: this.#clock,
      attempt: () => this.#openAgain(),
      onFailure: (error) => this.#repairFailed(error),
    })
  }

  get path(): string {
    return this.#store.databasePath
  }

  get isPrimary(): boolean {
    return this.#primary !== undefined
  }

  /** What the stream delivers to, on a replica. */
  get receiver(): StreamReceiver | undefined {
    return this.#replica
  }

  /** Opens as the primary of a new epoch. What the log holds beyond the file is applied first. */
  async openAsPrimary(epoch: Epoch): Promise<void> {
    const options = this.#primaryOptions(epoch)
    this.#primary = (await PrimaryMode.open(options)) ?? (await this.#openAfterApplying(options))
    this.#setState({ kind: 'ready' })
  }

  /**
   * The replica becomes the primary of a new epoch, under its readers. The stream must have ended.
   * @throws ClusterError `COPY_NOT_WHOLE`, `DATABASE_STOPPED`, `STORAGE_FAILED`: then it still is a replica
   */
  async becomePrimary(epoch: Epoch): Promise<void> {
    const replica = this.#replica
    assert(replica !== undefined, `database "${this.name}" is no replica's`)
    if (replica.isEmpty) {
      this.#replica = undefined
      return this.openAsPrimary(epoch)
    }
    const known = await replica.release()
    this.#replica = undefined
    try {
      this.#primary = await PrimaryMode.takeOver(this.#primaryOptions(epoch), known)
    } catch (error) {
      await this.#startReplica(undefined)
      throw error
    }
    this.#setState({ kind: 'ready' })
  }

  /**
   * The primary becomes a replica, under its readers. What the log could not take is left to be found out.
   * @param refusal for the writes that wait
   */
  async becomeReplica(refusal: ClusterError): Promise<void> {
    const primary = this.#primary
    assert(primary !== undefined, `database "${this.name}" is no primary's`)
    await this.#repair.interrupt()
    const known = (this.#primary ?? primary).release(refusal)
    this.#primary = undefined
    await this.#startReplica(known)
  }

  async #startReplica(known: KnownFile | undefined): Promise<void> {
    this.#replica = this.#newReplica({ isLasting: true })
    try {
      if (!this.#store.log.isUsable) await this.#store.reopenLog()
      await this.#replica.open(known)
    } catch (error) {
      this.#stopped(messageOf(error)) // served as it is, and tried again
    }
  }

  #primaryOptions(epoch: Epoch): PrimaryModeOptions {
    return {
      store: this.#store,
      tracker: this.tracker,
      procedures: this.procedures,
      epoch,
      nodeId: this.#options.nodeId,
      requestIds: this.#options.requestIds,
      ledger: this.#options.ledger,
      requirePrimary: () => this.#options.requirePrimary(),
      onFailure: (error) => this.#stopped(messageOf(error)),
    }
  }

  /**
   * Opens as a replica; it may then be without a copy until a snapshot came.
   * @param lastOffice the epoch in which this node was in office last
   */
  async openAsReplica(lastOffice: Epoch): Promise<void> {
    const known = await this.#logOwnCommits(lastOffice)
    this.#replica = this.#newReplica({ isLasting: true })
    await this.#replica.open(known)
  }

  /**
   * The node stopped in office and begins as a replica: what it had announced may be in its WAL only (power failed), and others may count on it.
   * What cannot be put right is left as it is; then the database is seeded by the next primary, and reported.
   */
  async #logOwnCommits(lastOffice: Epoch): Promise<KnownFile | undefined> {
    const { log } = this.#store
    const wasPrimary = lastOffice !== NO_EPOCH && log.epochTable().at(-1)?.epoch === lastOffice
    if (!wasPrimary || log.tail.position.txid === ZERO_TXID || !this.#store.hasFile()) return undefined
    try {
      return await PrimaryMode.logOwnCommits(this.#primaryOptions(lastOffice))
    } catch (error) {
      if (!isClusterError(error) && !isSqliteError(error)) throw error
      return undefined
    }
  }

  /** Resolves when nothing that the stream delivered is under way any more, and all of the log is durable. Throws `STORAGE_FAILED`. */
  async settled(): Promise<void> {
    await this.#replica?.settled()
    await this.#store.log.sync()
  }

  /** With the last primary that this node followed in this process; `undefined` without one, and in office. */
  get contact(): Contact | undefined {
    return this.#replica?.contact
  }

  /** What this node could give others. */
  standing(): DatabaseStanding {
    return { ...this.report(), isWhole: this.#primary !== undefined || this.#replica?.isWhole === true }
  }

  async write(write: LocalWrite): Promise<CommittedWrite> {
    return this.#writable().write(write)
  }

  async resolve(question: LocalResolve): Promise<ResolvedWrite> {
    return this.#writable().resolve(question)
  }

  openReader(): Connection {
    if (!this.#store.isFileOpen)
      throw new ClusterError(
        'COPY_NOT_WHOLE',
        `database "${this.name}" cannot be read on this node: ${this.#state.kind === 'seeding' ? this.#state.reason : 'it has no copy'}`,
        { details: { database: this.name } },
      )
    return this.#store.file.connect({ readonly: true })
  }

  onReplace(closeConnections: () => Promise<void>): () => void {
    this.#replaceListeners.add(closeConnections)
    return () => this.#replaceListeners.delete(closeConnections)
  }

  whenReady(deadlineMs: number): Promise<void> {
    if (this.#state.kind !== 'seeding') return Promise.resolve()
    return new Promise((resolve, reject) => {
      const timer = this.#clock.setTimer(Math.max(0, deadlineMs - this.#clock.monotonicMs()), () => {
        this.#readyWaiters.delete(waiter)
        const reason = this.#state.kind === 'seeding' ? this.#state.reason : this.#state.kind
        reject(
          new ClusterError('WAIT_TIMEOUT', `database "${this.name}" cannot be read yet: ${reason}`, {
            hint: 'Is the primary running and reachable, and does it have a database of this name?',
          }),
        )
      })
      const waiter: ReadyWaiter = {
        resolve() {
          timer.cancel()
          resolve()
        },
        reject(error) {
          timer.cancel()
          reject(error)
        },
      }
      this.#readyWaiters.add(waiter)
    })
  }

  facts(): DatabaseFacts {
    const { position, epoch } = this.tracker.current
    const { log } = this.#store
    const file = this.#store.isFileOpen ? this.#store.file : undefined
    return {
      name: this.name,
      state: this.#state,
      position,
      epoch,
      durable: log.syncedTail.position,
      pageSize: file?.pageSize ?? 0,
      pageCount: file === undefined ? 0 : (this.#replica?.pageCount ?? file.checksums.pageCount),
      logBytes: log.bytes,
      logRecords: log.recordCount,
      walFrames: this.#primary?.walFrames ?? this.#replica?.walFrames ?? 0,
      queuedWrites: this.#primary?.queuedWrites ?? 0,
      divergences: this.#reports.count,
      epochs: log.epochTable(),
      lagMs: this.#primary === undefined ? this.#replica?.lagMs(this.#clock.nowMs()) : 0,
    }
  }

  /** What this node acknowledges to the primary. */
  report(): ReplicaReport {
    const { log } = this.#store
    const { position } = this.tracker.current
    const durable = log.syncedTail
    // After a re-seed log and database move together; in between, neither says more than the other.
    const applied = position.txid <= durable.position.txid ? position : durable.position
    return { database: this.name, epoch: durable.epoch, durable: durable.position, applied }
  }

  // What the stream sends.

  tail(): TrackedPosition {
    return this.tracker.current
  }

  epochTable(): EpochTable {
    return this.#store.log.epochTable()
  }

  readAfter(after: Position, maxBytes: number): LogRead {
    if (this.#state.kind === 'stopped') return { kind: 'at-end' }
    return this.#store.log.readAfter(after, maxBytes)
  }

  async openSnapshot(signal: AbortSignal): Promise<SnapshotSpool> {
    return this.#snapshots.openSnapshot(signal)
  }

  async openImage(signal: AbortSignal): Promise<SnapshotSpool> {
    return this.#snapshots.openImage(signal)
  }

  async openDifference(from: PageChecksums, signal: AbortSignal): Promise<SnapshotSpool | undefined> {
    return this.#snapshots.openDifference(from, signal)
  }

  onAdvance(listener: () => void): () => void {
    return this.tracker.onAdvance(listener)
  }

  /**
   * Removes what no connected replica needs from the log, within the limits of the options.
   * @param keepAfter the slowest connected replica; `undefined` without any
   */
  prune(keepAfter: Txid | undefined): void {
    if (this.#state.kind === 'stopped') return
    // The primary's file and its WAL, which SQLite has synced, hold everything that was announced.
    const durableInDatabase =
      this.#primary === undefined ? this.#replica?.durableInDatabase.txid : this.tracker.current.position.txid
    if (durableInDatabase !== undefined) this.#store.log.prune({ keepAfter, durableInDatabase })
  }

  /** Fails everybody who waits for this database, and refuses new waits. */
  abandonWaits(): void {
    this.tracker.close()
    const closed = new ClusterError('CLOSED', `database "${this.name}" was closed`)
    for (const waiter of this.#readyWaiters) waiter.reject(closed)
    this.#readyWaiters.clear()
  }

  /** Closes for good. Readers must be closed before; what was committed or received is durable afterwards. */
  async close(): Promise<void> {
    this.abandonWaits()
    await this.#repair.lastAttempt()
    await this.#snapshots.close()
    let state: ClosingState | undefined
    try {
      state = (await this.#primary?.close()) ?? (await this.#replica?.close())
    } finally {
      await this.#store.close(state)
    }
  }

  /** The log is ahead of the file: this node was a replica and stopped before it had applied everything. */
  async #openAfterApplying(options: PrimaryModeOptions): Promise<PrimaryMode> {
    const replica = this.#newReplica({ isLasting: false })
    await replica.open()
    this.#store.closeFile(await replica.close())
    const primary = await PrimaryMode.open(options)
    if (primary !== undefined) return primary
    throw new ClusterError('CORRUPT_DATA', `database "${this.name}": its file is behind its log, which is damaged`, {
      details: { file: this.#store.databasePath, log: formatPosition(this.#store.log.tail.position) },
      hint: 'Put the file of a replica or of a backup in its place (with its -wal and -shm files removed), or make a replica the primary.',
    })
  }

  #writable(): PrimaryMode {
    this.#options.requirePrimary()
    if (this.#primary !== undefined) return this.#primary
    throw new ClusterError('NOT_PRIMARY', `database "${this.name}" is a replica's on this node`)
  }

  #newReplica({ isLasting }: Pick<ReplicaModeOptions, 'isLasting'>): ReplicaMode {
    return new ReplicaMode({
      isLasting,
      store: this.#store,
      reports: this.#reports,
      tracker: this.tracker,
      onReady: () => this.#setState({ kind: 'ready' }),
      onSeeding: (reason) => this.#setState({ kind: 'seeding', reason }),
      onStopped: (reason) => this.#stopped(reason),
      onDiverged: () => this.#options.onRestartStream(this),
      onProgress: () => this.#options.onProgress(this),
      closeReaders: async () => {
        await Promise.all([...this.#replaceListeners].map((close) => close()))
      },
      onEpochs: (table) => this.#options.onEpochs(table),
    })
  }

  #stopped(reason: string): void {
    this.#setState({ kind: 'stopped', reason })
    this.#repair.start()
  }

  /** Everything is found out again as at a start, without closing the file. */
  async #openAgain(): Promise<void> {
    this.#store.requireWritable()
    if (this.#primary === undefined) return this.#replica?.openAgain()
    this.#options.requirePrimary()
    this.#primary = await this.#primary.openAgain()
    this.#setState({ kind: 'ready' })
    this.#store.options.warn('resumed', `database "${this.name}" takes writes again`, {
      position: formatPosition(this.tracker.current.position),
    })
  }

  /** Answers whether another attempt may help. */
  #repairFailed(error: unknown): boolean {
    const reason = messageOf(error)
    this.#store.options.warn('still-stopped', `database "${this.name}" could not be opened again: ${reason}`, {
      reason,
    })
    this.#setState({ kind: 'stopped', reason })
    return !isClusterError(error, 'CORRUPT_DATA')
  }

  #setState(state: DatabaseState): void {
    this.#state = state
    if (state.kind === 'seeding') return
    for (const waiter of this.#readyWaiters) waiter.resolve()
    this.#readyWaiters.clear()
  }

  /** Everything committed is announced; answers where the database stands in this very turn. */
  #settle(): TrackedPosition {
    this.#primary?.captureNow()
    return this.tracker.current
  }

  #checksumAt(txid: Txid): Checksum | undefined {
    return this.#store.log.checksumAt(txid)
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
