/** A prepared statement inside a procedure, with the surface of better-sqlite3's `Statement`. */
import type { SqlRow, SqlValue } from '../request/sql-value.ts'
import type { ColumnDefinition, PreparedStatement } from '../sqlite/connection.ts'
import type { TransactionScope } from './transaction-scope.ts'
import type { RowShape, WriteStatement } from './write-statement.ts'

/** What better-sqlite3 binds: values in order, arrays of them, or one object of named values. */
export type BindParameter = SqlValue | readonly SqlValue[] | Readonly<Record<string, SqlValue>>

export interface RunResult {
  readonly changes: number
  readonly lastInsertRowid: number | bigint
}

export class TransactionStatement<Row = SqlRow> {
  readonly source: string
  readonly #scope: TransactionScope
  readonly #statement: WriteStatement
  #shape: RowShape = 'rows'
  #safeIntegers = false
  #bound: readonly BindParameter[] | undefined

  /** @internal Use `tx.prepare()`. */
  constructor(scope: TransactionScope, sql: string) {
    this.source = sql
    this.#scope = scope
    this.#statement = scope.run(() => scope.prepare(sql))
  }

  /** Whether it returns rows. */
  get reader(): boolean {
    return this.#statement.isReader
  }

  get readonly(): boolean {
    return this.#statement.isReadonly
  }

  run(...params: BindParameter[]): RunResult {
    if (this.#statement.mustBeStepped) this.#scope.exec(this.source)
    return this.#use((statement, bound) => statement.run(...bound), params)
  }

  /** The first row, or `undefined`. */
  get(...params: BindParameter[]): Row | undefined {
    return this.#use((statement, bound) => statement.get(...bound) as Row | undefined, params)
  }

  all(...params: BindParameter[]): Row[] {
    return this.#use((statement, bound) => statement.all(...bound) as Row[], params)
  }

  /** Rows one by one. As in better-sqlite3, nothing can be written while an iterator is open. */
  *iterate(...params: BindParameter[]): IterableIterator<Row> {
    const scope = this.#scope
    const iterator = this.#use((statement, bound) => statement.iterate(...bound) as IterableIterator<Row>, params)
    scope.opened(iterator)
    try {
      for (;;) {
        const step = scope.run(() => iterator.next())
        if (step.done === true) return
        yield step.value
      }
    } finally {
      iterator.return?.()
      scope.closed(iterator)
    }
  }

  /** Binds parameters for good. */
  bind(...params: BindParameter[]): this {
    if (this.#bound !== undefined)
      throw new TypeError('The bind() method can only be invoked once per statement object')
    this.#bound = params
    return this
  }

  /** Answer the first column only. */
  pluck(on = true): this {
    return this.#setShape('pluck', on)
  }

  /** Answer rows as arrays. */
  raw(on = true): this {
    return this.#setShape('raw', on)
  }

  /** Answer rows as objects of one object per table. */
  expand(on = true): this {
    return this.#setShape('expand', on)
  }

  /** Answer INTEGER columns and `lastInsertRowid` as bigint. */
  safeIntegers(on = true): this {
    this.#safeIntegers = on
    return this
  }

  columns(): ColumnDefinition[] {
    return this.#use((statement) => statement.columns(), [])
  }

  #setShape(shape: RowShape, on: boolean): this {
    if (!this.reader) throw new TypeError(`The ${shape}() method is only for statements that return data`)
    if (on) this.#shape = shape
    else if (this.#shape === shape) this.#shape = 'rows'
    return this
  }

  #use<T>(
    action: (statement: PreparedStatement, params: readonly BindParameter[]) => T,
    params: readonly BindParameter[],
  ): T {
    const bound = this.#bound
    if (bound !== undefined && params.length > 0) throw new TypeError('This statement already has bound parameters')
    return this.#scope.run(() => {
      // The prepared statement is shared by everybody who uses the same text, also while one of them iterates over it.
      const statement = this.#statement.isBusy ? this.#scope.prepare(this.source) : this.#statement
      return action(statement.shaped(this.#shape, this.#safeIntegers), bound ?? params)
    })
  }
}
