/**
 * What a replica does with the frames of one database; written by whoever wires the rooms together.
 *
 * Order: `differenceBase`, and when it answers one: `connected` and `beginSnapshot`; then `connected` and any of `records`, `beginSnapshot`, `heartbeat`, `ready`, `dropped` in the order of the wire, one at a
 * time: while a promise is pending nothing else of this database is delivered and its part of the connection stops flowing.
 * Relies on: `position()` is true whenever no call is pending; the next connection continues from it.
 * Any call may throw or reject (a record that does not continue the position, say): the connection of this database ends and is
 * made anew with the true position.
 */
import type { PageChecksums } from '../ltx/page-checksums.ts'
import type { Epoch, EpochTable } from '../position/epoch.ts'
import type { Position } from '../position/position.ts'

export interface StreamReceiver {
  /** Where this database stands; `ZERO_POSITION` when it has nothing. */
  position(): Position
  /** Epoch of the last record held. */
  epoch(): Epoch
  /** The primary answered. Throwing refuses it. */
  connected?(greeting: StreamGreeting): void | Promise<void>
  /**
   * Whole LTX, one transaction each, in order; compressed or not, as the primary sent them, and not verified.
   * They may share memory with each other: copy what is kept longer than the batch.
   */
  records(ltx: readonly Buffer[]): void | Promise<void>
  /**
   * Page checksums of the copy here, when it has to be seeded and could be led on by a difference. Nothing is applied any more
   * once this has resolved.
   */
  differenceBase?(): Promise<PageChecksums | undefined>
  /**
   * A snapshot begins: it replaces whatever this database holds.
   * @param base what `differenceBase` answered, if it may be a difference to that
   */
  beginSnapshot(base?: PageChecksums): SnapshotIntake
  /** Clock of the primary, ms since the Unix epoch. */
  heartbeat(timestampMs: number): void
  /** Everything that was missing when the connection was made has been delivered. */
  ready(): void
  /** The primary has no database of this name, although this node told a position of it. LiteFS replicas ignore this. */
  dropped(): void | Promise<void>
}

/** Takes the bytes of one LTX snapshot, header included. Either `finish` or `abort` is its last call. */
export interface SnapshotIntake {
  data(chunk: Buffer): void | Promise<void>
  finish(): Promise<void>
  abort(error: unknown): void
}

/** Who answered, from the headers of the response. */
export interface StreamGreeting {
  /** LiteFS node id, 16 uppercase hex digits; empty when it sent none. */
  readonly nodeId: string
  readonly clusterId: string | undefined
  readonly kind: 'litefs' | 'litefleet'
  /** Epoch of the primary's time in office; `NO_EPOCH` for LiteFS, and for a replica that answers a candidate. */
  readonly term: Epoch
  /**
   * Epochs of this database, valid for every record of this connection; the oldest may be missing in a very long table.
   * `undefined` when the primary is LiteFS, or does not have the database (yet: the connection ends when it comes).
   */
  readonly epochs: EpochTable | undefined
  /** Where the primary stood when it answered; `undefined` when it did not say. */
  readonly position: Position | undefined
  /** Records do not lead this node on: they are gone, or its position is not one of the primary's. Nothing follows then. */
  readonly seed: 'gone' | 'diverged' | undefined
}
