/**
 * What the stream needs of one database of this node; written by whoever wires the rooms together.
 *
 * The stream owns this contract so that it needs to know neither the log nor SQLite.
 * Relies on: the log has no hole (I2), and each record is one transaction, so that its TXID is that of the record before plus one.
 */
import type { PageChecksums } from '../ltx/page-checksums.ts'
import type { Epoch, EpochTable } from '../position/epoch.ts'
import type { Position } from '../position/position.ts'
import type { Txid } from '../position/txid.ts'
import type { DatabaseName } from '../request/database-name.ts'
import type { SnapshotSpool } from './snapshot-spool.ts'

export interface StreamableDatabase {
  readonly name: DatabaseName
  /** The announced end: nothing after it is sent, even if the log already holds more (I3, I4). */
  tail(): { readonly position: Position; readonly epoch: Epoch }
  /** All epochs of this database that the node knows. */
  epochTable(): EpochTable
  /** LTX bytes of the records after `after`, about `maxBytes` of them and at least one, or why there are none. */
  readAfter(after: Position, maxBytes: number): LogRead
  /** An LTX snapshot (min TXID 1) of the newest announced state. Rejects when `signal` is aborted. */
  openSnapshot(signal: AbortSignal): Promise<SnapshotSpool>
  /**
   * The LTX that leads from a database with these page checksums to the newest announced state; `undefined` when there can
   * be none. Rejects when `signal` is aborted.
   */
  openDifference(from: PageChecksums, signal: AbortSignal): Promise<SnapshotSpool | undefined>
  /** The raw SQLite file of the newest announced state, as `/export` gives it. Rejects when `signal` is aborted. */
  openImage(signal: AbortSignal): Promise<SnapshotSpool>
  /** Calls `listener` after each advance of `tail()`. It only marks and wakes. Answers how to stop. */
  onAdvance(listener: () => void): () => void
  /** High-water mark of the backup, which LiteFS replicas keep records by; 0 when nothing is backed up. */
  highWaterMark?(): Txid
}

export type LogRead =
  | {
      readonly kind: 'records'
      readonly records: readonly Buffer[]
      readonly epochs: readonly Epoch[]
      readonly end: Position
    }
  | { readonly kind: 'at-end' }
  /** The record after that position is no longer held. */
  | { readonly kind: 'gone' }
  /** The log has another checksum at that TXID. */
  | { readonly kind: 'diverged' }
