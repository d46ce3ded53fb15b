/**
 * A write as the calling node hands it on, and what comes back: the currency between `database/`, `forward/` and the
 * engine.
 */
import type { Epoch } from '../position/epoch.ts'
import type { Position } from '../position/position.ts'
import type { AwaitLevel } from '../request/await-level.ts'
import type { DatabaseName } from '../request/database-name.ts'
import type { RequestId } from '../request/request-id.ts'
import type { Resolution, WriteOperation, WriteResult } from '../request/write-request.ts'

export interface WriteCall {
  readonly database: DatabaseName
  readonly operation: WriteOperation
  /** Identity of the write. The forwarder gives one to every write that leaves this node. */
  readonly requestId: RequestId | undefined
  /** The caller's own name for the write, at most one effect per key. */
  readonly idempotencyKey: string | undefined
  readonly await: AwaitLevel
  /** For everything together: finding a primary, waiting in its queue, and reaching the await level. */
  readonly timeoutMs: number
}

export interface WriteAnswer {
  readonly result: WriteResult
  readonly database: DatabaseName
  /** A position at which the write is contained. */
  readonly position: Position
  readonly epoch: Epoch
  /** The level really reached. */
  readonly level: AwaitLevel
  /** Names of connected replicas that can never count towards a level (LiteFS nodes). */
  readonly uncounted: readonly string[]
  readonly requestId: RequestId | undefined
  /** True when the ledger knew the request: nothing ran now, this is its first answer. */
  readonly replayed: boolean
}

/** The question what became of a write. */
export interface ResolveCall {
  readonly database: DatabaseName
  readonly requestId: RequestId
  /** For everything together: finding a primary, waiting in its queue, and seeing here what was applied. */
  readonly timeoutMs: number
}

/** The answer is contained in this position, so that it holds wherever the position is. */
export type ResolveAnswer = Resolution & { readonly position: Position; readonly epoch: Epoch }

/** Who asked, and until when an answer is of use. */
export interface WriteContext {
  readonly origin: WriteOrigin
  /** On the monotonic scale of this node's clock. The answer, or a named failure, comes by then. */
  readonly deadlineMs: number
}

export type WriteOrigin =
  /** A caller in this process, or one that reached this node through its unary method. */
  | { readonly kind: 'local' }
  /** Another node forwarded it. */
  | { readonly kind: 'peer'; readonly nodeId: string; readonly nodeName: string; readonly region: string }

/**
 * Runs a write on this node, which must be the primary: the engine's door, handed in by the composition root.
 * Rejects with `NOT_PRIMARY` when the role was lost, and by `context.deadlineMs` at the latest.
 */
export type ExecuteHere = (call: WriteCall, context: WriteContext) => Promise<WriteAnswer>

/** Finds out on this node, which must be the primary, what became of a write. Otherwise as `ExecuteHere`. */
export type ResolveHere = (call: ResolveCall, context: WriteContext) => Promise<ResolveAnswer>
