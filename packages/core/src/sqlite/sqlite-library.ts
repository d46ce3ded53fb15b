/**
 * The one SQLite of this process, and whether it may be used.
 *
 * A second copy of SQLite in the process (two installations of better-sqlite3, say) keeps its own list of open files. When
 * one copy closes a file, the kernel drops the POSIX locks of the other: commits are lost without an error. A loaded copy
 * is found by its shared object. `node:sqlite` is part of the Node.js binary and cannot be found this way; it must not
 * open a database that a node has open.
 */
import Database from 'better-sqlite3'
import { ClusterError } from '../errors/cluster-error.ts'
import { assertLittleEndianHost } from '../sqlite-format/wal-index.ts'

/** Older ones can lose commits when two processes checkpoint and write at the same moment (the WAL-reset bug). */
const OLDEST_SQLITE = [3, 51, 3] as const

/**
 * better-sqlite3 and its forks, compiled (`better_sqlite3.node`) or prebuilt (`better-sqlite3/prebuilds/<platform>.node`).
 * By segments of the path, because an application may itself live in a directory of such a name.
 */
const BETTER_SQLITE3 = /(^|\/)(better_sqlite3[^/]*|better-sqlite3[^/]*\/prebuilds\/[^/]+)\.node$/

/** The facts the decision rests on. */
export interface SqliteEnvironment {
  /** As `process.platform`. */
  readonly platform: string
  /** As `sqlite_version()`. */
  readonly sqliteVersion: string
  /** Paths of the shared objects loaded in the process. */
  readonly sharedObjects: readonly string[]
}

/** The constructor of connections; only sqlite/ uses it. */
export const SqliteDatabase: typeof Database = Database

/** better-sqlite3's error class. */
export const SqliteError: typeof Database.SqliteError = Database.SqliteError

/**
 * Checks that this process can run a node. Loads SQLite. Takes a few milliseconds.
 * @throws ClusterError `UNSUPPORTED_PLATFORM`, `SECOND_SQLITE_COPY`
 */
export function assertUsableSqlite(environment: SqliteEnvironment = currentEnvironment()): void {
  if (environment.platform === 'win32') {
    throw new ClusterError('UNSUPPORTED_PLATFORM', 'Windows cannot run a node', {
      hint: 'SQLite keeps no POSIX locks and no shared -shm file there. Use Linux, for example in WSL 2 or a container.',
    })
  }
  assertLittleEndianHost()
  if (isOlder(environment.sqliteVersion)) {
    throw new ClusterError(
      'UNSUPPORTED_PLATFORM',
      `better-sqlite3 brings SQLite ${environment.sqliteVersion}, older than ${OLDEST_SQLITE.join('.')}`,
      {
        details: { sqliteVersion: environment.sqliteVersion },
        hint: 'Update better-sqlite3: older SQLite versions can lose commits when a WAL is reset.',
      },
    )
  }
  const copies = sqliteCopies(environment.sharedObjects)
  if (copies.length > 1) {
    throw new ClusterError(
      'SECOND_SQLITE_COPY',
      `better-sqlite3 is loaded ${copies.length} times: ${copies.join(', ')}`,
      {
        details: { copies },
        hint: 'Make the application and Litefleet use one installation (deduplicate better-sqlite3 in the lock file).',
      },
    )
  }
}

function sqliteCopies(sharedObjects: readonly string[]): readonly string[] {
  return [...new Set(sharedObjects)].filter((file) => BETTER_SQLITE3.test(file))
}

function isOlder(version: string): boolean {
  const parts = version.split('.').map(Number)
  for (const [i, least] of OLDEST_SQLITE.entries()) {
    const part = parts[i] ?? 0
    if (part !== least) return part < least
  }
  return false
}

function currentEnvironment(): SqliteEnvironment {
  // Before the report, because opening a connection is what loads the shared object.
  const sqliteVersion = versionOfSqlite()
  return { platform: process.platform, sqliteVersion, sharedObjects: loadedSharedObjects() }
}

/** As `sqlite_version()`, e.g. `3.53.2`. */
export function versionOfSqlite(): string {
  const memory = new Database(':memory:')
  try {
    return String(memory.prepare('SELECT sqlite_version()').pluck().get())
  } finally {
    memory.close()
  }
}

function loadedSharedObjects(): readonly string[] {
  // The type declarations of Node.js do not know the switch.
  const source = process.report as typeof process.report & { excludeNetwork: boolean }
  const excludedNetwork = source.excludeNetwork
  // Otherwise the report looks up the names of all connected peers, which can block for seconds.
  source.excludeNetwork = true
  try {
    const report: unknown = source.getReport()
    const objects =
      typeof report === 'object' && report !== null && 'sharedObjects' in report ? report.sharedObjects : []
    return Array.isArray(objects) ? objects.filter((file) => typeof file === 'string') : []
  } finally {
    source.excludeNetwork = excludedNetwork
  }
}
