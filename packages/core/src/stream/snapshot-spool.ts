/**
 * Bytes that were copied aside and are sent at the pace of their reader: an LTX snapshot or a raw database file.
 *
 * Relies on: whoever builds it pins the database only while it is copied locally, never for the transfer.
 * Promises: `read()` may follow the copy while it grows; once it ended without throwing, the bytes are whole and verified.
 */
import type { Position } from '../position/position.ts'

export interface SnapshotSpool {
  /** The state of the database that the bytes describe. */
  readonly position: Position
  /** Total size, known before the first byte. */
  readonly sizeBytes: number
  /** The bytes in order, in pieces of any size. Called once. Throws when the copy failed. */
  read(): AsyncIterable<Buffer>
  /** Resolves when the copy is complete, rejects when it failed; independent of how far it was read. */
  readonly done: Promise<void>
  /** Ends the copy and frees its space. Idempotent. */
  close(): void | Promise<void>
}
