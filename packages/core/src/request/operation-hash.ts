/**
 * A 128-bit fingerprint of what a request asks for, so that the ledger can tell a repeated request from another one under the
 * same id or key. Half of a SHA-256 over the operation's canonical form: equal operations give equal fingerprints on every
 * node and in every version that keeps this form (operation-codec.ts), whatever way they travelled.
 */
import { hash } from 'node:crypto'
import { writeOperation } from './operation-codec.ts'
import { PlainWriter } from './plain-writer.ts'
import type { WriteOperation } from './write-request.ts'

export const OPERATION_HASH_BYTES = 16

export class OperationHasher {
  readonly #writer = new PlainWriter({ canonical: true })

  /** One character per byte. Throws `INVALID_REQUEST` for values that cannot be written. */
  hash(operation: WriteOperation): string {
    const writer = this.#writer
    writer.reset()
    writeOperation(writer, operation)
    // As a string, because a Buffer from the digest costs several times as much.
    return hash('sha256', writer.written, 'binary').slice(0, OPERATION_HASH_BYTES)
  }
}
