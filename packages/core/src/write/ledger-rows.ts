/**
 * The two hidden tables of the request ledger, and the SQL that reads and writes them. The rules are in `request-ledger.ts`.
 *
 * Ids sort by issue time, so most requests are newer than every row: those are not looked up. The newest id and the horizon
 * are read once per transaction, so nothing here can disagree with the database.
 * Request rows are held back until `flush`, which writes many with one statement; `findRequest` knows them.
 */
import { assert } from '../base/assert.ts'
import type { RequestId } from '../request/request-id.ts'
import type { Connection, PreparedStatement } from '../sqlite/connection.ts'
import { LedgerTable } from './ledger-table.ts'

export const REQUEST_TABLE = '_litefleet_request'
export const KEY_TABLE = '_litefleet_key'

const SCHEMA = [
  `CREATE TABLE IF NOT EXISTS ${REQUEST_TABLE} (id BLOB PRIMARY KEY, entry BLOB NOT NULL) WITHOUT ROWID`,
  `CREATE TABLE IF NOT EXISTS ${KEY_TABLE} (key TEXT PRIMARY KEY, id BLOB NOT NULL, entry BLOB NOT NULL) WITHOUT ROWID`,
  `CREATE UNIQUE INDEX IF NOT EXISTS ${KEY_TABLE}_by_time ON ${KEY_TABLE} (id)`,
]

/** A statement costs more than a row, up to here. */
const ROWS_AT_ONCE = 16

interface Statements {
  readonly newest: PreparedStatement
  readonly findRequest: PreparedStatement
  readonly addRequest: PreparedStatement
  readonly addRequests: PreparedStatement
  readonly findKey: PreparedStatement
  readonly addKey: PreparedStatement
  readonly setHorizon: PreparedStatement
  readonly requests: LedgerTable
  readonly keys: LedgerTable
}

export class LedgerRows {
  readonly #connection: Connection
  readonly #held = new Map<RequestId, Buffer>()
  #statements: Statements | undefined
  /** The tables are in the database for good, not only in a transaction that may be rolled back. */
  #exists = false
  #newest = ''
  #horizon = ''

  constructor(connection: Connection) {
    this.#connection = connection
  }

  get rowCount(): number {
    const tables = this.#statements
    return tables === undefined ? 0 : tables.requests.rows + tables.keys.rows
  }

  /** Rows for request ids, those held back included. */
  get requestRows(): number {
    return this.#ready.requests.rows + this.#held.size
  }

  get requests(): LedgerTable {
    return this.#ready.requests
  }

  get keys(): LedgerTable {
    return this.#ready.keys
  }

  /** Answers whether the tables had to be created. */
  begin(): boolean {
    const created = !this.#exists && this.#create()
    this.#statements ??= prepare(this.#connection)
    const [newest, horizon] = this.#newestAndHorizon(this.#statements)
    this.#newest = newest?.toString('hex') ?? ''
    this.#horizon = horizon?.toString('hex') ?? ''
    this.#statements.requests.begin()
    this.#statements.keys.begin()
    return created
  }

  committed(): void {
    this.#exists = true
    this.#ready.requests.commit()
    this.#ready.keys.commit()
  }

  rolledBack(): void {
    this.#held.clear()
    this.#statements?.requests.rollback()
    this.#statements?.keys.rollback()
  }

