/**
 * One database on a replica: what the stream delivers becomes log records and visible pages.
 *
 * Three situations, in this order of life:
 * - no file yet, or one that gave up its history: the stream is asked from position zero, which makes the primary send a snapshot;
 * - seeding: the snapshot is received into a spool file, then takes the database's place, or, where the page size allows,
 *   its differing pages are applied as one commit, so that readers keep their connections and snapshots;
 * - following: records pass through the apply pipeline.
 *
 * Divergence (I10): what only this node has is kept in a report (parting.ts), durable before anything of it is given up; then the
 * database is seeded again. It never continues. So is one whose pages do not give a record's checksum, or whose file was changed
 * behind its log. A failing disk is no divergence: the database stops.
 * Order of seeding: report → marker → pages, durable → epoch table → log → marker forgotten. The table goes first: once the log knows the
 * state of the file nobody asks the marker any more.
 * After a crash: see `recovery.ts`; a spool file is garbage and is removed at the next start; the marker (seed-marker.ts) says what
 * a half-seeded database is.
 */
import { resolveApplyOptions } from '../../apply/apply-options.ts'
import { ReplicaWriteLock } from '../../apply/replica-write-lock.ts'
import { WalApplier } from '../../apply/wal-applier.ts'
import { assert } from '../../base/assert.ts'
import { ClusterError, isClusterError } from '../../errors/cluster-error.ts'
import type { DivergenceStore } from '../../divergence/divergence-store.ts'
import type { FileIdentity } from '../../files/disk.ts'
import type { TransactionLog } from '../../log/transaction-log.ts'
import { parseLtxHeader } from '../../ltx/ltx-header.ts'
import { decodeLtxRecord } from '../../ltx/ltx-record.ts'
import type { PageChecksums } from '../../ltx/page-checksums.ts'
import { type Epoch, epochOf, type EpochTable, NO_EPOCH } from '../../position/epoch.ts'
import { formatPosition, type Position, samePosition, ZERO_POSITION } from '../../position/position.ts'
import type { PositionTracker, TrackedPosition } from '../../position/position-tracker.ts'
import { nextTxid } from '../../position/txid.ts'
import { type ReceivedSnapshot, SnapshotReceiver } from '../../snapshot/snapshot-receiver.ts'
import type { Connection } from '../../sqlite/connection.ts'
import { isBusy, isSqliteError, isUnreadable } from '../../sqlite/sqlite-error.ts'
import type { SnapshotIntake, StreamGreeting, StreamReceiver } from '../../stream/stream-receiver.ts'
import { ApplyPipeline } from './apply-pipeline.ts'
import type { ClosingState, DatabaseStore, KnownFile, OpenFile, OpenFileOptions } from './database-store.ts'
import { reportChangedCopy } from './changed-copy.ts'
import { findParting, findPartingBySnapshot, reportParting } from './parting.ts'
import type { Standing } from './recovery.ts'
import { replacePages } from './replace-pages.ts'

export interface ReplicaModeOptions {
  readonly store: DatabaseStore
  readonly reports: DivergenceStore
  readonly tracker: PositionTracker
  /**
   * The node lives on with this mode: a file that SQLite cannot open any more is moved away and fetched anew, and on a disk without room
   * what is there is served. Else `open` throws.
   */
  readonly isLasting: boolean
  /** The database can be read from now on. */
  onReady(): void
  /** It cannot, or not any more, until a snapshot came. */
  onSeeding(reason: string): void
  /** It is served as it is; nothing more can be taken in. */
  onStopped(reason: string): void
  /** The connection in progress is of no use any more. */
  onDiverged(): void
  /** Log or database moved on. */
  onProgress(): void
  /** Closes every reader of the old file before another takes its place. */
  closeReaders(): Promise<void>
  /** The primary's epochs were seen: this node must never use a smaller one. */
  onEpochs(table: EpochTable): void
}

const DROP_BYTES_MAX = 256

