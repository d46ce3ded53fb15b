/**
 * The contract of a replication engine: how a node holds databases, whatever carries their changes.
 *
 * An engine promises, for each database it opened:
 * - the tracker advances only after a new read through `openReader()` sees the transaction (I3);
 * - `write` resolves only after the transaction is durable on this node and its position was announced, and it runs nothing
 *   on a node that is not the primary (I4);
 * - a failed `write` says by its error's outcome what became of it, and `resolve` where that is not known;
 * - equal positions on two nodes mean equal databases, byte for byte (I9).
 *
 * Engines know nothing of the network of applications (forwarding, procedures by name on other nodes) and nothing of each other.
 */
import type { Epoch, EpochTable } from '../position/epoch.ts'
import type { Position } from '../position/position.ts'
import type { PositionTracker } from '../position/position-tracker.ts'
import type { DatabaseName } from '../request/database-name.ts'
import type { RequestId } from '../request/request-id.ts'
import type { Resolution, WriteOperation, WriteResult } from '../request/write-request.ts'
import type { Connection } from '../sqlite/connection.ts'
import type { ProcedureTable } from '../write/procedure-table.ts'

/** One write for this node's queue. */
export interface LocalWrite {
  readonly operation: WriteOperation
  readonly requestId: RequestId | undefined
  readonly idempotencyKey: string | undefined
  /** On the clock's monotonic scale. */
  readonly deadlineMs: number
}

export interface CommittedWrite {
  readonly result: WriteResult
  /** The ledger knew the request: this is its first answer, nothing ran now. */
  readonly replayed: boolean
  /** A position at which the write is contained. */
  readonly position: Position
  readonly epoch: Epoch
}

/** The question what became of a write. */
export interface LocalResolve {
  readonly requestId: RequestId
  /** On the clock's monotonic scale. */
  readonly deadlineMs: number
}

/** The answer is contained in this position, so that it holds wherever the position is. */
export type ResolvedWrite = Resolution & { readonly position: Position; readonly epoch: Epoch }

export type DatabaseState =
  /** Takes part: serves reads, and writes on the primary. */
  | { readonly kind: 'ready' }
  /** Has no copy yet, or gave up its own because it diverged; waits for a snapshot. */
  | { readonly kind: 'seeding'; readonly reason: string }
  /** Takes no writes after a failure that left its outcome unknown. */
  | { readonly kind: 'stopped'; readonly reason: string }

/** Facts for status and metrics. */
export interface DatabaseFacts {
  readonly name: DatabaseName
  readonly state: DatabaseState
  readonly position: Position
  readonly epoch: Epoch
  /** What the log holds durably. */
  readonly durable: Position
  readonly pageSize: number
  readonly pageCount: number
  readonly logBytes: number
  readonly logRecords: number
  readonly walFrames: number
  readonly queuedWrites: number
  /** Divergence reports kept on this node. */
  readonly divergences: number
  /** Which epoch wrote which TXIDs. */
  readonly epochs: EpochTable
  /** Age of what this node serves, in ms; 0 on the primary, `undefined` before anything arrived. */
  readonly lagMs: number | undefined
}

export interface EngineDatabase {
  readonly name: DatabaseName
  /** The SQLite file on this node. */
  readonly path: string
  readonly tracker: PositionTracker
  /** Functions of the application that run inside a write on this node. */
  readonly procedures: ProcedureTable
  write(write: LocalWrite): Promise<CommittedWrite>
  /** Stands in line with the writes. What it answered is as durable as a write, and what was not applied never will be. */
  resolve(question: LocalResolve): Promise<ResolvedWrite>
  /** A new read-only connection. It must be closed when `onReplace` asks for it, and before the database closes. */
  openReader(): Connection
  /** Before another file takes the database's place every connection to the old one must be closed. Answers how to stop. */
  onReplace(closeConnections: () => Promise<void>): () => void
  /** Resolves once the database can be read. Rejects at `deadlineMs` (monotonic) with `WAIT_TIMEOUT`. */
  whenReady(deadlineMs: number): Promise<void>
  facts(): DatabaseFacts
}
