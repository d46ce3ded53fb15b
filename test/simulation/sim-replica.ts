/**
 * One database on a replica: the real apply pipeline, comparison of histories, divergence reports, snapshot receiver, seed
 * marker and log, on a virtual file.
 *
 * Follows `engine/embedded/replica-mode.ts` step by step: what does not continue is reported and seeded again, a failing
 * disk stops the database until the process is started anew. Order of seeding: report → marker → pages → epoch table → log
 * → marker forgotten. What is modelled: the copy of a file that was changed behind its log.
 */
import type { Clock } from '../../packages/core/src/base/clock.ts'
import { ApplyPipeline } from '../../packages/core/src/engine/embedded/apply-pipeline.ts'
import type { DivergenceReport } from '../../packages/core/src/divergence/divergence-report.ts'
import type { DivergenceStore } from '../../packages/core/src/divergence/divergence-store.ts'
import { findParting, reportParting } from '../../packages/core/src/engine/embedded/parting.ts'
import type { SeedMarker } from '../../packages/core/src/engine/embedded/seed-marker.ts'
import type { PageChecksums } from '../../packages/core/src/ltx/page-checksums.ts'
import { ClusterError, isClusterError } from '../../packages/core/src/errors/cluster-error.ts'
import type { Disk } from '../../packages/core/src/files/disk.ts'
import type { TransactionLog } from '../../packages/core/src/log/transaction-log.ts'
import { type Epoch, epochOf, type EpochTable } from '../../packages/core/src/position/epoch.ts'
import { formatPosition, type Position, ZERO_POSITION } from '../../packages/core/src/position/position.ts'
import type { PositionTracker, TrackedPosition } from '../../packages/core/src/position/position-tracker.ts'
import { nextTxid } from '../../packages/core/src/position/txid.ts'
import { type ReceivedSnapshot, SnapshotReceiver } from '../../packages/core/src/snapshot/snapshot-receiver.ts'
import type { SnapshotIntake, StreamGreeting, StreamReceiver } from '../../packages/core/src/stream/stream-receiver.ts'
import { setJournalMode } from '../../packages/core/src/sqlite-format/first-page.ts'
import type { Sabotage } from './sabotage.ts'
import type { SimProcess } from './sim-process.ts'
import { standingOf } from './sim-standing.ts'
import { PAGE_SIZE, type SqliteImage } from './sqlite-image.ts'
import { VirtualApplier } from './virtual-applier.ts'

export interface SimReplicaParts {
  readonly database: string
  readonly process: SimProcess
  readonly clock: Clock
  readonly disk: Disk
  readonly spoolDirectory: string
  readonly marker: SeedMarker
  readonly reports: DivergenceStore
  readonly sabotage: Sabotage | undefined
  readonly log: TransactionLog
  readonly tracker: PositionTracker
  onEpochs(table: EpochTable): void
  onProgress(): void
  /** The connection in progress is of no use any more. */
  onDiverged(reason: string): void
  /** It takes no more transactions. */
  onStopped(error: unknown): void
  /** A snapshot is about to take the place of what this node has. */
  onReplace(before: SqliteImage, after: SqliteImage, report: DivergenceReport | 'copy' | undefined): void
}

interface SimContact {
  readonly term: Epoch
  readonly isLiteFs: false
  readonly isCaughtUp: boolean
  readonly heardMs: number
}

export class SimReplica implements StreamReceiver {
  readonly #parts: SimReplicaParts
  #pipeline: ApplyPipeline | undefined
  #epochs: EpochTable
  #needsSeed = true
  #stoppedBy: ClusterError | undefined
  #isReadable = false
  #isClosed = false
  /** The file holds commits that its log does not have. */
  #isChanged = false
  /** It is whole, but of another history than the primary's. */
  #isParted = false
  #contact: SimContact | undefined
  /** What was kept of the history that is about to be replaced. */
  #report: DivergenceReport | undefined

  constructor(parts: SimReplicaParts) {
    this.#parts = parts
    this.#epochs = parts.log.epochTable()
  }