export class ReplicaMode implements StreamReceiver {
  readonly #options: ReplicaModeOptions
  #applying: Applying | undefined
  /** The primary's table as of this connection; this node's own for a LiteFS primary, which has none. */
  #epochs: EpochTable
  #primaryTimeMs = 0
  #isCaughtUp = false
  /** What is on disk belongs to another history, or cannot be gone on from: only a snapshot or a difference helps. */
  #needsSeed = true
  /** The file was changed by something that left no record: what stood in it is reported when it is replaced. */
  #isChanged = false
  /** The copy is whole, but of another history than the primary's. */
  #isParted = false
  #contact: Contact | undefined
  /** The report of what is here and not in the primary's history. */
  #reportId: string | undefined
  #stoppedBy: ClusterError | undefined
  #closed = false

  constructor(options: ReplicaModeOptions) {
    this.#options = options
    this.#epochs = options.store.log.epochTable()
  }

  /**
   * Opens what is on disk and applies what the log has beyond it. Without a usable copy it waits to be seeded. A file that is open already
   * stays so, under its readers.
   * @param known where an open file stood when whoever had its write lock gave it back
   */
  async open(known?: KnownFile): Promise<void> {
    const { store, onSeeding, tracker } = this.#options
    if (!store.hasFile()) return onSeeding('there is no copy on this node yet')
    let standing: Standing
    try {
      standing = await (store.isFileOpen ? this.#examine(known) : this.#openFile(undefined))
    } catch (error) {
      // A file that was never this node's is somebody's: it is refused, and stays.
      const isOurs = store.log.tail.position.txid > 0n
      if (!isNoDatabase(error) || !isOurs || !this.#options.isLasting) throw error
      return this.#giveUpFile(error)
    }
    try {
      this.#follow(standing)
    } catch (error) {
      // No room for what the log has beyond the file: what is there is served, and it is tried again.
      const applying = this.#applying
      if (applying === undefined || !isOfDisk(error) || !this.#options.isLasting) throw error
      const { position } = applying.applier
      tracker.replace({ position, epoch: epochOf(store.log.epochTable(), position.txid) })
      this.#stop(error)
    }
  }

  /** After the disk failed: finds out where file and log stand, as at a start, under readers. When it throws it may be tried again. */
  async openAgain(): Promise<void> {
    const { store, onDiverged } = this.#options
    await this.#applying?.pipeline.stop()
    if (!store.log.isUsable) await store.reopenLog()
    if (store.isFileOpen) {
      this.#stopApplying() // with the write lock, so that SQLite can put a half-written index right
      try {
        this.#follow(await this.#examine(undefined))
      } catch (error) {
        if (!isNoDatabase(error)) throw error
        await this.#giveUpFile(error)
      }
    } else {
      await this.open()
    }
    this.#stoppedBy = undefined
    store.options.warn('resumed', `database "${store.options.name}" takes transactions again`, {
      position: formatPosition(store.log.tail.position),
    })
    onDiverged() // the stream begins anew, from the position that is true now
  }

  /** Of a file that is open: where it stands, with the write lock taken for good. */
  #examine(known: KnownFile | undefined): Promise<Standing> {
    const takeLock = ReplicaWriteLock.take
    return this.#options.store.examine({ known, takeLock, releaseLock: (lock) => lock.release() }, (...found) =>
      this.#beginApplying(...found),
    )
  }

  /** The file is of no use: it is moved out of the way, and the primary sends another one. */
  async #giveUpFile(error: unknown): Promise<void> {
    const { store, onSeeding, closeReaders } = this.#options
    if (store.isFileOpen) {
      await closeReaders()
      this.#stopApplying()
      store.closeFile(undefined)
    }
    const reason = messageOf(error)
    const file = store.setAside()
    store.options.warn(
      'set-aside',
      `database "${store.options.name}": its file is damaged, was moved to ${file}, and is fetched anew`,
      {
        file,
        reason,
      },
    )
    this.#needsSeed = true
    onSeeding(reason)
  }

