/**
 * Opening a connection the way a node needs it.
 *
 * Promises, on every connection: no waiting for locks (better-sqlite3 is synchronous, waiting would stop the event loop);
 * no automatic checkpoint (only `PrimaryCheckpointer` and the applier decide when frames may go); foreign keys are
 * enforced, as better-sqlite3 does by default; the database is in WAL mode. The application's `setup` cannot undo these:
 * they are set before it, so that it finds them, and again after it.
 *
 * Relies on: `prepareDatabaseFile` made the file a WAL database.
 */
import type { ColumnDefinition, Database, Statement } from 'better-sqlite3'
import { assert } from '../base/assert.ts'
import { SqliteDatabase } from './sqlite-library.ts'

export type Connection = Database
export type PreparedStatement<Params extends unknown[] = unknown[], Row = unknown> = Statement<Params, Row>
export type { ColumnDefinition }
/** The application's hook for every connection: functions, extensions, pragmas. */
export type ConnectionSetup = (connection: Connection) => void

export interface ConnectionOptions {
  /** The connection can neither write nor be made to. Default: false. */
  readonly readonly?: boolean | undefined
  /**
   * When SQLite syncs the WAL. `full` (the default): each commit is durable when it returns. `off`: never; only for
   * files whose content can be had again.
   */
  readonly synchronous?: 'full' | 'normal' | 'off' | undefined
  /** Called once with the new connection, to register functions, extensions, pragmas. What it throws closes the connection. */
  readonly setup?: ((connection: Connection) => void) | undefined
}

/** A WAL that one huge transaction blew up is cut back to this when it restarts; otherwise it keeps the room for ever. */
const WAL_KEPT_BYTES = 64 * 1024 * 1024

/**
 * Opens an existing WAL database.
 * @throws SqliteError from SQLite; `InvariantError` when the database is not in WAL mode
 */
export function openConnection(path: string, options: ConnectionOptions = {}): Connection {
  const { readonly = false, synchronous = 'full', setup } = options
  const connection = new SqliteDatabase(path, { readonly, fileMustExist: true, timeout: 0 })
  try {
    configure(connection, readonly, synchronous)
    if (setup !== undefined) {
      setup(connection)
      assert(!connection.inTransaction, `${path}: setup() left a transaction open`)
      configure(connection, readonly, synchronous)
    }
    // This also makes SQLite open -wal and -shm, which LiveFiles needs.
    const mode = connection.pragma('journal_mode', { simple: true })
    assert(mode === 'wal', `${path} is in journal mode ${String(mode)}, not in WAL mode`)
    connection.prepare('PRAGMA user_version').get()
    return connection
  } catch (error) {
    connection.close()
    throw error
  }
}

function configure(connection: Connection, readonly: boolean, synchronous: string): void {
  connection.pragma('busy_timeout = 0')
  connection.pragma('wal_autocheckpoint = 0')
  connection.pragma('foreign_keys = ON')
  connection.pragma(`synchronous = ${synchronous}`)
  if (readonly) connection.pragma('query_only = ON')
  else connection.pragma(`journal_size_limit = ${WAL_KEPT_BYTES}`)
}
