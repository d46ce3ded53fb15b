/**
 * A database with rules that any reader can check: what one transaction changes together must be seen together.
 *
 * - `version` counts the transactions; it never goes down;
 * - `pair`: a + b = 0, and a is the version;
 * - `account`: the balances sum up to 0, though each transaction moves money between two of them;
 * - `filler`: rows of random bytes that make transactions as large as wanted, each with the version that wrote it; the newest is `version`.
 */
import type { SqlStatement } from '@litefleet/core'
import type { Database as Connection } from 'better-sqlite3'
import type { Random } from './random.ts'

const ACCOUNTS = 50
const FILLERS = 40

export const BOOK_SCHEMA: readonly SqlStatement[] = [
  { sql: 'CREATE TABLE version (id INTEGER PRIMARY KEY CHECK (id = 1), value INTEGER NOT NULL)' },
  { sql: 'INSERT INTO version VALUES (1, 0)' },
  { sql: 'CREATE TABLE pair (id INTEGER PRIMARY KEY CHECK (id = 1), a INTEGER NOT NULL, b INTEGER NOT NULL)' },
  { sql: 'INSERT INTO pair VALUES (1, 0, 0)' },
  { sql: 'CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL)' },
  {
    sql: `INSERT INTO account WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < ?) SELECT id, 0 FROM n`,
    params: [ACCOUNTS],
  },
  { sql: 'CREATE TABLE filler (id INTEGER PRIMARY KEY, version INTEGER NOT NULL, bytes BLOB)' },
  { sql: 'INSERT INTO filler VALUES (1, 0, NULL)' },
]

/** The statements of the transaction that makes the next version; the first one answers it. */
export function nextVersion(random: Random, fillerBytes: number): readonly SqlStatement[] {
  const amount = random.below(1000)
  return [
    { sql: 'UPDATE version SET value = value + 1 RETURNING value' },
    { sql: 'UPDATE pair SET a = a + 1, b = b - 1' },
    { sql: 'UPDATE account SET balance = balance - ? WHERE id = ?', params: [amount, random.below(ACCOUNTS) + 1] },
    { sql: 'UPDATE account SET balance = balance + ? WHERE id = ?', params: [amount, random.below(ACCOUNTS) + 1] },
    {
      sql: 'INSERT OR REPLACE INTO filler VALUES (?, (SELECT value FROM version), randomblob(?))',
      params: [random.below(FILLERS) + 1, fillerBytes],
    },
  ]
}

export interface BookReading {
  readonly version: number
  /** Rules that were broken. */
  readonly problems: readonly string[]
}

/**
 * Looks at every rule twice in one read transaction, with a pause between.
 * @param connection in no transaction
 */
export function readBook(connection: Connection, pause: () => void): BookReading {
  connection.exec('BEGIN')
  try {
    const first = look(connection)
    pause()
    const second = look(connection)
    const problems = [...first.problems, ...second.problems]
    if (second.version !== first.version)
      problems.push(`version ${first.version} became ${second.version} in one transaction`)
    return { version: first.version, problems }
  } finally {
    connection.exec('COMMIT')
  }
}

function look(connection: Connection): BookReading {
  const value = (sql: string): number => Number(connection.prepare(sql).pluck().get())
  const version = value('SELECT value FROM version')
  const a = value('SELECT a FROM pair')
  const b = value('SELECT b FROM pair')
  const sum = value('SELECT sum(balance) FROM account')
  const newest = value('SELECT max(version) FROM filler')
  const problems: string[] = []
  if (a + b !== 0) problems.push(`a ${a}, b ${b} at version ${version}`)
  if (a !== version) problems.push(`a ${a} at version ${version}`)
  if (sum !== 0) problems.push(`sum ${sum} at version ${version}`)
  if (newest !== version) problems.push(`newest filler ${newest} at version ${version}`)
  return { version, problems }
}