  /** Applies what the log has beyond the file. */
  open(): void {
    const { log, process, tracker } = this.#parts
    const { file } = process.machine
    if (file.current.isEmpty) return
    const known = standingOf(file, log, this.#parts.marker)
    if (known === undefined) {
      this.#isChanged = log.tail.position.txid > 0n
      this.#needsSeed = true
      return this.#parts.onDiverged('the log does not know the state of the file')
    }
    const applier = this.#newApplier(known)
    for (let after = known; ; ) {
      const entry = log.readRecord(nextTxid(after.txid))
      if (entry === undefined) break
      applier.apply([entry.record])
      applier.checkpoint()
      after = entry.record.postApply
    }
    this.#pipeline = this.#newPipeline(applier)
    this.#needsSeed = false
    this.#isReadable = true
    tracker.replace(log.tail)
  }

  get contact(): SimContact | undefined {
    return this.#contact
  }

  get isWhole(): boolean {
    return !this.#needsSeed && this.#stoppedBy === undefined && this.#pipeline !== undefined
  }

  /** Whether this node may go on from what it has, when nobody has more. */
  get mayLead(): boolean {
    if (this.#stoppedBy !== undefined) return false
    const { process, log } = this.#parts
    const isNew = process.machine.file.current.isEmpty && log.tail.position.txid === 0n
    return !this.#needsSeed || this.#isChanged || this.#isParted || isNew
  }

  async settled(): Promise<void> {
    await this.#pipeline?.settled()
  }

  get isReadable(): boolean {
    return this.#isReadable
  }

  get isStopped(): boolean {
    return this.#stoppedBy !== undefined
  }

  position(): Position {
    if (this.#stoppedBy !== undefined) throw this.#stoppedBy
    return this.#needsSeed || this.#pipeline === undefined ? ZERO_POSITION : this.#pipeline.position
  }

  epoch(): Epoch {
    return this.#parts.log.tail.epoch
  }

  async connected(greeting: StreamGreeting): Promise<void> {
    const { log, onEpochs } = this.#parts
    this.#contact = {
      term: greeting.term,
      isLiteFs: false,
      isCaughtUp: false,
      heardMs: this.#parts.clock.monotonicMs(),
    }
    await this.#pipeline?.settled()
    if (this.#isClosed) return
    if (this.#parts.sabotage === 'gives-up-without-report') this.#needsSeed ||= greeting.seed !== undefined
    else await this.#comparePasts(greeting)
    this.#epochs = greeting.epochs ?? []
    if (this.#epochs.length === 0) return
    onEpochs(this.#epochs)
    if (!this.#needsSeed) log.adoptEpochTable(this.#epochs)
  }

  async differenceBase(): Promise<PageChecksums | undefined> {
    const { process } = this.#parts
    const { file } = process.machine
    if (!this.#needsSeed || this.#stoppedBy !== undefined || file.current.isEmpty) return undefined
    await this.#pipeline?.stop()
    return this.#isClosed ? undefined : file.current.checksums
  }

  records(ltx: readonly Buffer[]): void | Promise<void> {
    if (this.#pipeline === undefined || this.#needsSeed) {
      throw new ClusterError('STREAM_FAILED', 'records arrived before a snapshot')
    }
    return this.#pipeline.accept(ltx)
  }

  beginSnapshot(base?: PageChecksums): SnapshotIntake {
    const { disk, spoolDirectory } = this.#parts
    const receiver = new SnapshotReceiver(disk, spoolDirectory, base)
    return {
      data: (chunk) => receiver.data(chunk),
      finish: async () => this.#installOrStop(await receiver.finish()),
      abort: () => receiver.abort(),
    }
  }

  heartbeat(): void {
    if (this.#contact !== undefined) this.#contact = { ...this.#contact, heardMs: this.#parts.clock.monotonicMs() }
  }

  ready(): void {
    if (this.#contact !== undefined) this.#contact = { ...this.#contact, isCaughtUp: true }
    this.heartbeat()
  }

  dropped(): void {}

  get durableInDatabase(): Position {
    return this.#pipeline?.checkpointed ?? ZERO_POSITION
  }

  /** Finishes what was received. */
  async close(): Promise<void> {
    this.#isClosed = true
    await this.#pipeline?.stop()
  }

  #newApplier(position: Position): VirtualApplier {
    const { process } = this.#parts
    return new VirtualApplier(process.machine.file, position, () => process.passing('before-apply'))
  }

  #newPipeline(applier: VirtualApplier): ApplyPipeline {
    const { database, clock, log, tracker, onProgress, sabotage } = this.#parts
    return new ApplyPipeline({
      database,
      clock,
      log,
      applier: sabotage === 'announces-before-apply' ? this.#tooEarly(applier) : applier,
      tracker,
      epochOf: (record) => epochOf(this.#epochs, record.txid),
      onVisible: () => undefined,
      onProgress,
      fail: (error) => this.#fail(error),
    })
  }

  /** For `announces-before-apply`. */
  #tooEarly(applier: VirtualApplier): Pick<VirtualApplier, keyof VirtualApplier> {
    const { tracker } = this.#parts
    return {
      needsPause: false,
      walBytes: 0,
      get position() {
        return applier.position
      },
      checkpoint: () => applier.checkpoint(),
      settled: () => applier.settled(),
      apply: (records) => {
        tracker.advance(
          records.map(({ postApply, txid }) => ({ position: postApply, epoch: epochOf(this.#epochs, txid) })),
        )
        applier.apply(records)
      },
    }
  }

  #fail(error: unknown): void {
    if (isClusterError(error, 'CORRUPT_DATA') || isClusterError(error, 'POSITION_DIVERGED')) this.#diverge(error)
    else this.#stop(error)
  }

  #stop(error: unknown): void {
    this.#stoppedBy = new ClusterError('DATABASE_STOPPED', `database "${this.#parts.database}" takes no more`, {
      cause: error,
    })
    this.#parts.onStopped(error)
  }

  #diverge(error: unknown): void {
    this.#needsSeed = true
    this.#parts.onDiverged(error instanceof Error ? error.message : String(error))
  }

  async #comparePasts(greeting: StreamGreeting): Promise<void> {
    const { database, log, reports, clock } = this.#parts
    const parting = findParting(log, greeting)
    if (parting === undefined) {
      if (greeting.seed !== undefined) this.#needsSeed = true
      return
    }
    this.#report = await reportParting(database, log, reports, parting, greeting, clock.nowMs())
    this.#isParted ||= !this.#needsSeed
    this.#needsSeed = true
  }

  async #installOrStop(snapshot: ReceivedSnapshot): Promise<void> {
    try {
      await this.#install(snapshot)
    } catch (error) {
      if (isClusterError(error, 'STORAGE_FAILED') || isClusterError(error, 'DATABASE_STOPPED')) this.#stop(error)
      throw error
    }
  }

  async #install(snapshot: ReceivedSnapshot): Promise<void> {
    const { log, tracker, process, disk, onReplace, onProgress } = this.#parts
    const { file } = process.machine
    const { position } = snapshot
    const at: TrackedPosition = { position, epoch: epochOf(this.#epochs, position.txid) }
    await this.#pipeline?.stop()
    this.#needsSeed = true
    const image = this.#imageOf(snapshot)
    if (image.checksum !== position.checksum)
      throw new Error(`a snapshot of ${formatPosition(position)} has another checksum`)
    this.#parts.marker.note({ ...at, epochs: this.#epochs })
    const isCopy = this.#isChanged
    this.#isParted = false
    this.#isChanged = false
    process.passing('before-apply')
    onReplace(file.current, image, isCopy ? 'copy' : this.#report)
    file.replace(image)
    if (this.#epochs.length > 0) log.adoptEpochTable(this.#epochs)
    log.reset(at)
    disk.remove('seed.remove-spool', snapshot.databaseFile)
    this.#pipeline = this.#newPipeline(this.#newApplier(position))
    this.#parts.marker.forget()
    this.#report = undefined
    this.#needsSeed = false
    this.#isReadable = true
    tracker.replace(at)
    onProgress()
  }

  /** Pages that differ come from the spool, the others are those that are here. */
  #imageOf({ databaseFile, checksums }: ReceivedSnapshot): SqliteImage {
    const { disk, process } = this.#parts
    const { current } = process.machine.file
    const fd = disk.open('seed.open-spool', databaseFile, 'r')
    try {
      const changed = new Map<number, Buffer>()
      for (const pgno of checksums.differingFrom(current.checksums)) {
        const page = Buffer.alloc(PAGE_SIZE)
        disk.read('seed.read-spool', fd, page, 0, PAGE_SIZE, (pgno - 1) * PAGE_SIZE)
        // The spool is in WAL mode; the databases of a simulation live in memory, where SQLite knows none.
        if (pgno === 1) setJournalMode(page, 0, 'rollback')
        changed.set(pgno, page)
      }
      return current.with(changed, checksums.pageCount)
    } finally {
      disk.close('seed.close-spool', fd)
    }
  }
}
