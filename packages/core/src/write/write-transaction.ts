/**
 * The transaction on the writer connection: taken with the write lock, given up or committed together with the ledger.
 *
 * Relies on: one at a time; nobody else begins or ends transactions on this connection.
 * Promises: after `commit` and `rollback` no transaction is open and the ledger knows which it was. `hasCommitted` tells
 * whether anything became durable since `startBatch`.
 */
import { assert, InvariantError } from '../base/assert.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { Connection, PreparedStatement } from '../sqlite/connection.ts'
import { isBusy, sqliteErrorCode } from '../sqlite/sqlite-error.ts'
import type { RequestLedger } from './request-ledger.ts'

export interface WriteTransactionParts {
  readonly database: string
  readonly writer: Connection
  readonly ledger: RequestLedger
  afterBegin(): void
}

const SAVEPOINT = '_litefleet_request'

export class WriteTransaction {
  readonly #parts: WriteTransactionParts
  readonly #begin: PreparedStatement
  readonly #commit: PreparedStatement
  readonly #rollback: PreparedStatement
  readonly #savepoint: PreparedStatement
  readonly #release: PreparedStatement
  readonly #rollbackTo: PreparedStatement
  #hasCommitted = false

  constructor(parts: WriteTransactionParts) {
    const { writer } = parts
    this.#parts = parts
    this.#begin = writer.prepare('BEGIN IMMEDIATE')
    this.#commit = writer.prepare('COMMIT')
    this.#rollback = writer.prepare('ROLLBACK')
    this.#savepoint = writer.prepare(`SAVEPOINT ${SAVEPOINT}`)
    this.#release = writer.prepare(`RELEASE ${SAVEPOINT}`)
    this.#rollbackTo = writer.prepare(`ROLLBACK TO ${SAVEPOINT}`)
  }

  /** False after an error that ended the transaction, such as `RAISE(ROLLBACK)`. */
  get isOpen(): boolean {
    return this.#parts.writer.inTransaction
  }

  get hasCommitted(): boolean {
    return this.#hasCommitted
  }

  startBatch(): void {
    this.#hasCommitted = false
  }

  /** Something became durable without a transaction (VACUUM). */
  noteCommit(): void {
    this.#hasCommitted = true
  }

  /** Takes the write lock. False: another process has it. Throws what `afterBegin` throws, rolled back. */
  begin(): boolean {
    try {
      this.#begin.run()
    } catch (error) {
      if (isBusy(error)) return false
      throw error
    }
    try {
      this.#parts.afterBegin()
    } catch (error) {
      this.rollback()
      throw error
    }
    return true
  }

  savepoint(): void {
    this.#savepoint.run()
  }

  release(): void {
    this.#release.run()
  }

  rollbackToSavepoint(): void {
    this.#rollbackTo.run()
    this.#release.run()
  }

  /** Commits, or rolls back when there is nothing to commit. Throws what COMMIT throws; the transaction may then be open. */
  commit(hasWork: boolean): void {
    const { ledger } = this.#parts
    assert(this.isOpen, 'a request ended the transaction unnoticed')
    ledger.finish()
    if (!hasWork && !ledger.hasWritten) return this.rollback()
    this.#commit.run()
    this.#hasCommitted = true
    ledger.committed()
  }

  /** As `commit`, but answers why it failed, rolled back. `WRITE_OUTCOME_UNKNOWN` when only the disk could tell. */
  tryCommit(hasWork: boolean): unknown {
    try {
      this.commit(hasWork)
      return undefined
    } catch (error) {
      this.rollback()
      if (error instanceof InvariantError) throw error
      if (!sqliteErrorCode(error)?.startsWith('SQLITE_IOERR')) return error
      // The commit frame may be in the WAL file although it could not be synced. Here it counts as rolled back, but if the
      // process died now, recovery might find it.
      return new ClusterError(
        'WRITE_OUTCOME_UNKNOWN',
        `database "${this.#parts.database}": the disk failed during COMMIT`,
        { cause: error, details: { phase: 'commit' } },
      )
    }
  }

  rollback(): void {
    if (this.isOpen) this.#rollback.run()
    this.#parts.ledger.rolledBack()
  }
}
