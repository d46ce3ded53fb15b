/**
 * Makes a file fit to be a live database: a WAL database with a first page.
 *
 * Relies on: no connection of this process has the file open (its header is read with a descriptor that is closed again,
 * which would drop SQLite's locks).
 * Promises: a file that is not a SQLite database is refused and left as it is. A WAL database is not opened at all,
 * because closing a last connection copies the WAL into the main file and deletes it, and with it the proof which commits
 * the log already holds (see capture/wal-continuity.ts).
 * After a crash: a hot rollback journal is rolled back by SQLite when it is opened here; calling again finishes the work.
 */
import path from 'node:path'
import { ClusterError } from '../errors/cluster-error.ts'
import type { Disk } from '../files/disk.ts'
import {
  DATABASE_HEADER_BYTES,
  type DatabaseHeader,
  isWalMode,
  parseDatabaseHeader,
} from '../sqlite-format/database-header.ts'
import { isBusy } from './sqlite-error.ts'
import { SqliteDatabase } from './sqlite-library.ts'

export interface PrepareOptions {
  /** A missing or empty file becomes a new database. Otherwise it is refused. */
  readonly mayCreate: boolean
}

export interface PreparedDatabaseFile {
  /** In bytes. It cannot change while the database is in WAL mode. */
  readonly pageSize: number
  /** The file was missing or empty. */
  readonly isNew: boolean
}

/** The newest file format version there is: 1 rollback journal, 2 WAL. */
const NEWEST_FORMAT = 2

/**
 * @throws ClusterError `NOT_A_DATABASE` for any other file, also for a missing one that may not be created;
 * `DATABASE_BUSY` when another process keeps a rollback-mode database from being switched to WAL
 */
export function prepareDatabaseFile(disk: Disk, file: string, options: PrepareOptions): PreparedDatabaseFile {
  const sizeBytes = disk.identity('database-file.look', file)?.sizeBytes ?? 0n
  const isNew = sizeBytes === 0n
  if (isNew) {
    if (!options.mayCreate) throw missing(file)
    const strayBytes = disk.identity('database-file.look', `${file}-wal`)?.sizeBytes ?? 0n
    // SQLite would delete such a WAL without a word.
    if (strayBytes > 0n) throw strayWal(file)
    disk.makeDirectory('database-file.make-directory', path.dirname(file))
  } else {
    const header = readHeader(disk, file)
    if (isWalMode(header) && !hasJournal(disk, file)) return { pageSize: header.pageSize, isNew }
  }
  switchToWal(file)
  if (isNew) disk.syncDirectory('database-file.sync-directory', path.dirname(file))
  // Read again: a hot journal may have brought back another page 1.
  return { pageSize: readHeader(disk, file).pageSize, isNew }
}

function readHeader(disk: Disk, file: string): DatabaseHeader {
  const bytes = Buffer.alloc(DATABASE_HEADER_BYTES)
  const fd = disk.open('database-file.open', file, 'r')
  try {
    const length = disk.read('database-file.read-header', fd, bytes, 0, bytes.length, 0)
    const header = parseDatabaseHeader(bytes.subarray(0, length), `the file ${file}`)
    if (header.writeVersion <= NEWEST_FORMAT && header.readVersion <= NEWEST_FORMAT) return header
  } finally {
    disk.close('database-file.close', fd)
  }
  throw new ClusterError('NOT_A_DATABASE', `the file ${file} has a format version newer than this SQLite knows`, {
    details: { file },
    hint: 'Copy its content with the program that made it (VACUUM INTO) and use the copy.',
  })
}

/** A rollback journal that SQLite might have to play back. A WAL beside it cannot hold commits: the journal is older. */
function hasJournal(disk: Disk, file: string): boolean {
  const journalBytes = disk.identity('database-file.look', `${file}-journal`)?.sizeBytes ?? 0n
  const walBytes = disk.identity('database-file.look', `${file}-wal`)?.sizeBytes ?? 0n
  return journalBytes > 0n && walBytes === 0n
}

function switchToWal(file: string): void {
  const connection = new SqliteDatabase(file, { timeout: 0 })
  try {
    // On an empty file this also writes the first page.
    const mode = connection.pragma('journal_mode = WAL', { simple: true })
    if (mode !== 'wal') throw busy(file)
  } catch (error) {
    throw isBusy(error) ? busy(file, error) : error
  } finally {
    connection.close()
  }
}

function missing(file: string): ClusterError {
  return new ClusterError('NOT_A_DATABASE', `the file ${file} is missing or empty`, {
    details: { file },
    hint: 'Put the database there, or allow it to be created.',
  })
}

function strayWal(file: string): ClusterError {
  return new ClusterError('NOT_A_DATABASE', `the file ${file} is missing or empty, but its -wal holds data`, {
    details: { file },
    hint: 'The main file was lost: restore it from a backup, or remove the -wal as well to begin anew.',
  })
}

function busy(file: string, cause?: unknown): ClusterError {
  return new ClusterError('DATABASE_BUSY', `the file ${file} cannot be switched to WAL mode: it is in use`, {
    cause,
    details: { file },
    hint: 'Close the other program that has the database open, then start the node again.',
  })
}
