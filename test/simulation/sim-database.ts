/**
 * One database of a simulated node, and the mode it is in; what `EmbeddedDatabase` is in a real one.
 */
import type { Clock } from '../../packages/core/src/base/clock.ts'
import type { CommittedWrite, LocalResolve, LocalWrite, ResolvedWrite } from '../../packages/core/src/engine/engine.ts'
import { SeedMarker } from '../../packages/core/src/engine/embedded/seed-marker.ts'
import { ClusterError } from '../../packages/core/src/errors/cluster-error.ts'
import type { DivergenceReport } from '../../packages/core/src/divergence/divergence-report.ts'
import { DivergenceStore } from '../../packages/core/src/divergence/divergence-store.ts'
import type { Disk } from '../../packages/core/src/files/disk.ts'
import type { ResolvedLogOptions } from '../../packages/core/src/log/log-options.ts'
import { TransactionLog } from '../../packages/core/src/log/transaction-log.ts'
import type { PageChecksums } from '../../packages/core/src/ltx/page-checksums.ts'
import { type Epoch, epochOf, type EpochTable, NO_EPOCH } from '../../packages/core/src/position/epoch.ts'
import { type Position, ZERO_POSITION } from '../../packages/core/src/position/position.ts'
import { PositionTracker, type TrackedPosition } from '../../packages/core/src/position/position-tracker.ts'
import type { DatabaseStanding, ReplicaReport } from '../../packages/core/src/position/replica-report.ts'
import type { Txid } from '../../packages/core/src/position/txid.ts'
import type { DatabaseName } from '../../packages/core/src/request/database-name.ts'
import type { SnapshotSpool } from '../../packages/core/src/stream/snapshot-spool.ts'
import type { LogRead, StreamableDatabase } from '../../packages/core/src/stream/streamable-database.ts'
import { ProcedureTable } from '../../packages/core/src/write/procedure-table.ts'
import type { SimProcess } from './sim-process.ts'
import { canContinue } from './sim-standing.ts'
import { SimPrimary, type SimPrimaryParts } from './sim-primary.ts'
import { SimReplica } from './sim-replica.ts'
import type { SqliteImage } from './sqlite-image.ts'
import { differenceOf, snapshotOf } from './virtual-snapshot.ts'

export interface SimDatabaseParts
  extends Pick<
    SimPrimaryParts,
    | 'requestIds'
    | 'sabotage'
    | 'ledger'
    | 'queue'
    | 'nodeId'
    | 'schema'
    | 'commitFault'
    | 'requirePrimary'
    | 'onHistoryRestarted'
  > {
  readonly name: DatabaseName
  readonly process: SimProcess
  readonly clock: Clock
  readonly disk: Disk
  readonly logOptions: ResolvedLogOptions
  onProgress(): void
  onEpochs(table: EpochTable): void
  onRestartStream(): void
  onStopped(error: unknown): void
  onReplace(before: SqliteImage, after: SqliteImage, report: DivergenceReport | 'copy' | undefined): void
}

const DIRECTORY = '/data/main/dbs/app.db'
const LOG_DIRECTORY = `${DIRECTORY}/log`
const SPOOL_DIRECTORY = `${DIRECTORY}/spool`

export class SimDatabase implements StreamableDatabase {
  readonly name: DatabaseName
  readonly tracker: PositionTracker
  readonly procedures = new ProcedureTable()
  readonly log: TransactionLog
  readonly reports: DivergenceStore
  readonly marker: SeedMarker
  primary: SimPrimary | undefined
  replica: SimReplica | undefined
  readonly #parts: SimDatabaseParts

  /** Opens the log, with the repairs that it makes. */
  constructor(parts: SimDatabaseParts) {
    const { name, disk, clock, logOptions } = parts
    this.#parts = parts
    this.name = name
    for (const file of disk.list('spool.sweep', SPOOL_DIRECTORY))
      disk.remove('spool.sweep', `${SPOOL_DIRECTORY}/${file}`)
    this.log = TransactionLog.open({ disk, directory: LOG_DIRECTORY, options: logOptions, clock })
    this.marker = new SeedMarker(disk, DIRECTORY)
    this.reports = new DivergenceStore(disk, DIRECTORY, () => undefined)
    this.tracker = new PositionTracker({
      database: name,
      clock,
      initial: { position: ZERO_POSITION, epoch: NO_EPOCH },
      checksumAt: (txid) => this.log.checksumAt(txid),
      epochAt: (txid) => epochOf(this.log.epochTable(), txid),
    })
  }

  get isPrimary(): boolean {
    return this.primary !== undefined
  }

  /** A read here shows something. */
  get isReadable(): boolean {
    return this.primary !== undefined || this.replica?.isReadable === true
  }

  get receiver(): SimReplica | undefined {
    return this.replica
  }

  /** What the stream delivered is not under way any more. */
  async settled(): Promise<void> {
    await this.replica?.settled()
    await this.log.sync()
  }

  get contact(): SimReplica['contact'] {
    return this.replica?.contact
  }

