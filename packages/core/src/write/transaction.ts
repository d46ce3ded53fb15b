/**
 * The handle of a procedure: reads and writes inside the transaction of its request, in better-sqlite3's words.
 *
 * Usable only while the procedure runs. The statements a batch may not contain are refused here, too.
 */
import type { SqlParams, SqlRow } from '../request/sql-value.ts'
import { refusePromise } from './refuse-promise.ts'
import type { TransactionScope } from './transaction-scope.ts'
import { type RunResult, TransactionStatement } from './transaction-statement.ts'

/** SQLite matches the innermost savepoint of a name, so nesting needs one name only. */
const SAVEPOINT = '_litefleet_tx'

export class Transaction {
  readonly #scope: TransactionScope

  /** @internal Made by the group commit, one for each run of a procedure. */
  constructor(scope: TransactionScope) {
    this.#scope = scope
  }

  /** Throws `STATEMENT_REFUSED`, `CLOSED` after the procedure, and SQLite's errors. */
  prepare<Row = SqlRow>(sql: string): TransactionStatement<Row> {
    return new TransactionStatement<Row>(this.#scope, sql)
  }

  run(sql: string, params?: SqlParams): RunResult {
    const statement = this.prepare(sql)
    return params === undefined ? statement.run() : statement.run(params)
  }

  /** The first row, or `undefined`. */
  get<Row = SqlRow>(sql: string, params?: SqlParams): Row | undefined {
    const statement = this.prepare<Row>(sql)
    return params === undefined ? statement.get() : statement.get(params)
  }

  all<Row = SqlRow>(sql: string, params?: SqlParams): Row[] {
    const statement = this.prepare<Row>(sql)
    return params === undefined ? statement.all() : statement.all(params)
  }

  /** Does all of `work` or none of it: what it throws undoes its changes and is thrown on. `work` is synchronous; may be nested. */
  savepoint<T>(work: () => T): T {
    const scope = this.#scope
    const iterators = scope.openIterators
    scope.exec(`SAVEPOINT ${SAVEPOINT}`)
    try {
      const result = refusePromise(work(), 'savepoint()')
      scope.closeIterators(iterators)
      scope.exec(`RELEASE ${SAVEPOINT}`)
      return result
    } catch (error) {
      scope.closeIterators(iterators)
      // In a transaction that is gone there is nothing to undo.
      if (scope.broken === undefined) scope.exec(`ROLLBACK TO ${SAVEPOINT}; RELEASE ${SAVEPOINT}`)
      throw error
    }
  }
}
