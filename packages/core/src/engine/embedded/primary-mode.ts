/**
 * One database on the primary: writer queue, capture, log, checkpoints, and the watch for commits of other processes.
 *
 * Order on opening: what `primary-start.ts` does under the write lock; then the lock is given back, and the first commit can be
 * anybody's.
 * Order on closing: no new writes → queue drained → everything captured, logged durably and copied back → connections closed.
 */
import { assert, InvariantError } from '../../base/assert.ts'
import { PrimaryCheckpointer } from '../../capture/checkpoint-policy.ts'
import { resolveCheckpointOptions } from '../../capture/checkpoint-options.ts'
import { WAL_WATCHER_DEFAULTS, WalWatcher } from '../../capture/wal-watcher.ts'
import { headerNow } from '../../capture/wal-continuity.ts'
import { ClusterError, isClusterError } from '../../errors/cluster-error.ts'
import type { FileIdentity } from '../../files/disk.ts'
import { watchFile } from '../../files/file-watch.ts'
import type { Epoch } from '../../position/epoch.ts'
import { formatPosition, samePosition } from '../../position/position.ts'
import type { PositionTracker } from '../../position/position-tracker.ts'
import { admitOperation } from '../../request/admit-operation.ts'
import type { RequestIdSource } from '../../request/request-id.ts'
import { RequestJournal } from '../../request/request-journal.ts'
import { isComplete, PassiveCheckpoint } from '../../sqlite/checkpoint.ts'
import type { Connection } from '../../sqlite/connection.ts'
import { isBusy } from '../../sqlite/sqlite-error.ts'
import { GroupCommit } from '../../write/group-commit.ts'
import type { ProcedureTable } from '../../write/procedure-table.ts'
import type { ResolvedLedgerOptions } from '../../write/ledger-options.ts'
import { resolveWriteQueueOptions } from '../../write/queue-options.ts'
import { RequestLedger } from '../../write/request-ledger.ts'
import type { JobOutcome } from '../../write/write-job.ts'
import { WriteQueue } from '../../write/write-queue.ts'
import type { CommittedWrite, LocalResolve, LocalWrite, ResolvedWrite } from '../engine.ts'
import { announceForeignCommits, announceRecords, type CommitParts, commitBatch } from './commit-pipeline.ts'
import type { ClosingState, DatabaseStore, KnownFile } from './database-store.ts'
import { type Started, startPrimary, type StartParts } from './primary-start.ts'
import { UnloggedRequests } from './unlogged-requests.ts'

export interface PrimaryModeOptions {
  readonly store: DatabaseStore
  readonly tracker: PositionTracker
  readonly procedures: ProcedureTable
  readonly epoch: Epoch
  /** Random, not zero; new in each process. */
  readonly nodeId: bigint
  readonly requestIds: RequestIdSource
  readonly ledger: ResolvedLedgerOptions
  /** Throws unless this node surely holds the lease. */
  requirePrimary(): void
  /** The database takes no more writes here. */
  onFailure(error: unknown): void
}

/** What a question counts for in the bounds of the queue: it carries an id, and leaves a row at most. */
const RESOLVE_BYTES = 128

export class PrimaryMode {
  readonly #options: PrimaryModeOptions
  readonly #started: Started
  readonly #parts: CommitParts
  readonly #unlogged: UnloggedRequests
  readonly #queue: WriteQueue
  readonly #checkpointConnection: Connection
  readonly #checkpoint: PassiveCheckpoint
  readonly #checkpointer: PrimaryCheckpointer
  readonly #watcher: WalWatcher
  #failure: unknown

  /**
   * Opens the database file, creating it when missing, and announces where it stands.
   * @returns `undefined`, with the file closed again, when the log holds records that the file does not
   */
  static async open(options: PrimaryModeOptions): Promise<PrimaryMode | undefined> {
    const { store } = options
    const unlogged = new UnloggedRequests()
    requireFile(store)
    const started = await store.openFile(
      { mayCreate: true, takeLock: (_files, anchor) => void anchor.exec('BEGIN IMMEDIATE') },
      (file, standing) => {
        const result = startPrimary({ ...options, unlogged, announced: undefined }, file, standing)
        file.anchor.exec('COMMIT') // nothing was written: it only gives the lock back, now that the guards stand
        return result
      },
    )
    if (started === undefined) {
      store.closeFile(undefined)
      return undefined
    }
    return PrimaryMode.#begin(options, started, unlogged)
  }