  /** The entry stored under this id. */
  findRequest(id: RequestId): Buffer | undefined {
    if (id > this.#newest) return undefined
    return this.#held.get(id) ?? (this.#ready.findRequest.get(idBytes(id)) as Buffer | undefined)
  }

  /** Adds a row with the next `flush`. */
  addRequest(id: RequestId, entry: Buffer): void {
    this.#held.set(id, entry)
    if (id > this.#newest) this.#newest = id
  }

  /** Writes the rows held back. Answers how many. */
  flush(): number {
    const { requests, addRequest, addRequests } = this.#ready
    const rows = this.#held.size
    let values: Buffer[] = []
    for (const [id, entry] of this.#held) {
      const bytes = idBytes(id)
      requests.added(bytes, entry.length)
      values.push(bytes, entry)
      if (values.length < ROWS_AT_ONCE * 2) continue
      addRequests.run(values)
      values = []
    }
    for (let i = 0; i < values.length; i += 2) addRequest.run(values[i], values[i + 1])
    this.#held.clear()
    return rows
  }

  findKey(key: string): Buffer | undefined {
    return this.#ready.findKey.get(key) as Buffer | undefined
  }

  addKey(key: string, id: RequestId, entry: Buffer): void {
    const bytes = idBytes(id)
    this.#ready.addKey.run(key, bytes, entry)
    this.#ready.keys.added(bytes, entry.length)
  }

  /** Whether rows up to this id were removed. */
  isPruned(id: RequestId): boolean {
    return id <= this.#horizon
  }

  pruneRequests(cutoffMs: number, limit: number): number {
    const { rows, last } = this.#ready.requests.prune(firstIdAt(cutoffMs), limit)
    if (last === undefined) return 0
    const horizon = last.toString('hex')
    if (horizon > this.#horizon) {
      this.#ready.setHorizon.run(last)
      this.#horizon = horizon
    }
    return rows
  }

  pruneKeys(cutoffMs: number, limit: number): number {
    return this.#ready.keys.prune(firstIdAt(cutoffMs), limit).rows
  }

  get #ready(): Statements {
    assert(this.#statements !== undefined, 'the ledger was used before begin()')
    return this.#statements
  }

  #newestAndHorizon({ newest }: Statements): [Buffer | null, Buffer | null] {
    try {
      return newest.get() as [Buffer | null, Buffer | null]
    } catch (error) {
      // Somebody may have dropped the tables; then the next transaction makes them anew.
      this.#exists = false
      throw error
    }
  }

  #create(): boolean {
    const known = this.#connection.prepare('SELECT count(*) FROM sqlite_schema WHERE name IN (?, ?)').pluck()
    if (known.get(REQUEST_TABLE, KEY_TABLE) === 2) return false
    for (const sql of SCHEMA) this.#connection.exec(sql)
    return true
  }
}

function prepare(connection: Connection): Statements {
  return {
    newest: connection
      .prepare(`SELECT (SELECT max(id) FROM ${REQUEST_TABLE}), (SELECT entry FROM ${REQUEST_TABLE} WHERE id = x'')`)
      .raw(),
    findRequest: connection.prepare(`SELECT entry FROM ${REQUEST_TABLE} WHERE id = ?`).pluck(),
    addRequest: connection.prepare(`INSERT INTO ${REQUEST_TABLE} VALUES (?, ?)`),
    addRequests: connection.prepare(
      `INSERT INTO ${REQUEST_TABLE} VALUES ${Array(ROWS_AT_ONCE).fill('(?, ?)').join(', ')}`,
    ),
    findKey: connection.prepare(`SELECT entry FROM ${KEY_TABLE} WHERE key = ?`).pluck(),
    addKey: connection.prepare(`INSERT INTO ${KEY_TABLE} VALUES (?, ?, ?)`),
    setHorizon: connection.prepare(`INSERT OR REPLACE INTO ${REQUEST_TABLE} VALUES (x'', ?)`),
    requests: new LedgerTable(connection, REQUEST_TABLE),
    keys: new LedgerTable(connection, KEY_TABLE),
  }
}

function idBytes(id: RequestId): Buffer {
  return Buffer.from(id, 'hex')
}

/** The smallest id of that time. */
function firstIdAt(timeMs: number): Buffer {
  const bytes = Buffer.alloc(16)
  bytes.writeUIntBE(Math.min(Math.max(0, Math.floor(timeMs)), 2 ** 48 - 1), 0, 6)
  return bytes
}
