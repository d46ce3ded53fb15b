/**
 * The connections of this process that read one database.
 *
 * One connection is shared by everything that starts and ends in one turn of the event loop (`get`, `all`), so a new read
 * always sees the newest applied state. Whatever keeps a snapshot open over several turns (`iterate`, a read transaction)
 * takes a connection of its own from a small pool.
 *
 * Bound: `pooledMax` connections of their own at a time; one more is an error, because each open snapshot keeps the WAL from
 * shrinking.
 * When another file takes the database's place, all connections are closed and `generation` moves on; statements prepare
 * themselves again.
 */
import type { Clock } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import { classifyRead } from '../request/statement-rules.ts'
import type { Connection, PreparedStatement } from '../sqlite/connection.ts'

/** How often a close looks whether the last iterator has ended. */
const DRAIN_POLL_MS = 5

export interface LocalReaderOptions {
  readonly database: string
  readonly clock: Clock
  open(): Connection
  /** Default: 16. */
  readonly pooledMax?: number | undefined
}

export class LocalReader {
  readonly #options: LocalReaderOptions
  readonly #pooledMax: number
  readonly #idle: Connection[] = []
  readonly #busy = new Set<Connection>()
  #shared: Connection | undefined
  #closed = false
  /** Grows each time prepared statements became stale. */
  generation = 0

  constructor(options: LocalReaderOptions) {
    this.#options = options
    this.#pooledMax = options.pooledMax ?? 16
  }

  /** Prepares a read on the shared connection. Throws `STATEMENT_REFUSED`, `WRITE_ON_READ_HANDLE`, or SQLite's own error. */
  prepare(sql: string): PreparedStatement {
    this.#requireOpen()
    this.#shared ??= this.#options.open()
    return prepareRead(this.#shared, sql, this.#options.database)
  }

  /** Lends a connection of its own; it must come back through `release`. */
  acquire(): Connection {
    this.#requireOpen()
    const connection = this.#idle.pop() ?? this.#openPooled()
    this.#busy.add(connection)
    return connection
  }

  release(connection: Connection): void {
    if (!this.#busy.delete(connection)) return
    if (this.#closed) connection.close()
    else this.#idle.push(connection)
  }

  /** Closes everything and waits, at most `waitMs`, for what is lent out. Statements become stale. */
  async closeConnections(waitMs: number): Promise<void> {
    this.#closeIdle()
    for (let waitedMs = 0; this.#busy.size > 0 && waitedMs < waitMs; waitedMs += DRAIN_POLL_MS) {
      await new Promise<void>((resolve) => this.#options.clock.setTimer(DRAIN_POLL_MS, resolve))
    }
    this.#closeIdle()
    if (this.#busy.size === 0) return
    throw new ClusterError(
      'WAIT_TIMEOUT',
      `database "${this.#options.database}": ${this.#busy.size} reads kept their snapshot for more than ${waitMs} ms`,
      { hint: 'Finish iterators and read transactions; the file of the database has to be replaced.' },
    )
  }

  /**
   * Closes for good. Iterators that are still open after `waitMs` stay open and hold their snapshot until the process ends:
   * better-sqlite3 does not close a connection in the middle of an iteration.
   */
  async close(waitMs: number): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.closeConnections(waitMs)
  }

  #closeIdle(): void {
    this.generation++
    this.#shared?.close()
    this.#shared = undefined
    for (const connection of this.#idle.splice(0)) connection.close()
  }

  #openPooled(): Connection {
    if (this.#busy.size >= this.#pooledMax) {
      throw new ClusterError(
        'TOO_MANY_READERS',
        `database "${this.#options.database}": ${this.#busy.size} iterators and read transactions are open`,
        { hint: 'Finish iterators (or break out of their loops) before opening more.' },
      )
    }
    return this.#options.open()
  }

  #requireOpen(): void {
    if (this.#closed) throw new ClusterError('CLOSED', `database "${this.#options.database}" is closed`)
  }
}

/** Prepares `sql` on a read-only connection under the rules of read handles. */
export function prepareRead(connection: Connection, sql: string, database: string): PreparedStatement {
  const verdict = classifyRead(sql)
  if (verdict.kind === 'refused') {
    throw new ClusterError(
      'STATEMENT_REFUSED',
      `database "${database}": ${verdict.word} is not allowed on a local handle`,
      {
        hint: 'Use readTransaction() for several reads of one state; connection settings belong in the setup hook.',
      },
    )
  }
  const statement = connection.prepare(sql)
  if (!statement.readonly) {
    throw new ClusterError('WRITE_ON_READ_HANDLE', `database "${database}": a local handle only reads`, {
      hint: `Write with "await db.run(sql, params)", "db.batch([...])" or a procedure: they find the primary.`,
      details: { sql },
    })
  }
  return statement
}
