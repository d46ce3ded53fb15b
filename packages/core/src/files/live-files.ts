/**
 * The descriptors of one live database: its main file, `-wal` and `-shm`. The only place in the process that opens them.
 *
 * POSIX locks belong to the process: closing *any* descriptor of the main file or of `-shm` drops every lock SQLite holds
 * on it in this process, whatever thread opened it. The next process to close the database then deletes the `-wal` under
 * us, and commits are lost without an error. Hence these descriptors are opened once, are lent as numbers to whoever must
 * read (worker threads too), and outlive every connection.
 *
 * Relies on: a connection of this process has read the database, so that SQLite has made `-wal` and `-shm`.
 * Promises: nothing that SQLite may have locked is closed before `close()`, not even when opening fails half-way.
 * Order: connections close first, then `close()`; connections that were tracked are checked.
 */
import { assert } from '../base/assert.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { Disk } from './disk.ts'

export class LiveFiles {
  readonly disk: Disk
  readonly databasePath: string
  /** Open for reading and writing, as the other two. */
  readonly databaseFd: number
  readonly walFd: number
  readonly shmFd: number
  readonly #inodes: readonly (bigint | undefined)[]
  readonly #connections = new Set<{ readonly open: boolean }>()
  #closed = false

  private constructor(disk: Disk, databasePath: string) {
    this.disk = disk
    this.databasePath = databasePath
    // Both are looked at before the first descriptor that must not be closed again comes into being.
    for (const file of [this.walPath, this.shmPath]) {
      if (disk.identity('live-files.look', file) !== undefined) continue
      throw new ClusterError('STORAGE_FAILED', `${file} does not exist beside a live database`, {
        details: { file },
        hint: 'Another process removed it. Only SQLite may touch the -wal and -shm files.',
      })
    }
    this.walFd = disk.open('live-files.open-wal', this.walPath, 'r+')
    // Should one of these fail, what was opened before stays open: closing it would drop SQLite's locks.
    this.shmFd = disk.open('live-files.open-shm', this.shmPath, 'r+')
    this.databaseFd = disk.open('live-files.open-database', databasePath, 'r+')
    this.#inodes = this.#currentInodes()
  }

  /**
   * Opens the three files.
   * @throws ClusterError `STORAGE_FAILED`
   */
  static open(disk: Disk, databasePath: string): LiveFiles {
    return new LiveFiles(disk, databasePath)
  }

  get walPath(): string {
    return `${this.databasePath}-wal`
  }

  get shmPath(): string {
    return `${this.databasePath}-shm`
  }

  /**
   * The three paths still lead to the files that are open here. False means that somebody moved or deleted a file of a
   * live database, or that this process lost its locks and another process tidied up: commits from then on are lost.
   */
  get areLinked(): boolean {
    return this.#currentInodes().every((inode, i) => inode !== undefined && inode === this.#inodes[i])
  }

  /** Remembers a connection to this database; it must be closed before the files are. */
  track(connection: { readonly open: boolean }): void {
    // Connections come and go with snapshots: forget the closed ones, so that the set stays small.
    for (const known of this.#connections) if (!known.open) this.#connections.delete(known)
    this.#connections.add(connection)
  }

  /** A tracked connection is still open: closing now would drop its locks. */
  get isInUse(): boolean {
    return [...this.#connections].some((connection) => connection.open)
  }

  /** This tracked connection is the only one that is open. */
  isLast(connection: { readonly open: boolean }): boolean {
    return [...this.#connections].every((other) => other === connection || !other.open)
  }

  /** Closes the descriptors. Idempotent. Every connection of this process to the database must be closed already. */
  close(): void {
    if (this.#closed) return
    assert(!this.isInUse, `${this.databasePath}: a connection is still open while its files are being closed`)
    this.#closed = true
    this.disk.close('live-files.close', this.walFd)
    this.disk.close('live-files.close', this.shmFd)
    this.disk.close('live-files.close', this.databaseFd)
  }

  #currentInodes(): readonly (bigint | undefined)[] {
    return [this.databasePath, this.walPath, this.shmPath].map(
      (file) => this.disk.identity('live-files.look', file)?.inode,
    )
  }
}