  /**
   * For a node that was in office when it stopped, and begins as a replica: what it committed and could not log is logged, in the epoch in which
   * it was committed. The file stays open, its write lock is free.
   * @returns where it stands; `undefined`, with the file closed again, when the log holds records that the file does not
   * @throws ClusterError `CORRUPT_DATA` when the file does not continue the log; the file is closed then
   */
  static async logOwnCommits(options: PrimaryModeOptions): Promise<KnownFile | undefined> {
    const { store } = options
    const unlogged = new UnloggedRequests()
    const announced = store.log.tail.position
    const known = await store.openFile(
      { mayCreate: false, takeLock: (_files, anchor) => void anchor.exec('BEGIN IMMEDIATE') },
      (file, standing) => {
        const started = startPrimary({ ...options, unlogged, announced }, file, standing)
        started?.guards.close()
        const header = headerNow(file.files)
        file.anchor.exec('COMMIT')
        return started === undefined ? undefined : { ...stateOf(started), header }
      },
    )
    if (known === undefined) store.closeFile(undefined)
    return known
  }

  /**
   * The same as `open` with a file that is open already, under its readers.
   * @param known where it stood when whoever had its write lock gave it back
   * @throws ClusterError `CORRUPT_DATA` when the log holds records that the file does not
   */
  static async takeOver(options: PrimaryModeOptions, known: KnownFile | undefined): Promise<PrimaryMode> {
    const unlogged = new UnloggedRequests()
    const started = await examineAndStart({ ...options, unlogged, announced: undefined }, known)
    return PrimaryMode.#begin(options, started, unlogged)
  }

