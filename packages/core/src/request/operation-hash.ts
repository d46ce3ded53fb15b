/**
 * A 128-bit fingerprint of what a request asks for, so that the ledger can tell a repeated request from another one under the
 * same id or key. Half of a SHA-256 over the operation's canonical form: equal operations give equal fingerprints on every
 * node and in every version that keeps this form, whatever way they travelled.
 *
 *   batch      byte 1, varint statements, each: string sql, byte safeIntegers, value params (undefined = none)
 *   procedure  byte 2, string name, value input
 */
import { hash } from 'node:crypto'
import { PlainWriter } from './plain-writer.ts'
import type { WriteOperation } from './write-request.ts'

export const OPERATION_HASH_BYTES = 16

export class OperationHasher {
  readonly #writer = new PlainWriter({ canonical: true })

  /** One character per byte. Throws `INVALID_REQUEST` for values that cannot be written. */
  hash(operation: WriteOperation): string {
    const writer = this.#writer
    writer.reset()
    if (operation.kind === 'batch') {
      writer.byte(1)
      writer.varint(operation.statements.length)
      for (const statement of operation.statements) {
        writer.string(statement.sql)
        writer.byte(statement.safeIntegers === true ? 1 : 0)
        writer.value(statement.params)
      }
    } else {
      writer.byte(2)
      writer.string(operation.name)
      writer.value(operation.input)
    }
    // As a string, because a Buffer from the digest costs several times as much.
    return hash('sha256', writer.written, 'binary').slice(0, OPERATION_HASH_BYTES)
  }
}
