/**
 * One database on the primary: writer queue, capture, log, checkpoints, and the watch for commits of other processes.
 *
 * Order on opening, all under the write lock: the guards begin (from here on no uncaptured frame can be overwritten), the
 * start of this primaryship is recorded durably in the epoch table, commits that died before they were logged become one
 * record, and the capture stands at the end of the WAL. Then the lock is given back, and the first commit can be anybody's.
 * Order on closing: no new writes → queue drained → everything captured, logged durably and copied back → connections closed.
 */
import { PrimaryCheckpointer } from '../../capture/checkpoint-policy.ts'
import { resolveCheckpointOptions } from '../../capture/checkpoint-options.ts'
import { WalCapture } from '../../capture/wal-capture.ts'
import { cursorNow, headerNow, openCursor } from '../../capture/wal-continuity.ts'
import { cursorAtStart } from '../../capture/wal-cursor.ts'
import { WAL_WATCHER_DEFAULTS, WalWatcher } from '../../capture/wal-watcher.ts'
import { InvariantError } from '../../base/assert.ts'
import { ClusterError } from '../../errors/cluster-error.ts'
import type { FileIdentity } from '../../files/disk.ts'
import { watchFile } from '../../files/file-watch.ts'
import type { LtxRecord } from '../../ltx/ltx-record.ts'
import { NO_CHECKSUM } from '../../position/checksum.ts'
import type { Epoch } from '../../position/epoch.ts'
import { formatPosition, type Position, samePosition } from '../../position/position.ts'
import type { PositionTracker } from '../../position/position-tracker.ts'
import { nextTxid } from '../../position/txid.ts'
import { admitOperation } from '../../request/admit-operation.ts'
import type { RequestIdSource } from '../../request/request-id.ts'
import { RequestJournal } from '../../request/request-journal.ts'
import { isComplete, PassiveCheckpoint } from '../../sqlite/checkpoint.ts'
import type { Connection } from '../../sqlite/connection.ts'
import { isBusy } from '../../sqlite/sqlite-error.ts'
import { WalGuards } from '../../sqlite/wal-guards.ts'
import { GroupCommit } from '../../write/group-commit.ts'
import type { ProcedureTable } from '../../write/procedure-table.ts'
import type { ResolvedLedgerOptions } from '../../write/ledger-options.ts'
import { resolveWriteQueueOptions } from '../../write/queue-options.ts'
import { RequestLedger } from '../../write/request-ledger.ts'
import type { JobOutcome } from '../../write/write-job.ts'
import { WriteQueue } from '../../write/write-queue.ts'
import type { CommittedWrite, LocalResolve, LocalWrite, ResolvedWrite } from '../engine.ts'
import { announceForeignCommits, announceRecords, type CommitParts, commitBatch } from './commit-pipeline.ts'
import type { ClosingState, DatabaseStore, OpenFile } from './database-store.ts'
import type { Standing } from './recovery.ts'

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

interface Started {
  readonly file: OpenFile
  readonly guards: WalGuards
  readonly capture: WalCapture
  readonly position: Position
}

/** What a question counts for in the bounds of the queue: it carries an id, and leaves a row at most. */
const RESOLVE_BYTES = 128

