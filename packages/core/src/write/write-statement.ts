/** A prepared statement of the writer connection, and the shape its rows were last asked for in. */
import type { StatementRule } from '../request/statement-rules.ts'
import type { Connection, PreparedStatement } from '../sqlite/connection.ts'

/** How rows come: objects, the first column, arrays, or one object per table. */
export type RowShape = 'rows' | 'pluck' | 'raw' | 'expand'

export class WriteStatement {
  readonly isReader: boolean
  readonly isReadonly: boolean
  /** A pragma that returns no columns may still need many steps (incremental_vacuum takes one per page); `run` makes one. */
  readonly mustBeStepped: boolean
  /** It would change how other requests of the same transaction behave. */
  readonly needsOwnTransaction: boolean
  readonly #statement: PreparedStatement
  #shape: RowShape = 'rows'
  #safeIntegers = false

  /** @param rule of a statement that may run */
  constructor(connection: Connection, sql: string, rule: StatementRule) {
    this.#statement = connection.prepare(sql)
    // The connection's default may have been changed by the setup hook.
    this.#statement.safeIntegers(false)
    this.isReader = this.#statement.reader
    this.isReadonly = this.#statement.readonly
    this.needsOwnTransaction = rule.kind === 'alone'
    this.mustBeStepped = !this.isReader && (rule.kind === 'alone' || (rule.kind === 'plain' && rule.isPragma))
  }

  get isBusy(): boolean {
    return this.#statement.busy
  }

  /** The statement, answering in this shape. */
  shaped(shape: RowShape, safeIntegers: boolean): PreparedStatement {
    const statement = this.#statement
    if (safeIntegers !== this.#safeIntegers) {
      statement.safeIntegers(safeIntegers)
      this.#safeIntegers = safeIntegers
    }
    if (shape !== this.#shape) {
      if (this.#shape !== 'rows') statement[this.#shape](false)
      if (shape !== 'rows') statement[shape](true)
      this.#shape = shape
    }
    return statement
  }
}
