/**
 * Everything of one database on this node's disk, opened and reconciled, whatever role the node has:
 * the SQLite file with its descriptors, the transaction log, the page checksums, and the position they agree on.
 *
 * Order on opening: saved state read and removed → log opened → SQLite opens the file (and recovers its WAL) → descriptors →
 * position found (`recovery.ts`). Closing goes the other way; every SQLite connection of the process must be closed before
 * the descriptors, because closing those drops the process's locks.
 *
 * After a failure of the disk the same is found out again without closing anything (`reopenLog`, `examine`): readers go on, and the
 * WAL, which proves what was committed, is not lost to a last connection that closes.
 */
import path from 'node:path'
import { headerNow } from '../../capture/wal-continuity.ts'
import type { Clock } from '../../base/clock.ts'
import { type Disk, type FileIdentity, sameIdentity } from '../../files/disk.ts'
import { closeKeepingWal } from '../../files/keep-wal.ts'
import { LiveFiles } from '../../files/live-files.ts'
import type { ResolvedLogOptions } from '../../log/log-options.ts'
import { loadState, removeState, saveState } from '../../log/saved-state.ts'
import { TransactionLog } from '../../log/transaction-log.ts'
import type { PageChecksums } from '../../ltx/page-checksums.ts'
import type { Epoch } from '../../position/epoch.ts'
import type { Position } from '../../position/position.ts'
import type { DatabaseName } from '../../request/database-name.ts'
import { type Connection, type ConnectionOptions, openConnection } from '../../sqlite/connection.ts'
import { ClusterError, isClusterError } from '../../errors/cluster-error.ts'
import { isBusy } from '../../sqlite/sqlite-error.ts'
import { prepareDatabaseFile } from '../../sqlite/open-database-file.ts'
import { sameWalIndex, type WalIndexHeader } from '../../sqlite-format/wal-index.ts'
import { findStanding, type Standing, type StandingQuestion } from './recovery.ts'
import { SeedMarker } from './seed-marker.ts'

export interface StoreOptions {
  readonly name: DatabaseName
  /** `<dataDir>/<group>/dbs/<name>`. */
  readonly directory: string
  readonly disk: Disk
  readonly clock: Clock
  readonly log: ResolvedLogOptions
  readonly setup: ((connection: Connection) => void) | undefined
  /** Told of damage that was repaired. */
  warn(name: string, message: string, details: Readonly<Record<string, unknown>>): void
}

export class DatabaseStore {
  readonly options: StoreOptions
  readonly databasePath: string
  /** Of a seed that is being put in place. */
  readonly marker: SeedMarker
  #log: TransactionLog
  #open: OpenFile | undefined

  private constructor(options: StoreOptions, log: TransactionLog) {
    this.options = options
    this.databasePath = databasePath(options)
    this.marker = new SeedMarker(options.disk, options.directory)
    this.#log = log
  }

  /** Opens the log and forgets what a crash left half done. The database file is opened by `openFile`. */
  static open(options: StoreOptions): DatabaseStore {
    const { disk, directory } = options
    disk.makeDirectory('store.make-directory', directory)
    const spool = path.join(directory, 'spool')
    disk.makeDirectory('store.make-directory', spool)
    for (const name of disk.list('store.list-spool', spool)) disk.remove('store.clean-spool', path.join(spool, name))
    return new DatabaseStore(options, openLog(options))
  }

  /** Another one after `reopenLog`. */
  get log(): TransactionLog {
    return this.#log
  }

  get spoolDirectory(): string {
    return path.join(this.options.directory, 'spool')
  }

  /** Throws `STORAGE_FAILED` while the disk takes nothing: tried with as much as a new segment and some transactions need. */
  requireWritable(): void {
    const { disk } = this.options
    const file = path.join(this.spoolDirectory, 'probe')
    try {
      const fd = disk.open('store.probe', file, 'w+')
      try {
        disk.write('store.probe', fd, Buffer.alloc(PROBE_BYTES), 0, PROBE_BYTES, 0)
        disk.dataSyncNow('store.probe', fd)
      } finally {
        disk.close('store.probe', fd)
      }
    } finally {
      disk.remove('store.probe', file)
    }
  }

  /** After a failure that is final for the log: it is repaired as at a start. Until that worked, the old one can be looked at. */
  async reopenLog(): Promise<void> {
    await this.#log.close().catch(() => undefined) // it has failed already: what it could not sync is what is repaired
    this.#log = openLog(this.options)
  }

  /** Is there a database file on this node? */
  hasFile(): boolean {
    return (this.options.disk.identity('store.look', this.databasePath)?.sizeBytes ?? 0n) > 0n
  }

