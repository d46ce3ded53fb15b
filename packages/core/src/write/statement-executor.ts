/**
 * Runs SQL on the writer connection with the effect and the result better-sqlite3 would give locally.
 *
 * Keeps prepared statements by their text. The rules come first, before a text is prepared, because some pragmas take effect
 * while they are prepared. Bound: two generations of `statementsMax` / 2 texts; a text that is not used for that long is
 * forgotten. Longer texts than `TEXT_MAX` are never kept.
 */
import { classifyStatement, type StatementRule, statementRefused } from '../request/statement-rules.ts'
import type { SqlParams } from '../request/sql-value.ts'
import type { SqlStatement, StatementResult } from '../request/write-request.ts'
import type { Connection, PreparedStatement } from '../sqlite/connection.ts'
import { WriteStatement } from './write-statement.ts'

/** Bulk inserts with their values in the text are rarely repeated. */
const TEXT_MAX = 16 * 1024

interface Entry {
  readonly rule: StatementRule
  statement: WriteStatement | undefined
}

export class StatementExecutor {
  readonly #connection: Connection
  readonly #generationMax: number
  #young = new Map<string, Entry>()
  #old = new Map<string, Entry>()
  readonly #totalChanges: PreparedStatement
  readonly #counters: PreparedStatement

  constructor(connection: Connection, statementsMax: number) {
    this.#connection = connection
    this.#generationMax = Math.ceil(statementsMax / 2)
    this.#totalChanges = connection.prepare('SELECT total_changes()').pluck().safeIntegers(false)
    this.#counters = connection
      .prepare('SELECT total_changes(), changes(), last_insert_rowid()')
      .raw()
      .safeIntegers(true)
  }

  rule(sql: string): StatementRule {
    return this.#entry(sql).rule
  }

  /**
   * The statement for `sql`. Its shape (pluck, raw, safeIntegers) is whatever the last user left; see `WriteStatement.shaped`.
   * @throws STATEMENT_REFUSED, SqliteError, and better-sqlite3's own errors for a text of no or several statements
   */
  prepare(sql: string): WriteStatement {
    const entry = this.#entry(sql)
    if (entry.rule.kind === 'refused') throw statementRefused(entry.rule.word)
    return (entry.statement ??= new WriteStatement(this.#connection, sql, entry.rule))
  }

  /** As `prepare`, but a statement nobody else has: for one that is being iterated. */
  prepareAnother(sql: string): WriteStatement {
    return new WriteStatement(this.#connection, sql, this.rule(sql))
  }

  /** Runs one statement of a batch: to its end, with its rows if it has columns. */
  execute({ sql, params, safeIntegers = false }: SqlStatement): StatementResult {
    const statement = this.prepare(sql)
    if (statement.isReader) return this.#executeReader(statement, params, safeIntegers)
    if (statement.mustBeStepped) {
      this.#connection.exec(sql)
      return { changes: 0, lastInsertRowid: this.#lastInsertRowid(safeIntegers) }
    }
    return bindAndRun(statement.shaped('rows', safeIntegers), params)
  }

  /** `run` would answer how many rows changed but would not step through the rows; so the two are asked one after the other. */
  #executeReader(statement: WriteStatement, params: SqlParams | undefined, safeIntegers: boolean): StatementResult {
    const shaped = statement.shaped('rows', safeIntegers)
    const before = statement.isReadonly ? 0 : (this.#totalChanges.get() as number)
    const rows = (params === undefined ? shaped.all() : shaped.all(params)) as StatementResult['rows']
    if (statement.isReadonly) return { changes: 0, lastInsertRowid: this.#lastInsertRowid(safeIntegers), rows }
    const [total, changes, rowid] = this.#counters.get() as [bigint, bigint, bigint]
    return {
      changes: Number(total) === before ? 0 : Number(changes),
      lastInsertRowid: safeIntegers ? rowid : Number(rowid),
      rows,
    }
  }

  #lastInsertRowid(safeIntegers: boolean): number | bigint {
    const [, , rowid] = this.#counters.get() as [bigint, bigint, bigint]
    return safeIntegers ? rowid : Number(rowid)
  }

  #entry(sql: string): Entry {
    const young = this.#young.get(sql)
    if (young !== undefined) return young
    const entry = this.#old.get(sql) ?? { rule: classifyStatement(sql), statement: undefined }
    if (sql.length <= TEXT_MAX) this.#keep(sql, entry)
    return entry
  }

  #keep(sql: string, entry: Entry): void {
    if (this.#young.size >= this.#generationMax) {
      this.#old = this.#young
      this.#young = new Map()
    }
    this.#young.set(sql, entry)
  }
}

function bindAndRun(statement: PreparedStatement, params: SqlParams | undefined): StatementResult {
  return params === undefined ? statement.run() : statement.run(params)
}
