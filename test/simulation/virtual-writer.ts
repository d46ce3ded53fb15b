/**
 * The writer connection of a primary: SQLite itself, on a database in memory, whose COMMIT goes to the virtual file.
 *
 * COMMIT is where a process may die before or after, and where the disk may fail: then SQLite reports an I/O error and
 * everything is rolled back, although the frames may be in the WAL.
 */
import Database from 'better-sqlite3'
import type { Connection } from '../../packages/core/src/sqlite/connection.ts'
import type { SqliteFile } from './sqlite-file.ts'
import { PAGE_SIZE, type SqliteImage } from './sqlite-image.ts'

export interface CommitHooks {
  /** As with `synchronous=FULL`. */
  readonly isDurable: boolean
  /** May kill the process. Answers whether the disk fails this COMMIT. */
  beforeCommit(): 'commit' | 'fail' | 'full'
  afterCommit(): void
}

export class VirtualWriter {
  readonly #database: Database.Database
  readonly #file: SqliteFile
  readonly #hooks: CommitHooks

  constructor(file: SqliteFile, hooks: CommitHooks) {
    const { current } = file
    this.#database = current.isEmpty ? new Database(':memory:') : new Database(current.toBuffer())
    if (current.isEmpty) this.#database.pragma(`page_size = ${PAGE_SIZE}`)
    this.#database.pragma('foreign_keys = ON')
    this.#file = file
    this.#hooks = hooks
  }

  /** As much of a connection as the write path uses. */
  get connection(): Connection {
    const database = this.#database
    const commit = { run: () => this.#commit() }
    const connection = {
      prepare: (sql: string) => (sql === 'COMMIT' ? commit : database.prepare(sql)),
      exec: (sql: string) => (sql === 'COMMIT' ? commit.run() : database.exec(sql)),
      get inTransaction() {
        return database.inTransaction
      },
    }
    return connection as unknown as Connection
  }

  /** What another process does to the file, in a transaction of its own. */
  foreignCommit(sql: string): void {
    this.#database.exec(sql)
    this.#file.commit(this.#state(), true)
  }

  close(): void {
    this.#database.close()
  }

  #commit(): void {
    const what = this.#hooks.beforeCommit()
    if (what !== 'commit') {
      if (what === 'fail') this.#file.failedCommit(this.#state())
      const [message, code] =
        what === 'fail' ? ['disk I/O error', 'SQLITE_IOERR_FSYNC'] : ['database or disk is full', 'SQLITE_FULL']
      this.#database.exec('ROLLBACK')
      throw new Database.SqliteError(message, code)
    }
    this.#database.exec('COMMIT')
    this.#file.commit(this.#state(), this.#hooks.isDurable)
    this.#hooks.afterCommit()
  }

  #state(): SqliteImage {
    return this.#file.current.next(this.#database.serialize())
  }
}
