/**
 * Prepared statements of one connection by their text, the least recently used dropped first.
 *
 * Promises: at most `max` statements are kept. A statement that is being iterated is never handed out a second time.
 */
import type { Statement } from 'better-sqlite3'
import { assert } from '../base/assert.ts'
import type { Connection } from './connection.ts'

export class StatementCache {
  readonly #connection: Connection
  readonly #max: number
  /** In order of last use, oldest first. */
  readonly #statements = new Map<string, Statement>()

  /** @param max statements kept, at least 1 */
  constructor(connection: Connection, max: number) {
    assert(Number.isInteger(max) && max >= 1, `statement cache of ${max}`)
    this.#connection = connection
    this.#max = max
  }

  get size(): number {
    return this.#statements.size
  }

  /**
   * The statement for `sql`, in better-sqlite3's default mode (no pluck, raw, expand; numbers for integers): callers that
   * switch a mode switch it back.
   * @throws SqliteError when SQLite cannot prepare it
   */
  get(sql: string): Statement {
    const known = this.#statements.get(sql)
    if (known !== undefined) {
      if (known.busy) return this.#connection.prepare(sql)
      this.#statements.delete(sql)
      this.#statements.set(sql, known)
      return known
    }
    const statement: Statement = this.#connection.prepare(sql)
    this.#statements.set(sql, statement)
    if (this.#statements.size > this.#max) {
      for (const oldest of this.#statements.keys()) {
        this.#statements.delete(oldest)
        break
      }
    }
    return statement
  }

  /** Forgets every statement. */
  clear(): void {
    this.#statements.clear()
  }
}