  #follow(standing: Standing): void {
    const { store, onReady, tracker } = this.#options
    const applying = this.#applying
    assert(applying !== undefined, 'an open file has its applier')
    if (standing.kind === 'known') {
      try {
        applyLogged(applying.applier, store.log, standing.position)
      } catch (error) {
        if (!isClusterError(error, 'CORRUPT_DATA') && !isClusterError(error, 'POSITION_DIVERGED')) throw error
        return this.#diverge(error)
      }
    } else {
      this.#isChanged = standing.kind === 'unknown'
      return this.#diverge(
        new ClusterError('POSITION_DIVERGED', 'the file on this node is in a state that its log does not know'),
      )
    }
    this.#needsSeed = false
    tracker.replace(store.log.tail)
    onReady()
  }

  /** Where the stream must continue. */
  position(): Position {
    if (this.#stoppedBy !== undefined) throw this.#stoppedBy
    if (this.#needsSeed || this.#applying === undefined) return ZERO_POSITION
    return this.#applying.pipeline.position
  }

  epoch(): Epoch {
    return this.#options.store.log.tail.epoch
  }

  async connected(greeting: StreamGreeting): Promise<void> {
    const { store, onEpochs } = this.#options
    this.#isCaughtUp = false
    const isLiteFs = greeting.kind === 'litefs'
    this.#contact = { term: greeting.term, isLiteFs, isCaughtUp: false, heardMs: store.options.clock.monotonicMs() }
    // What the connection before delivered is in the log before histories are compared.
    await this.#applying?.pipeline.settled()
    if (this.#closed) return
    // Also while it waits to be seeded: this may be another primary, which lacks what the one before had.
    await this.#comparePasts(greeting)
    // What a LiteFS primary writes counts to the epoch it found.
    this.#epochs = isLiteFs ? store.log.epochTable() : (greeting.epochs ?? [])
    if (this.#epochs.length === 0) return
    onEpochs(this.#epochs)
    // Until this node is seeded its log is of the old history, and so is its table.
    if (!this.#needsSeed) store.log.adoptEpochTable(this.#epochs)
  }

  async differenceBase(): Promise<PageChecksums | undefined> {
    const applying = this.#applying
    if (!this.#needsSeed || this.#stoppedBy !== undefined || applying === undefined) return undefined
    await applying.pipeline.stop()
    return this.#closed ? undefined : applying.applier.checksums
  }

  records(ltx: readonly Buffer[]): void | Promise<void> {
    if (this.#applying === undefined || this.#needsSeed)
      throw new ClusterError('STREAM_FAILED', 'records arrived before a snapshot')
    const drop = ltx.findIndex(isDrop)
    // What does not continue our position, or is damaged, ends the connection; the primary then decides by our true position.
    return drop < 0 ? this.#applying.pipeline.accept(ltx) : this.#recordsAndDrop(this.#applying.pipeline, ltx, drop)
  }

  async #recordsAndDrop(pipeline: ApplyPipeline, ltx: readonly Buffer[], at: number): Promise<void> {
    const record = decodeLtxRecord(ltx[at]!)
    await pipeline.accept(ltx.slice(0, at))
    await pipeline.settled()
    const { tail } = this.#options.store.log
    if (!samePosition(record.preApply, tail.position))
      throw new ClusterError('POSITION_DIVERGED', 'the database is dropped from another position')
    await this.#drop()
    // It was made again at once: as a whole, over a new connection.
    if (at + 1 < ltx.length) throw new ClusterError('STREAM_FAILED', 'the database was dropped and made again')
  }

  /** The primary, a LiteFS node, dropped the database. It may come again, as a snapshot. */
  async #drop(): Promise<void> {
    const { store, tracker, closeReaders, onSeeding } = this.#options
    await this.#applying?.pipeline.stop()
    this.#needsSeed = true
    this.#isChanged = false
    this.#isParted = false
    if (store.isFileOpen) {
      await closeReaders()
      this.#stopApplying()
      store.closeFile(undefined)
    }
    if (store.hasFile()) {
      store.removeFile()
      store.options.warn('dropped', `database "${store.options.name}" was dropped by the primary, and is gone here`, {})
    }
    const nothing = { position: ZERO_POSITION, epoch: NO_EPOCH }
    store.log.reset(nothing)
    tracker.replace(nothing)
    onSeeding('the primary dropped it')
  }

  beginSnapshot(base?: PageChecksums): SnapshotIntake {
    const { store } = this.#options
    this.#warnSeededAgain()
    const receiver = new SnapshotReceiver(store.options.disk, store.spoolDirectory, base)
    return {
      data: (chunk) => receiver.data(chunk),
      finish: async () => this.#installOrStop(await receiver.finish()),
      abort: () => receiver.abort(),
    }
  }

  heartbeat(timestampMs: number): void {
    this.#primaryTimeMs = Math.max(this.#primaryTimeMs, timestampMs)
    this.#heard()
  }

  ready(): void {
    this.#isCaughtUp = true
    this.#heard()
  }

  #heard(): void {
    if (this.#contact === undefined) return
    const heardMs = this.#options.store.options.clock.monotonicMs()
    this.#contact = { ...this.#contact, isCaughtUp: this.#isCaughtUp, heardMs }
  }

  /** With the last primary that answered in this process. */
  get contact(): Contact | undefined {
    return this.#contact
  }

  /** It can be read from and sent on: the copy is that of the log. */
  get isWhole(): boolean {
    return !this.#needsSeed && this.#stoppedBy === undefined && this.#applying !== undefined
  }

  /** There never was anything here. */
  get isEmpty(): boolean {
    const { store } = this.#options
    return this.#applying === undefined && store.log.tail.position.txid === 0n && !store.hasFile()
  }

  /** Resolves when nothing that was delivered is under way any more. */
  async settled(): Promise<void> {
    await this.#applying?.pipeline.settled()
  }

  dropped(): void {
    // The primary does not have this database, or not yet. Nothing on this node is given up for that.
  }

  /** Age of what is served, in ms, by the primary's clock; `undefined` while that is not known. */
  lagMs(nowMs: number): number | undefined {
    if (this.#needsSeed || this.#primaryTimeMs === 0 || !this.#isCaughtUp) return undefined
    return Math.max(0, nowMs - this.#primaryTimeMs)
  }

  get walFrames(): number {
    return this.#applying?.applier.walFrames ?? 0
  }

  get pageCount(): number | undefined {
    return this.#applying?.applier.checksums.pageCount
  }

  /** The newest transaction that the database file itself durably holds, for the retention of the log. */
  get durableInDatabase(): Position {
    return this.#applying?.pipeline.checkpointed ?? ZERO_POSITION
  }

  /**
   * Ends following on a node that takes office, under readers: what was received is applied, the file stays open, its write lock is free.
   * @returns where it stands, which is the end of the log; `undefined` when it was changed by something that left no record
   * @throws ClusterError `DATABASE_STOPPED`, `COPY_NOT_WHOLE`: then nothing has changed
   */
  async release(): Promise<KnownFile | undefined> {
    await this.settled()
    const applying = this.#applying
    if (this.#stoppedBy !== undefined) throw this.#stoppedBy
    const mayLead = !this.#needsSeed || this.#isChanged || this.#isParted
    if (!mayLead || applying === undefined) throw this.#notWhole()
    this.#closed = true
    await applying.pipeline.stop()
    const { position, checksums, header } = applying.applier
    this.#stopApplying()
    return this.#isChanged ? undefined : { position, checksums, header }
  }

  #notWhole(): ClusterError {
    const { name } = this.#options.store.options
    return new ClusterError('COPY_NOT_WHOLE', `database "${name}": this node has no whole copy of it`, {
      details: { database: name },
      hint: 'It is being fetched from another node. A node without it must not become primary; another one can.',
    })
  }

  /** Finishes what was received, then gives the write lock back. Answers what the closing of the file may save. */
  async close(): Promise<ClosingState | undefined> {
    if (this.#closed) return undefined
    this.#closed = true
    const { tail } = this.#options.store.log
    const applying = this.#applying
    if (applying === undefined) return undefined
    await applying.pipeline.stop()
    const { position, checksums } = applying.applier
    const isWhole = !this.#needsSeed && this.#stoppedBy === undefined && samePosition(position, tail.position)
    try {
      const identity = isWhole ? await this.#copyBack(applying.applier) : undefined
      return identity === undefined ? undefined : { position, epoch: tail.epoch, checksums, identity }
    } finally {
      this.#stopApplying()
    }
  }

  /** Under the write lock: everything is copied back into the file. Answers the file as it is then; `undefined` when readers are in the way. */
  async #copyBack(applier: WalApplier): Promise<FileIdentity | undefined> {
    const { disk } = this.#options.store.options
    while (applier.walFrames > 0) {
      const { kind } = applier.checkpoint({ force: true })
      if (kind === 'busy') return undefined
      if (kind === 'restarted' || kind === 'backfilled') break
      await new Promise((resolve) => setImmediate(resolve))
    }
    return disk.identity('store.look', this.#options.store.databasePath)
  }

  /** Opens the file and the applier on it; the write lock is taken before the file is looked at and kept for good. */
  #openFile(known: OpenFileOptions<unknown>['known']): Promise<Standing> {
    const { store } = this.#options
    const takeLock = ReplicaWriteLock.take
    return store.openFile({ known, takeLock }, (...found) => this.#beginApplying(...found))
  }

  #beginApplying(file: OpenFile, standing: Standing, lock: ReplicaWriteLock): Standing {
    const { clock } = this.#options.store.options
    const { files, pageSize, checksums } = file
    const checkpointer = file.connect({ synchronous: 'normal' })
    try {
      const position = standing.kind === 'known' ? standing.position : ZERO_POSITION
      const options = resolveApplyOptions()
      const applier = WalApplier.open({ files, checkpointer, checksums, position, pageSize, options, clock, lock })
      this.#applying = { checkpointer, applier, pipeline: this.#newPipeline(applier) }
      return standing
    } catch (error) {
      checkpointer.close()
      throw error
    }
  }

  #newPipeline(applier: WalApplier): ApplyPipeline {
    const { store, tracker, onProgress } = this.#options
    return new ApplyPipeline({
      database: store.options.name,
      clock: store.options.clock,
      log: store.log,
      applier,
      tracker,
      epochOf: (record) => epochOf(this.#epochs, record.txid),
      onVisible: (committedAtMs) => this.heartbeat(committedAtMs),
      onProgress,
      fail: (error) => this.#fail(error),
    })
  }

  #stopApplying(): void {
    this.#applying?.applier.close()
    this.#applying?.checkpointer.close()
    this.#applying = undefined
  }

  /**
   * I10: is this node's history a part of the primary's? If it is not, what only this node has is kept, and the node is seeded.
   * Rejects when it cannot be kept (full disk): then nothing changes, and the next connection tries again.
   */
  async #comparePasts(greeting: StreamGreeting): Promise<void> {
    const { store, reports } = this.#options
    const parting = findParting(store.log, greeting)
    if (parting === undefined) {
      if (greeting.seed === undefined || this.#needsSeed) return
      this.#warnSeededAgain()
      this.#needsSeed = true
      return
    }
    const { name, clock } = store.options
    const report = await reportParting(name, store.log, reports, parting, greeting, clock.nowMs())
    if (report.id === this.#reportId) return
    this.#reportId = report.id
    this.#isParted = !this.#needsSeed
    this.#setDiverged(
      new ClusterError(
        'POSITION_DIVERGED',
        `${parting.reason}: its own history ends at ${formatPosition(report.here)}`,
      ),
      { report: reports.directoryOf(report.id), transactions: report.transactions, requests: report.requests },
    )
  }

  /** I10: this node had a history, and the primary answers it with a snapshot. */
  #warnSeededAgain(): void {
    const { store, tracker } = this.#options
    const { position } = tracker.current
    if (position.txid === 0n || this.#needsSeed) return
    store.options.warn(
      'seeded-again',
      `database "${store.options.name}": the primary no longer has the transactions that follow ${formatPosition(position)}; the copy here is brought up to date page by page`,
      {
        position: formatPosition(position),
        epoch: tracker.current.epoch,
      },
    )
  }

  /** The log or the database cannot be written to: what is there is served, nothing more is taken. */
  #stop(error: unknown): void {
    const { store, onStopped } = this.#options
    // A header that is half written makes readers wait for whoever recovers it, and only without our lock they can.
    if (this.#applying?.applier.isUsable === false) this.#applying.applier.close()
    this.#stoppedBy = new ClusterError(
      'DATABASE_STOPPED',
      `database "${store.options.name}" takes no more transactions on this node`,
      {
        cause: error,
        details: { reason: messageOf(error) },
        hint: 'Remove the cause (is the disk full?): the node tries by itself, and goes on from what it has.',
      },
    )
    store.options.warn('stopped', this.#stoppedBy.message, { reason: messageOf(error) })
    onStopped(messageOf(error))
  }

  #fail(error: unknown): void {
    if (isClusterError(error, 'CORRUPT_DATA') || isClusterError(error, 'POSITION_DIVERGED')) this.#diverge(error)
    else this.#stop(error)
  }

  /** I10: said, then seeded again; the connection in progress ends by the error that led here, or finds position zero. */
  #diverge(error: unknown): void {
    if (this.#needsSeed && this.#applying === undefined) return
    this.#setDiverged(error, {})
    this.#options.onDiverged()
  }

  #setDiverged(error: unknown, details: Readonly<Record<string, unknown>>): void {
    const { store, tracker, onSeeding } = this.#options
    this.#needsSeed = true
    const reason = messageOf(error)
    store.options.warn('diverged', `database "${store.options.name}": seeded again, because ${reason}`, {
      position: formatPosition(tracker.current.position),
      log: formatPosition(store.log.tail.position),
      reason,
      ...details,
    })
    onSeeding(reason)
  }

  /** What a disk that fails in the middle leaves is found out when the database is opened again. */
  async #installOrStop(snapshot: ReceivedSnapshot): Promise<void> {
    try {
      await this.#install(snapshot)
    } catch (error) {
      if (isOfDisk(error)) this.#stop(error)
      throw error
    }
  }

  async #install(snapshot: ReceivedSnapshot): Promise<void> {
    const { store, reports, tracker, onProgress, onReady } = this.#options
    const { position } = snapshot
    if (snapshot.header.commit === 0) {
      store.options.disk.remove('seed.remove-spool', snapshot.databaseFile)
      return this.#drop()
    }
    await this.#reportLost(position)
    // A LiteFS primary may be behind what it follows: what came later is not in its history.
    if (this.#contact?.isLiteFs === true)
      this.#epochs = this.#epochs.filter(({ firstTxid }) => firstTxid <= position.txid)
    const at: TrackedPosition = { position, epoch: epochOf(this.#epochs, position.txid) }
    await this.#applying?.pipeline.stop()
    const applying = this.#applying
    // Until both the database and the log stand at the snapshot, a failure leaves a node that must be seeded again.
    this.#needsSeed = true
    const isInPlace = applying !== undefined && store.file.pageSize === snapshot.header.pageSize
    if (this.#isChanged && isInPlace) {
      await reportChangedCopy({ store, reports, checksums: applying.applier.checksums, snapshot, epoch: at.epoch })
    }
    store.marker.note({ ...at, epochs: this.#epochs })
    // From here on it is neither: half of it is another state.
    this.#isParted = false
    this.#isChanged = false
    if (isInPlace) {
      await replacePages(applying.applier, snapshot, store.options.disk)
      store.file.checksums = applying.applier.checksums
      // No log vouches for these pages: durable before the old log goes.
      await store.options.disk.dataSync('seed.sync-wal', store.file.files.walFd)
      this.#resetLog(at)
      this.#applying = { ...applying, pipeline: this.#newPipeline(applying.applier) }
      store.options.disk.remove('seed.remove-spool', snapshot.databaseFile)
    } else {
      await this.#options.closeReaders()
      this.#stopApplying()
      store.closeFile(undefined)
      store.replaceFile(snapshot.databaseFile)
      this.#resetLog(at)
      await this.#openFile({ checksums: snapshot.checksums, position })
    }
    store.marker.forget()
    this.#reportId = undefined
    this.#needsSeed = false
    tracker.replace(at)
    onProgress()
    onReady()
  }

  /** I10, for a primary that tells nothing of its history but the snapshot it sends. */
  async #reportLost(to: Position): Promise<void> {
    const { store, reports } = this.#options
    const { name, clock, warn } = store.options
    const isFollowing = this.#contact?.isLiteFs === true && !this.#needsSeed
    const parting = isFollowing ? findPartingBySnapshot(store.log, to) : undefined
    if (parting === undefined) return
    const of = { position: to, epochs: undefined }
    const report = await reportParting(name, store.log, reports, parting, of, clock.nowMs())
    const message = `database "${name}": ${parting.reason}: its own history ends at ${formatPosition(report.here)}`
    warn('diverged', message, { report: reports.directoryOf(report.id), transactions: report.transactions })
  }

  #resetLog(at: TrackedPosition): void {
    const { log } = this.#options.store
    if (this.#epochs.length > 0) log.adoptEpochTable(this.#epochs)
    log.reset(at)
  }
}

/** What this node had of a primary. */
export interface Contact {
  /** Epoch of the primary's time in office; `NO_EPOCH` for a LiteFS primary. */
  readonly term: Epoch
  readonly isLiteFs: boolean
  /** Everything that was missing when the connection was made has been delivered. */
  readonly isCaughtUp: boolean
  /** When it was heard of last, on the clock's monotonic scale. */
  readonly heardMs: number
}

/** A transaction that leaves no page: LiteFS's way to delete a database. It has the length of a header and little more. */
function isDrop(ltx: Buffer): boolean {
  return ltx.length < DROP_BYTES_MAX && parseLtxHeader(ltx).commit === 0
}

interface Applying {
  readonly checkpointer: Connection
  readonly applier: WalApplier
  readonly pipeline: ApplyPipeline
}

/** Each record of the log after `from` is an exact state; readers may see all of them. */
function applyLogged(applier: WalApplier, log: TransactionLog, from: Position): void {
  for (let after = from; ; ) {
    const entry = log.readRecord(nextTxid(after.txid))
    if (entry === undefined) return
    applier.apply([entry.record])
    applier.checkpoint()
    after = entry.record.postApply
  }
}

/** The disk refused something; not the content of what is on it. */
function isOfDisk(error: unknown): boolean {
  const isOurs = isClusterError(error, 'STORAGE_FAILED') || isClusterError(error, 'DATABASE_STOPPED')
  return isOurs || (isSqliteError(error) && !isBusy(error))
}

/** Neither SQLite nor we can make anything of the file, its WAL or its index. */
function isNoDatabase(error: unknown): boolean {
  return isClusterError(error, 'NOT_A_DATABASE') || isClusterError(error, 'CORRUPT_DATA') || isUnreadable(error)
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