export class PrimaryMode {
  readonly #options: PrimaryModeOptions
  readonly #started: Started
  readonly #parts: CommitParts
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
    const { store, tracker } = options
    requireFile(store)
    const started = await store.openFile(
      { mayCreate: true, takeLock: (_files, anchor) => void anchor.exec('BEGIN IMMEDIATE') },
      (file, standing) => {
        const result = start(options, file, standing)
        file.anchor.exec('COMMIT') // nothing was written: it only gives the lock back, now that the guards stand
        return result
      },
    )
    if (started === undefined) {
      store.closeFile(undefined)
      return undefined
    }
    const mode = new PrimaryMode(options, started)
    tracker.replace(store.log.tail) // with the epoch of its last record, which may be an older one
    mode.#watcher.open()
    return mode
  }

  private constructor(options: PrimaryModeOptions, started: Started) {
    const { store, tracker, procedures, epoch } = options
    const { file, guards, capture } = started
    const { clock, name, disk } = store.options
    this.#options = options
    this.#started = started
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
    this.#announceForeign()
  }

  /** Ends writing and answers what the closing of the file may save; `undefined` after a failure. */
  async close(): Promise<ClosingState | undefined> {
    this.#queue.close()
    this.#watcher.close()
    let identity: FileIdentity | undefined
    try {
      if (this.#failure === undefined) identity = this.#finish()
    } finally {
      this.#checkpointConnection.close()
      this.#started.guards.close()
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

  /** Under the write lock: the last commits are captured and everything is copied back. Answers the file as it is then. */
  #finish(): FileIdentity | undefined {
    const { file } = this.#started
    const { store } = this.#options
    try {
      file.anchor.exec('BEGIN IMMEDIATE')
    } catch (error) {
      if (isBusy(error)) return undefined // another process writes: the next start will look at the WAL
      throw error
    }
    try {
      this.#announceForeign()
      store.log.syncNow()
      this.#started.guards.rotate(() => undefined)
      if (!isComplete(this.#checkpoint.run())) return undefined
      return store.options.disk.identity('store.look', store.databasePath)
    } finally {
      file.anchor.exec('COMMIT')
    }
  }

  #fail(error: unknown): void {
    if (this.#failure !== undefined) return
    this.#failure = error
    const { store, onFailure } = this.#options
    this.#queue.stop(
      new ClusterError('DATABASE_STOPPED', `database "${store.options.name}" takes no writes on this node`, {
        cause: error,
        details: { reason: error instanceof Error ? error.message : String(error) },
        hint: 'Restart the node: it compares the database with its log and goes on from what is durable.',
      }),
    )
    onFailure(error)
  }
}

function errorIn(outcome: JobOutcome): unknown {
  return outcome.kind === 'failed'
    ? outcome.error
    : new InvariantError('a job was settled with the outcome of another kind')
}

/**
 * Everything that has to happen between finding where the file stands and the first commit.
 * `undefined`: the log is ahead of the file.
 */
function start(options: PrimaryModeOptions, file: OpenFile, standing: Standing): Started | undefined {
  const { store, epoch, nodeId } = options
  if (standing.kind === 'known' && !samePosition(standing.position, store.log.tail.position)) return undefined
  const { clock, name, warn } = store.options
  const { log } = store
  const guards = new WalGuards([file.connect(), file.connect()])
  try {
    guards.open()
    const { checksum } = file.checksums
    const common = { files: file.files, guards, checksums: file.checksums, pageSize: file.pageSize, nodeId, clock }
    const captureFrom = (position: Position): WalCapture =>
      new WalCapture({ ...common, position, cursor: cursorNow(file.files) })

    if (standing.kind === 'known') {
      log.recordEpochStart({ epoch, firstTxid: nextTxid(standing.position.txid), checksumBefore: checksum })
      return { file, guards, capture: captureFrom(standing.position), position: standing.position }
    }

    const before = log.tail.position
    log.recordEpochStart({
      epoch,
      firstTxid: nextTxid(before.txid),
      checksumBefore: before.txid === 0n ? NO_CHECKSUM : before.checksum,
    })
    if (standing.kind === 'unknown') {
      const continuity = openCursor(file.files, lastRecord(store), file.pageSize)
      const fromStart = standing.isFileAtTail ? cursorAtStart(headerNow(file.files)) : undefined
      const cursor = continuity.kind === 'continues' ? continuity.cursor : fromStart
      if (cursor !== undefined) {
        // The page checksums are already those after these commits; capturing sets the same values again.
        const capture = new WalCapture({ ...common, position: before, cursor })
        const record = capture.captureMerged({ syncWalFirst: true })
        if (record !== undefined && record.postApply.checksum === checksum) {
          log.append([{ epoch, record }])
          log.syncNow()
          return { file, guards, capture, position: record.postApply }
        }
      }
      warn(
        'history-restarted',
        `database "${name}": its file does not continue its log; replicas will be seeded again`,
        {
          log: formatPosition(before),
          reason: continuity.kind === 'broken' ? continuity.reason : 'other-checksum',
        },
      )
    }
    // This state exists only as a snapshot, not as a record.
    const position: Position = { txid: nextTxid(before.txid), checksum }
    log.reset({ position, epoch })
    return { file, guards, capture: captureFrom(position), position }
  } catch (error) {
    guards.close()
    throw error
  }
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

function lastRecord(store: DatabaseStore): LtxRecord | undefined {
  const { log } = store
  return log.recordCount === 0 ? undefined : log.readRecord(log.tail.position.txid)?.record
}