  static #begin(options: PrimaryModeOptions, started: Started, unlogged: UnloggedRequests): PrimaryMode {
    const mode = new PrimaryMode(options, started, unlogged)
    options.tracker.replace(options.store.log.tail) // with the epoch of its last record, which may be an older one
    mode.#watcher.open()
    return mode
  }

  private constructor(options: PrimaryModeOptions, started: Started, unlogged: UnloggedRequests) {
    const { store, tracker, procedures, epoch } = options
    const { file, guards, capture } = started
    const { clock, name, disk } = store.options
    this.#options = options
    this.#started = started
    this.#unlogged = unlogged
    const writer = file.anchor
    const groupCommit = new GroupCommit({
      database: name,
      writer,
      procedures,
      ledger: new RequestLedger({
        database: name,
        writer,
        clock,
        ids: options.requestIds,
        options: options.ledger,
      }),
      // The write lock is ours: what others committed before is captured now, so that the next record is our batch.
      afterBegin: () => this.#announceForeign(),
    })
    this.#parts = {
      database: name,
      epoch,
      groupCommit,
      capture,
      log: store.log,
      tracker,
      journal: new RequestJournal(),
      unlogged,
      requirePrimary: () => options.requirePrimary(),
      syncWal: () => disk.dataSyncNow('commit.sync-wal', file.files.walFd),
      fail: (error) => this.#fail(error),
    }
    this.#queue = new WriteQueue({
      database: name,
      clock,
      options: resolveWriteQueueOptions(),
      run: (batch) => this.#run(batch),
      standsAlone: (job) => groupCommit.standsAlone(job),
    })
    this.#checkpointConnection = file.connect()
    this.#checkpoint = new PassiveCheckpoint(this.#checkpointConnection)
    this.#checkpointer = new PrimaryCheckpointer({
      capture,
      guards,
      checkpoint: this.#checkpoint,
      locker: file.anchor,
      clock,
      options: resolveCheckpointOptions({}, file.pageSize),
    })
    this.#watcher = new WalWatcher({
      walPath: `${store.databasePath}-wal`,
      watch: watchFile,
      pollMs: WAL_WATCHER_DEFAULTS.pollMs,
      clock,
      hasUncaptured: () => capture.hasUncaptured(),
      onChange: () => this.#onForeignCommit(),
      onFailure: (error) => this.#fail(error),
    })
  }

  get queuedWrites(): number {
    return this.#queue.length
  }

  get walFrames(): number {
    return this.#started.capture.cursor.frame
  }

  /** Resolves with what was committed and announced; the position contains the write. */
  write(write: LocalWrite): Promise<CommittedWrite> {
    const { tracker } = this.#options
    const { operation, bytes } = admitOperation(write.operation)
    return new Promise((resolve, reject) => {
      this.#queue.submit({
        ...write,
        kind: 'run',
        operation,
        bytes,
        settle(outcome) {
          if (outcome.kind !== 'done') return reject(errorIn(outcome))
          const { position, epoch } = tracker.current
          resolve({ result: outcome.result, replayed: outcome.replayed, position, epoch })
        },
      })
    })
  }

  /** Resolves with what became of a write; the position contains it, or the promise that it never runs. */
  resolve(question: LocalResolve): Promise<ResolvedWrite> {
    const { tracker } = this.#options
    return new Promise((resolve, reject) => {
      this.#queue.submit({
        ...question,
        kind: 'resolve',
        bytes: RESOLVE_BYTES,
        settle(outcome) {
          if (outcome.kind !== 'resolved') return reject(errorIn(outcome))
          const { position, epoch } = tracker.current
          resolve({ ...outcome.resolution, position, epoch })
        },
      })
    })
  }

  /** Captures and announces everything committed so far; called before a snapshot is pinned. */
  captureNow(): void {
    if (this.#failure !== undefined) throw this.#stopped()
    try {
      this.#announceForeign()
    } catch (error) {
      const isLogged = samePosition(this.#started.capture.position, this.#options.store.log.tail.position)
      throw isLogged ? error : this.#fail(error)
    }
  }

  /**
   * After a failure: finds out where file and log stand and goes on from there, in the same epoch, under readers. Others see
   * nothing of it but that writes are taken again. When it throws, nothing has changed and it may be tried again.
   * @throws ClusterError `CORRUPT_DATA` when what was announced cannot be gone on from; `STORAGE_FAILED`
   */
  async openAgain(): Promise<PrimaryMode> {
    assert(this.#failure !== undefined, 'a database that works is opened again')
    const { store, tracker } = this.#options
    this.#watcher.close()
    if (!store.log.isUsable) await store.reopenLog()
    const announced = tracker.current.position
    const started = await examineAndStart({ ...this.#options, unlogged: this.#unlogged, announced }, undefined)
    // The new guards stand: the old ones may go.
    this.#release()
    return PrimaryMode.#begin(this.#options, started, this.#unlogged)
  }

  /**
   * Ends writing on a node that goes on as a replica, under readers: the file stays open, its write lock is free.
   * @param refusal for the writes that wait
   * @returns where the file stands, at the end of the log; `undefined` when that is not sure
   */
  release(refusal: ClusterError): KnownFile | undefined {
    this.#queue.refuse(refusal)
    this.#watcher.close()
    try {
      return this.#failure === undefined ? this.#standStill() : undefined
    } finally {
      this.#release()
    }
  }

  /** Ends writing and answers what the closing of the file may save; `undefined` after a failure. */
  async close(): Promise<ClosingState | undefined> {
    this.#queue.close()
    this.#watcher.close()
    let identity: FileIdentity | undefined
    try {
      if (this.#failure === undefined) identity = this.#finish()
    } finally {
      this.#release()
    }
    if (identity === undefined) return undefined
    const { capture } = this.#started
    return {
      position: capture.position,
      epoch: this.#options.store.log.tail.epoch,
      checksums: capture.checksums,
      identity,
    }
  }

  #release(): void {
    this.#checkpointConnection.close()
    this.#started.guards.close()
  }

  #run(batch: Parameters<typeof commitBatch>[0]): 'ran' | 'busy' {
    const result = commitBatch(batch, this.#parts)
    if (result === 'ran' && this.#failure === undefined && this.#checkpointer.pressure !== 'none') this.#runCheckpoint()
    return result
  }

  #runCheckpoint(): void {
    try {
      const { files } = this.#started.file
      if (!files.areLinked) {
        throw new ClusterError(
          'STORAGE_FAILED',
          `the files of database "${this.#parts.database}" were moved or deleted while they were in use`,
        )
      }
      this.#checkpointer.run({
        onCaptured: (records) => announceRecords(records, this.#parts),
        beforeDiscard: () => this.#options.store.log.syncNow(), // I6
      })
    } catch (error) {
      this.#fail(error)
    }
  }

  #announceForeign(): void {
    announceForeignCommits(this.#parts)
  }

  #onForeignCommit(): void {
    if (this.#failure !== undefined) return
    this.#announceForeign()
    if (this.#checkpointer.pressure !== 'none') this.#runCheckpoint()
  }

  /**
   * Under the write lock: what other processes committed last is logged. It is not announced, because this node is not in office any more; should
   * the next primary not have it, that is found and reported.
   */
  #standStill(): KnownFile | undefined {
    const { file, capture } = this.#started
    if (!beginImmediate(file.anchor)) return undefined
    try {
      this.#logForeign()
      const { position, checksums } = capture
      return { position, checksums, header: headerNow(file.files) }
    } catch (error) {
      if (isClusterError(error, 'STORAGE_FAILED')) return undefined // what is there is found out anew
      throw error
    } finally {
      file.anchor.exec('COMMIT')
    }
  }

  /** What other processes committed last; the office may be over, so that it is announced by whoever goes on from this log. */
  #logForeign(): void {
    const { store, epoch } = this.#options
    const records = this.#started.capture.capture({ syncWalFirst: true })
    store.log.append(records.map((record) => ({ epoch, record })))
    store.log.syncNow()
  }

  /** Under the write lock: the last commits are logged and everything is copied back. Answers the file as it is then. */
  #finish(): FileIdentity | undefined {
    const { file } = this.#started
    const { store } = this.#options
    if (!beginImmediate(file.anchor)) return undefined // another process writes: the next start will look at the WAL
    try {
      this.#logForeign()
      this.#started.guards.rotate(() => undefined)
      if (!isComplete(this.#checkpoint.run())) return undefined
      return store.options.disk.identity('store.look', store.databasePath)
    } finally {
      file.anchor.exec('COMMIT')
    }
  }

  /** Answers what a write is told that has not begun. */
  #fail(error: unknown): ClusterError {
    if (this.#failure === undefined) {
      this.#failure = error
      this.#queue.stop(this.#stopped())
      this.#options.onFailure(error)
    }
    return this.#stopped()
  }

  #stopped(): ClusterError {
    const error = this.#failure
    const reason = error instanceof Error ? error.message : String(error)
    return new ClusterError(
      'DATABASE_STOPPED',
      `database "${this.#options.store.options.name}" takes no writes on this node`,
      {
        cause: error,
        details: { reason },
        hint: 'Remove the cause (is the disk full?): the node tries by itself, and goes on from what is durable.',
      },
    )
  }
}

function stateOf({ capture }: Started): Pick<KnownFile, 'position' | 'checksums'> {
  const { position, checksums } = capture
  return { position, checksums }
}

/** A database that had transactions does not begin anew as an empty one: its replicas would be emptied with it. */
function requireFile(store: DatabaseStore): void {
  const { position } = store.log.tail
  if (position.txid === 0n || store.hasFile()) return
  const { directory, name } = store.options
  throw new ClusterError(
    'NOT_A_DATABASE',
    `the file ${store.databasePath} is missing or empty, but database "${name}" had come to ${formatPosition(position)}`,
    {
      details: { file: store.databasePath, position: formatPosition(position) },
      hint: `Put the file of another node or of a backup in its place, or remove the directory ${directory} to begin anew with an empty database.`,
    },
  )
}

/** On an open file, under its readers. Gives the write lock back in any case. */
async function examineAndStart(parts: StartParts, known: KnownFile | undefined): Promise<Started> {
  const { store } = parts
  const started = await store.examine(
    {
      known,
      takeLock: (_files, anchor) => void anchor.exec('BEGIN IMMEDIATE'),
      releaseLock: (_, anchor) => rollback(anchor),
    },
    (file, standing) => {
      const result = startPrimary(parts, file, standing)
      file.anchor.exec('COMMIT')
      return result
    },
  )
  if (started !== undefined) return started
  throw new ClusterError('CORRUPT_DATA', `database "${store.options.name}": its file is behind its log`, {
    hint: 'Restart the node: what is missing is applied from the log.',
  })
}

/** False: another process writes just now. */
function beginImmediate(anchor: Connection): boolean {
  try {
    anchor.exec('BEGIN IMMEDIATE')
    return true
  } catch (error) {
    if (isBusy(error)) return false
    throw error
  }
}

function rollback(anchor: Connection): void {
  if (anchor.inTransaction) anchor.exec('ROLLBACK')
}

function errorIn(outcome: JobOutcome): unknown {
  return outcome.kind === 'failed'
    ? outcome.error
    : new InvariantError('a job was settled with the outcome of another kind')
}
