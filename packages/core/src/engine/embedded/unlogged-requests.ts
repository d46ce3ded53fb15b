/**
 * What a transaction was asked for that SQLite has committed and the log could not take, until the log has it.
 *
 * Its callers were told that the outcome is unknown; the ledger, which is in the database, may tell them later that it was applied. So the
 * requests must come into the log with the transaction when the database is opened again, or a divergence report would not have them.
 * Bound: one transaction, because a database whose log failed takes no more. Lost with the process.
 */
import { type Position, samePosition } from '../../position/position.ts'

export class UnloggedRequests {
  #kept: { readonly position: Position; readonly requests: Buffer } | undefined

  /** @param position after the transaction */
  keep(position: Position, requests: Buffer | undefined): void {
    this.#kept = requests === undefined ? undefined : { position, requests }
  }

  /** The log has them. */
  forget(): void {
    this.#kept = undefined
  }

  /** Of the transaction that leads to this position. */
  of(position: Position): Buffer | undefined {
    return this.#kept !== undefined && samePosition(this.#kept.position, position) ? this.#kept.requests : undefined
  }
}