  standing(): DatabaseStanding {
    return { ...this.report(), isWhole: this.primary !== undefined || this.replica?.isWhole === true }
  }

  /** Throws `COPY_NOT_WHOLE`. */
  requireWhole(): void {
    if (this.replica?.mayLead !== false) return
    throw new ClusterError('COPY_NOT_WHOLE', `database "${this.name}": this node has no whole copy of it`)
  }

  /** As the primary it was when it stopped: what it committed and could not log is logged in that epoch, where that can be proved. */
  #logOwnCommits(lastOffice: Epoch): void {
    const { process } = this.#parts
    const { file } = process.machine
    const wasPrimary = lastOffice !== NO_EPOCH && this.log.epochTable().at(-1)?.epoch === lastOffice
    if (!wasPrimary || file.current.isEmpty || !canContinue(file, this.log, this.marker)) return
    this.#newPrimary(lastOffice).close()
  }

  /** @param lastOffice the epoch in which this node was in office last */
  openAsReplica(lastOffice: Epoch): void {
    this.#logOwnCommits(lastOffice)
    this.replica = new SimReplica({
      ...this.#common(),
      disk: this.#parts.disk,
      spoolDirectory: SPOOL_DIRECTORY,
      onEpochs: (table) => this.#parts.onEpochs(table),
      onProgress: () => this.#parts.onProgress(),
      onDiverged: () => this.#parts.onRestartStream(),
      onStopped: (error) => this.#parts.onStopped(error),
      reports: this.reports,
      sabotage: this.#parts.sabotage,
      onReplace: (before, after, report) => this.#parts.onReplace(before, after, report),
    })
    this.replica.open()
  }

  /** From whatever mode it was in. */
  async openAsPrimary(epoch: Epoch): Promise<void> {
    await this.closeMode()
    this.primary = this.#newPrimary(epoch)
    this.primary.announce()
  }

  #newPrimary(epoch: Epoch): SimPrimary {
    return new SimPrimary(
      {
        ...this.#parts,
        ...this.#common(),
        procedures: this.procedures,
        onFailure: (error) => this.#parts.onStopped(error),
      },
      epoch,
    )
  }

  async closeMode(): Promise<void> {
    const { primary, replica } = this
    this.primary = undefined
    this.replica = undefined
    primary?.close()
    await replica?.close()
  }

  async write(write: LocalWrite): Promise<CommittedWrite> {
    this.#parts.requirePrimary()
    if (this.primary === undefined) {
      throw new ClusterError('NOT_PRIMARY', `database "${this.name}" is a replica's on this node`)
    }
    return this.primary.write(write)
  }

  async resolve(question: LocalResolve): Promise<ResolvedWrite> {
    this.#parts.requirePrimary()
    if (this.primary === undefined) {
      throw new ClusterError('NOT_PRIMARY', `database "${this.name}" is a replica's on this node`)
    }
    return this.primary.resolve(question)
  }

  report(): ReplicaReport {
    const { position } = this.tracker.current
    const durable = this.#parts.sabotage === 'reports-before-sync' ? this.log.tail : this.log.syncedTail
    const applied = position.txid <= durable.position.txid ? position : durable.position
    return { database: this.name, epoch: durable.epoch, durable: durable.position, applied }
  }

  tail(): TrackedPosition {
    return this.tracker.current
  }

  epochTable(): EpochTable {
    return this.log.epochTable()
  }

  readAfter(after: Position, maxBytes: number): LogRead {
    return this.log.readAfter(after, maxBytes)
  }

  async openSnapshot(signal: AbortSignal): Promise<SnapshotSpool> {
    signal.throwIfAborted()
    this.primary?.captureNow()
    const { clock, nodeId, process } = this.#parts
    return snapshotOf(process.machine.file.current, this.tracker.current.position, clock.nowMs(), nodeId)
  }

  async openDifference(from: PageChecksums, signal: AbortSignal): Promise<SnapshotSpool | undefined> {
    signal.throwIfAborted()
    this.primary?.captureNow()
    const { clock, nodeId, process } = this.#parts
    const { position } = this.tracker.current
    if (position.txid < 2n) return undefined
    return differenceOf(process.machine.file.current, from, position, clock.nowMs(), nodeId)
  }

  openImage(): Promise<SnapshotSpool> {
    return Promise.reject(new ClusterError('STREAM_FAILED', 'nobody asks for an image here'))
  }

  onAdvance(listener: () => void): () => void {
    return this.tracker.onAdvance(listener)
  }

  prune(keepAfter: Txid | undefined): void {
    if (this.primary?.isStopped === true || this.replica?.isStopped === true) return
    const durable =
      this.primary === undefined ? this.replica?.durableInDatabase.txid : this.tracker.current.position.txid
    if (durable !== undefined) this.log.prune({ keepAfter, durableInDatabase: durable })
  }

  async close(): Promise<void> {
    this.tracker.close()
    await this.closeMode()
    await this.log.close()
  }

  #common() {
    const { name, process, clock } = this.#parts
    return { database: name, process, clock, log: this.log, marker: this.marker, tracker: this.tracker }
  }
}
