/**
 * A prepared read, with the surface of better-sqlite3's `Statement`.
 *
 * It prepares itself again when the file under it was replaced. `get` and `all` run on the shared connection and hold no
 * snapshot afterwards; `iterate` holds one on a connection of its own until it ends or is broken out of.
 */
import type { SqlValue } from '../request/sql-value.ts'
import type { ColumnDefinition, Connection, PreparedStatement } from '../sqlite/connection.ts'
import { type LocalReader, prepareRead } from './local-reader.ts'

/** What better-sqlite3 binds: values in order, arrays of them, or one object of named values. */
export type BindParameter = SqlValue | readonly SqlValue[] | Readonly<Record<string, SqlValue>>

export class ReadStatement<Row = unknown> {
  readonly source: string
  readonly #reader: LocalReader
  readonly #database: string
  #statement: PreparedStatement
  #generation: number
  #mode: 'rows' | 'pluck' | 'raw' | 'expand' = 'rows'
  #safeIntegers: boolean | undefined

  constructor(reader: LocalReader, sql: string, database: string) {
    this.source = sql
    this.#reader = reader
    this.#database = database
    this.#statement = reader.prepare(sql)
    this.#generation = reader.generation
  }

  /** The first row, or `undefined`. */
  get(...params: BindParameter[]): Row | undefined {
    if (this.#generation !== this.#reader.generation) this.#prepareAgain()
    return this.#statement.get(...params) as Row | undefined
  }

  /** All rows. */
  all(...params: BindParameter[]): Row[] {
    if (this.#generation !== this.#reader.generation) this.#prepareAgain()
    return this.#statement.all(...params) as Row[]
  }

  /** Rows one by one, all of one state of the database. */
  *iterate(...params: BindParameter[]): IterableIterator<Row> {
    const connection: Connection = this.#reader.acquire()
    try {
      const statement = this.#shape(prepareRead(connection, this.source, this.#database))
      yield* statement.iterate(...params) as IterableIterator<Row>
    } finally {
      this.#reader.release(connection)
    }
  }

  /** Answer the first column only. */
  pluck(on = true): this {
    return this.#setMode(on ? 'pluck' : 'rows')
  }

  /** Answer rows as arrays. */
  raw(on = true): this {
    return this.#setMode(on ? 'raw' : 'rows')
  }

  /** Answer rows as objects of one object per table. */
  expand(on = true): this {
    return this.#setMode(on ? 'expand' : 'rows')
  }

  /** Answer INTEGER columns as bigint. */
  safeIntegers(on = true): this {
    this.#safeIntegers = on
    this.#prepareAgain()
    return this
  }

  columns(): ColumnDefinition[] {
    if (this.#generation !== this.#reader.generation) this.#prepareAgain()
    return this.#statement.columns()
  }

  #setMode(mode: 'rows' | 'pluck' | 'raw' | 'expand'): this {
    this.#mode = mode
    this.#prepareAgain()
    return this
  }

  #prepareAgain(): void {
    this.#statement = this.#shape(this.#reader.prepare(this.source))
    this.#generation = this.#reader.generation
  }

  #shape(statement: PreparedStatement): PreparedStatement {
    if (this.#mode !== 'rows') statement[this.#mode](true)
    if (this.#safeIntegers !== undefined) statement.safeIntegers(this.#safeIntegers)
    return statement
  }
}
