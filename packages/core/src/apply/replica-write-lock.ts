/**
 * The write lock of a replica's database: an open-file-description lock on the byte of `-shm` where every SQLite takes
 * its write lock. While it is held no other process, and no connection of this one, can commit, recover the WAL or
 * change the journal mode; they get SQLITE_BUSY. Readers and checkpoints go on.
 *
 * A lock of this kind needs no transaction of ours, so it holds no read mark back and is never given up in between.
 *
 * Relies on: `LiveFiles` holds the `-shm` open; a connection of this process has the database open in WAL mode (it makes
 * sure that nobody takes himself for the last user and deletes the WAL).
 * Promises: when `take` returns, the wal-index header is valid and of the only version we write.
 * After a crash: the kernel frees the lock with the process.
 */
import { assert } from '../base/assert.ts'
import type { Clock } from '../base/clock.ts'
import { ClusterError, isClusterError } from '../errors/cluster-error.ts'
import type { LiveFiles } from '../files/live-files.ts'
import { tryLock, unlock } from '../files/range-lock.ts'
import type { Connection } from '../sqlite/connection.ts'
import { isBusy } from '../sqlite/sqlite-error.ts'
import {
  assertLittleEndianHost,
  parseWalIndexHeader,
  WAL_INDEX_HEADERS_BYTES,
  type WalIndexHeader,
} from '../sqlite-format/wal-index.ts'
import { WAL_FORMAT_VERSION } from '../sqlite-format/wal-header.ts'
import { WRITE_LOCK_BYTE } from './wal-lock-bytes.ts'

/** A dead writer's half-written header is found by the first try and repaired for the second. */
const TRIES_MAX = 3
const WAIT_MAX_MS = 20

export class ReplicaWriteLock {
  readonly #files: LiveFiles
  #held = true

  private constructor(files: LiveFiles) {
    this.#files = files
  }

  /**
   * Takes the lock, without waiting.
   * @param connection of this process to the same database, in no transaction; lets SQLite recover the WAL when it must
   * @throws ClusterError `DATABASE_BUSY` while another process writes or recovers; `UNSUPPORTED_PLATFORM` for a wal-index
   * that SQLite of another version or byte order made; `CORRUPT_DATA` when recovery does not help
   */
  static take(files: LiveFiles, connection: Connection): ReplicaWriteLock {
    assertLittleEndianHost()
    for (let i = 0; i < TRIES_MAX; i++) {
      letSqliteRecover(connection, files.databasePath)
      if (!tryLock(files.shmFd, WRITE_LOCK_BYTE, 1)) throw busy(files.databasePath)
      const lock = new ReplicaWriteLock(files)
      try {
        if (lock.readHeader() !== undefined) return lock
      } catch (error) {
        lock.release()
        throw error
      }
      lock.release()
    }
    throw new ClusterError('CORRUPT_DATA', `${files.shmPath}: the wal-index header stays invalid after recovery`)
  }

  /**
   * The same, with patience: another process that recovers the WAL or runs a blocking checkpoint has the lock for a moment.
   * Gives up with `DATABASE_BUSY` after `timeoutMs`.
   */
  static async acquire(o: {
    readonly files: LiveFiles
    readonly connection: Connection
    readonly clock: Clock
    readonly timeoutMs: number
  }): Promise<ReplicaWriteLock> {
    const deadlineMs = o.clock.monotonicMs() + o.timeoutMs
    for (let waitMs = 1; ; waitMs = Math.min(waitMs * 2, WAIT_MAX_MS)) {
      try {
        return ReplicaWriteLock.take(o.files, o.connection)
      } catch (error) {
        if (!isClusterError(error, 'DATABASE_BUSY') || o.clock.monotonicMs() >= deadlineMs) throw error
      }
      await new Promise<void>((resolve) => {
        o.clock.setTimer(waitMs, resolve)
      })
    }
  }

  /** The wal-index header; `undefined` when a writer died while it wrote it. */
  readHeader(): WalIndexHeader | undefined {
    const bytes = Buffer.alloc(WAL_INDEX_HEADERS_BYTES)
    const { disk, shmFd, shmPath } = this.#files
    if (disk.read('apply.read-index', shmFd, bytes, 0, bytes.length, 0) < bytes.length) return undefined
    const header = parseWalIndexHeader(bytes)
    const version = bytes.readUInt32LE(0)
    if (header === undefined && bytes[12] !== 0 && version !== WAL_FORMAT_VERSION)
      throw unsupported(`${shmPath}: the wal-index has version ${version}, not ${WAL_FORMAT_VERSION}`)
    if (header?.bigEndianChecksum === true && header.mxFrame > 0)
      throw unsupported(`${shmPath}: the WAL was written by a big-endian machine`)
    return header
  }

  /** Gives the lock back. Idempotent. */
  release(): void {
    if (!this.#held) return
    this.#held = false
    unlock(this.#files.shmFd, WRITE_LOCK_BYTE, 1)
  }

  assertHeld(): void {
    assert(this.#held, `${this.#files.databasePath}: the write lock was given back`)
  }
}

function letSqliteRecover(connection: Connection, path: string): void {
  try {
    connection.prepare('SELECT 1 FROM sqlite_schema LIMIT 1').get()
  } catch (error) {
    if (isBusy(error)) throw busy(path, error)
    throw error
  }
}

function busy(path: string, cause?: unknown): ClusterError {
  return new ClusterError('DATABASE_BUSY', `another process is writing to ${path}`, {
    cause,
    details: { file: path },
    hint: 'A replica must be the only writer of its file; end the other writer.',
  })
}

function unsupported(message: string): ClusterError {
  return new ClusterError('UNSUPPORTED_PLATFORM', message, {
    hint: 'Stop every process that uses the file, open and close it once with the sqlite3 shell, then start again.',
  })
}