  /** The open file; opening it is the caller's part. */
  get file(): OpenFile {
    if (this.#open === undefined) throw new Error('the database file is not open')
    return this.#open
  }

  get isFileOpen(): boolean {
    return this.#open !== undefined
  }

  /**
   * Opens the SQLite file and finds out where it stands, while nobody can write to it.
   * @param onFound called under the lock, for whatever must begin before anybody can commit again, and to give the lock back
   * or keep it. What it throws closes the file.
   */
  async openFile<Lock, Result>(
    options: OpenFileOptions<Lock>,
    onFound: (file: OpenFile, standing: Standing, lock: Lock) => Result,
  ): Promise<Result> {
    const { disk, name, setup, clock } = this.options
    const { known } = options
    const saved = loadState(disk, this.#statePath)
    removeState(disk, this.#statePath)
    const { pageSize, anchor } = await unlessBusy(name, clock, () => ({
      ...prepareDatabaseFile(disk, this.databasePath, { mayCreate: options.mayCreate ?? false }),
      anchor: openConnection(this.databasePath, { setup }),
    }))
    let files: LiveFiles | undefined
    try {
      files = LiveFiles.open(disk, this.databasePath)
      const live = files
      const lock = await unlessBusy(name, clock, () => options.takeLock(live, anchor))
      const { standing, checksums } =
        known === undefined
          ? await this.#findStanding({ files, log: this.log, pageSize, saved })
          : { standing: { kind: 'known', position: known.position } as const, checksums: known.checksums }
      live.track(anchor)
      const connect = (given: Pick<ConnectionOptions, 'readonly' | 'synchronous'> = {}): Connection => {
        const connection = openConnection(this.databasePath, { ...given, setup })
        live.track(connection)
        return connection
      }
      const file: OpenFile = { anchor, files, pageSize, checksums, connect }
      const result = onFound(file, standing, lock)
      this.#open = file
      return result
    } catch (error) {
      closeKeepingWal(disk, this.databasePath, () => anchor.close())
      files?.close() // with it goes a lock on a byte range
      throw error
    }
  }

  /**
   * Finds out where the open file stands as `openFile` does, with readers on it, after what was known of it became uncertain or its
   * write lock was given back. What it throws, and what `onFound` throws, leaves the file open as it was; the lock is given back.
   */
  async examine<Lock, Result>(
    options: ExamineOptions<Lock>,
    onFound: (file: OpenFile, standing: Standing, lock: Lock) => Result,
  ): Promise<Result> {
    const { name, clock } = this.options
    const { known } = options
    const { anchor, files, pageSize, connect } = this.file
    if (!files.areLinked) {
      throw new ClusterError(
        'STORAGE_FAILED',
        `the files of database "${name}" were moved or deleted while they were in use`,
      )
    }
    if (anchor.inTransaction) anchor.exec('ROLLBACK')
    const lock = await unlessBusy(name, clock, () => options.takeLock(files, anchor))
    try {
      const { standing, checksums } =
        known !== undefined && sameWalIndex(known.header, headerNow(files))
          ? { standing: { kind: 'known', position: known.position } as const, checksums: known.checksums }
          : await this.#findStanding({ files, log: this.log, pageSize, saved: undefined })
      const file: OpenFile = { anchor, files, pageSize, checksums, connect }
      const result = onFound(file, standing, lock)
      this.#open = file
      return result
    } catch (error) {
      options.releaseLock(lock, anchor)
      throw error
    }
  }

  /** Where the file stands, a seed that was left half in place included. */
  async #findStanding(question: StandingQuestion): ReturnType<typeof findStanding> {
    const found = await findStanding(question)
    if (found.standing.kind === 'known') return found
    for (const checksums of [found.checksums, found.ofRollback]) {
      const position = checksums && this.marker.finish(this.log, checksums.checksum)
      if (checksums !== undefined && position !== undefined) return { standing: { kind: 'known', position }, checksums }
    }
    return found
  }

  /**
   * Closes the file after every other connection of the process was closed. With a state, the page checksums are saved so
   * that the next start need not hash; that state must be durable in the log.
   */
  closeFile(state: ClosingState | undefined): void {
    const open = this.#open
    if (open === undefined) return
    this.#open = undefined
    const { disk } = this.options
    // With the last connection SQLite copies the WAL back and removes it, unless another process uses it.
    if (state === undefined && open.files.isLast(open.anchor)) {
      closeKeepingWal(disk, this.databasePath, () => open.anchor.close())
    } else open.anchor.close()
    const identity = disk.identity('store.look', this.databasePath)
    const walLeft = (disk.identity('store.look', `${this.databasePath}-wal`)?.sizeBytes ?? 0n) > 0n
    if (state !== undefined && identity !== undefined && !walLeft && sameIdentity(state.identity, identity)) {
      const { position, epoch, checksums } = state
      saveState(disk, this.#statePath, { position, epoch, pageSize: open.pageSize, checksums, identity })
    }
    // A reader that the application did not finish keeps its connection, and with it the descriptors, until the process ends.
    if (!open.files.isInUse) open.files.close()
  }

  /**
   * Moves a file that is no database any more out of the way, under a name where it can be found; one is kept. It must be closed.
   * @returns where it is now
   */
  setAside(): string {
    const { disk, directory } = this.options
    const aside = path.join(directory, 'database.damaged')
    disk.rename('store.set-aside', this.databasePath, aside)
    for (const suffix of ['-wal', '-shm']) disk.remove('store.set-aside', this.databasePath + suffix)
    disk.syncDirectory('store.set-aside', directory)
    return aside
  }

  /** Removes the database, which must be closed. */
  removeFile(): void {
    const { disk, directory } = this.options
    for (const suffix of ['-wal', '-shm', '']) disk.remove('store.remove', this.databasePath + suffix)
    disk.syncDirectory('store.remove', directory)
  }

  /** Puts another file in the place of the database, which must be closed. */
  replaceFile(imagePath: string): void {
    const { disk, directory } = this.options
    for (const suffix of ['-wal', '-shm']) disk.remove('store.replace', this.databasePath + suffix)
    disk.rename('store.replace', imagePath, this.databasePath)
    disk.syncDirectory('store.replace', directory)
  }

  /** Closes everything, also what a failing disk makes fail; then it rejects, and the next start looks at everything. */
  async close(state: ClosingState | undefined): Promise<void> {
    let closing = state
    try {
      await this.log.sync()
    } catch (error) {
      closing = undefined
      throw error
    } finally {
      try {
        this.closeFile(closing)
      } finally {
        await this.log.close()
      }
    }
  }

  get #statePath(): string {
    return path.join(this.options.directory, 'state')
  }
}

export interface OpenFile {
  /** The connection that keeps the WAL from being removed; also the primary's writer. Opened first, closed last. */
  readonly anchor: Connection
  readonly files: LiveFiles
  readonly pageSize: number
  /** As the file was when it was opened; whoever changes pages keeps it up, or puts another one here. */
  checksums: PageChecksums
  /** Opens another connection. It must be closed before the file is. */
  connect(options?: Pick<ConnectionOptions, 'readonly' | 'synchronous'>): Connection
}

export interface OpenFileOptions<Lock> {
  /** A missing file becomes an empty database. Default: false. */
  readonly mayCreate?: boolean | undefined
  /** This process has just put the file there and knows what it is. */
  readonly known?: { readonly checksums: PageChecksums; readonly position: Position } | undefined
  /** Takes the write lock without waiting; it is tried again while another process has it. */
  takeLock(files: LiveFiles, anchor: Connection): Lock
}

/** Where the open file stood when the write lock was given back, at the end of its log. */
export interface KnownFile {
  readonly position: Position
  readonly checksums: PageChecksums
  /** Of the wal-index, read under the lock: any commit since then shows in it. */
  readonly header: WalIndexHeader
}

export interface ExamineOptions<Lock> extends Pick<OpenFileOptions<Lock>, 'takeLock'> {
  /** Spares the reading of all pages, when nobody has committed meanwhile. */
  readonly known?: KnownFile | undefined
  releaseLock(lock: Lock, anchor: Connection): void
}

/** Where the database stands when its file is closed. */
export interface ClosingState {
  readonly position: Position
  readonly epoch: Epoch
  readonly checksums: PageChecksums
  /** The file under the write lock, with everything copied back into it; a different one means that another process wrote since. */
  readonly identity: FileIdentity
}

const PROBE_BYTES = 1024 * 1024

/** How long another process may hold the write lock while a node opens its database. */
const LOCK_WAIT_MS = 30_000
const LOCK_RETRY_MS = 10

/** Tries again while another process holds the write lock, or recovers the WAL of a process that died. */
async function unlessBusy<Result>(name: string, clock: Clock, attempt: () => Result): Promise<Result> {
  const deadlineMs = clock.monotonicMs() + LOCK_WAIT_MS
  for (;;) {
    try {
      return attempt()
    } catch (error) {
      if (!isBusy(error) && !isClusterError(error, 'DATABASE_BUSY')) throw error
      if (clock.monotonicMs() >= deadlineMs) {
        throw new ClusterError('DATABASE_BUSY', `database "${name}": another process holds its write lock`, {
          cause: error,
          hint: 'End the other writer; a node must be able to look at its database undisturbed when it starts.',
        })
      }
    }
    await new Promise<void>((resolve) => clock.setTimer(LOCK_RETRY_MS, resolve))
  }
}

function openLog(options: StoreOptions): TransactionLog {
  const { disk, directory, clock } = options
  const log = TransactionLog.open({ disk, directory: path.join(directory, 'log'), options: options.log, clock })
  warnOfRepairs(options, log)
  return log
}

function warnOfRepairs({ name, warn }: StoreOptions, { recovery, epochRepair }: TransactionLog): void {
  const { cutBytes, cutRecords, droppedBytes, droppedSegments } = recovery
  if (cutBytes > 0) {
    warn('log-cut', `database "${name}": ${cutBytes} torn bytes were cut off the end of the log`, {
      cutBytes,
      cutRecords,
    })
  }
  if (droppedSegments > 0) {
    warn('log-dropped', `database "${name}": the log now begins after a damaged segment`, {
      droppedBytes,
      droppedSegments,
    })
  }
  if (epochRepair !== undefined) {
    warn('epochs-rebuilt', `database "${name}": the epoch table was damaged and made anew from the ${epochRepair}`, {
      from: epochRepair,
    })
  }
}

function databasePath(options: StoreOptions): string {
  return path.join(options.directory, 'database')
}
