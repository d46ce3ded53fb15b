/**
 * What a procedure may still do with the writer connection: everything while it runs, nothing afterwards.
 *
 * Why it watches every statement: an error can end the whole transaction (`RAISE(ROLLBACK)`, `OR ROLLBACK`, a full disk). A
 * procedure that catches such an error and goes on would write outside any transaction, and each of its statements would
 * commit by itself. So after a failed statement the scope looks, and is *broken* from then on.
 *
 * Promises: after `end()` no iterator is open and no statement of this scope runs.
 */
import { ClusterError } from '../errors/cluster-error.ts'
import type { Connection } from '../sqlite/connection.ts'
import type { StatementExecutor } from './statement-executor.ts'
import type { WriteStatement } from './write-statement.ts'

export interface TransactionScopeOptions {
  readonly connection: Connection
  readonly executor: StatementExecutor
  /** For messages, e.g. `procedure "charge"`. */
  readonly name: string
  /** No other request shares the transaction. */
  readonly isAlone: boolean
}

/** Thrown through a procedure that must be run again in a transaction of its own; its group is repeated in any case. */
export class NeedsOwnTransaction extends Error {
  override readonly name = 'NeedsOwnTransaction'
}

export class TransactionScope {
  readonly #options: TransactionScopeOptions
  readonly #iterators: Iterator<unknown>[] = []
  #isEnded = false
  #broken: { readonly error: unknown } | undefined

  constructor(options: TransactionScopeOptions) {
    this.#options = options
  }

  /** Why the transaction is gone or must not go on, whatever the procedure made of it. */
  get broken(): { readonly error: unknown } | undefined {
    return this.#broken
  }

  /** Prepares under the rules of writes. */
  prepare(sql: string): WriteStatement {
    const { executor, isAlone, name } = this.#options
    const rule = executor.rule(sql)
    if (rule.kind === 'outside-transaction') {
      throw new ClusterError('STATEMENT_REFUSED', `${name}: ${rule.word} cannot run inside a transaction`, {
        hint: `Run it as the only statement of a batch.`,
      })
    }
    if (rule.kind === 'alone' && !isAlone) {
      this.#broken = { error: new NeedsOwnTransaction(`${name}: ${rule.word}`) }
      throw this.#broken.error
    }
    const statement = executor.prepare(sql)
    return this.#iterators.length > 0 && statement.isBusy ? executor.prepareAnother(sql) : statement
  }

  /** Does something with the connection, if the transaction still stands. */
  run<T>(work: () => T): T {
    if (this.#isEnded) {
      throw new ClusterError('CLOSED', `${this.#options.name}: its transaction has ended`, {
        hint: 'Use tx only while the procedure runs; a procedure is synchronous.',
      })
    }
    if (this.#broken !== undefined) throw this.#broken.error
    try {
      return work()
    } catch (error) {
      if (!this.#options.connection.inTransaction) this.#broken ??= { error }
      throw error
    }
  }

  /** Runs statements of our own to their end. */
  exec(sql: string): void {
    this.run(() => this.#options.connection.exec(sql))
  }

  get openIterators(): number {
    return this.#iterators.length
  }

  opened(iterator: Iterator<unknown>): void {
    this.#iterators.push(iterator)
  }

  closed(iterator: Iterator<unknown>): void {
    const index = this.#iterators.lastIndexOf(iterator)
    if (index >= 0) this.#iterators.splice(index, 1)
  }

  /** An open iterator would keep SQLite from ending a savepoint or the transaction. */
  closeIterators(downTo = 0): void {
    for (const iterator of this.#iterators.splice(downTo)) iterator.return?.()
  }

  end(): void {
    this.closeIterators()
    this.#isEnded = true
  }
}
