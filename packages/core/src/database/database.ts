/**
 * What an application holds of one database: local reads like better-sqlite3's, writes that find the primary.
 *
 * Reads never leave the process. Writes resolve when the level they await is reached; with the default, `local`, the next
 * read on this node sees them.
 */
import type { ResolveAnswer, ResolveCall, WriteAnswer, WriteCall } from '../forward/write-call.ts'
import type { EngineDatabase } from '../engine/engine.ts'
import type { Clock } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { Position } from '../position/position.ts'
import type { AwaitLevel } from '../request/await-level.ts'
import { parseRequestId, type RequestId } from '../request/request-id.ts'
import type { SqlParams } from '../request/sql-value.ts'
import type { Resolution, SqlStatement, StatementResult } from '../request/write-request.ts'
import { LocalReader } from './local-reader.ts'
import { ReadStatement } from './read-statement.ts'
import { ReadTransaction } from './read-transaction.ts'
import { type ResolveOptions, resolveResolveOptions, resolveWriteOptions, type WriteOptions } from './write-options.ts'

/** What happened to a write, beside its result. */
export interface WriteReceipt {
  /** A position at which the write is contained. */
  readonly position: Position
  /** The level really reached. */
  readonly level: AwaitLevel
  readonly requestId: RequestId | undefined
  /** This call repeated one that had been applied; the result is the first answer. */
  readonly replayed: boolean
}

export type RunAnswer = StatementResult & WriteReceipt

export interface BatchAnswer extends WriteReceipt {
  readonly results: readonly StatementResult[]
}

/** What became of a write, and a position at which that is contained. */
export type ResolvedWrite = Resolution & { readonly position: Position }

export interface DatabaseParts {
  readonly engine: EngineDatabase
  readonly clock: Clock
  write(call: WriteCall): Promise<WriteAnswer>
  resolve(call: ResolveCall): Promise<ResolveAnswer>
}

/** How long a replacement of the file waits for open iterators and read transactions. */
const REPLACE_WAIT_MS = 5_000

export class Database {
  readonly #parts: DatabaseParts
  readonly #reader: LocalReader
  readonly #stopReplace: () => void

  /** @internal Use `cluster.database()`. */
  constructor(parts: DatabaseParts) {
    this.#parts = parts
    this.#reader = new LocalReader({
      database: parts.engine.name,
      clock: parts.clock,
      open: () => parts.engine.openReader(),
    })
    this.#stopReplace = parts.engine.onReplace(() => this.#reader.closeConnections(REPLACE_WAIT_MS))
  }

  get name(): string {
    return this.#parts.engine.name
  }

  /** The path of this node's copy. Only the primary's may be written to by other processes, and only through SQLite. */
  get path(): string {
    return this.#parts.engine.path
  }

  /** What a new read on this node sees. */
  get position(): Position {
    return this.#parts.engine.tracker.current.position
  }

  /** Prepares a local read. Throws `WRITE_ON_READ_HANDLE` for anything that writes, `STATEMENT_REFUSED` for transaction words. */
  prepare<Row = Record<string, unknown>>(sql: string): ReadStatement<Row> {
    return new ReadStatement<Row>(this.#reader, sql, this.name)
  }

  /** Several reads of one state of the database. `work` is synchronous. */
  readTransaction<T>(work: (reader: ReadTransaction) => T): T {
    return ReadTransaction.run(this.#reader, this.name, work)
  }

  /**
   * Runs one statement at the primary, in a transaction of its own.
   * @returns what better-sqlite3's `run` answers, plus `rows` when the statement returns some, plus the receipt
   */
  async run(sql: string, params?: SqlParams, options?: WriteOptions): Promise<RunAnswer> {
    const answer = await this.#write([params === undefined ? { sql } : { sql, params }], options, 'run')
    const [result] = answer.results
    if (result === undefined)
      throw new ClusterError('INVALID_REQUEST', `database "${this.name}": the primary answered without a result`)
    return { ...result, ...receiptOf(answer) }
  }

  /** Runs statements at the primary, all or none. */
  batch(statements: readonly SqlStatement[], options?: WriteOptions): Promise<BatchAnswer> {
    return this.#write(statements, options, 'batch')
  }

  /**
   * Finds out what became of a write whose outcome is unknown, on whichever node it was made. If it was applied, the next read
   * here sees it, and `result` is its answer unless that was too large to keep. If it was not, it never will be: a duplicate still
   * under way is refused (`REQUEST_ABANDONED`).
   * @param requestId `details.requestId` of the error, or what the write was given as `requestId`
   * @throws WRITE_OUTCOME_UNKNOWN when the primary cannot be asked now, REQUEST_TOO_OLD when it does not remember that far back,
   * NOT_YET_VISIBLE when it was applied but this node does not show it in time, INVALID_REQUEST
   */
  async resolve(requestId: string, options?: ResolveOptions): Promise<ResolvedWrite> {
    const where = `database "${this.name}": resolve`
    const id = typeof requestId === 'string' ? parseRequestId(requestId) : undefined
    if (id === undefined)
      throw new ClusterError('INVALID_REQUEST', `${where} needs a request id, 32 lowercase hex digits`)
    const { timeoutMs } = resolveResolveOptions(options, where)
    const answer = await this.#parts.resolve({ database: this.#parts.engine.name, requestId: id, timeoutMs })
    const { position } = answer
    return answer.outcome === 'applied'
      ? { outcome: 'applied', result: answer.result, position }
      : { outcome: 'not-applied', position }
  }

  /**
   * Resolves once a read on this node sees `position`.
   * @throws WAIT_TIMEOUT after `timeoutMs` (default 5,000), POSITION_DIVERGED when it belongs to a lost history
   */
  waitFor(position: Position, options: { readonly timeoutMs?: number | undefined } = {}): Promise<void> {
    const { engine, clock } = this.#parts
    return engine.tracker.waitFor(position, clock.monotonicMs() + (options.timeoutMs ?? 5_000))
  }

  /** Calls `listener` whenever reads on this node see something newer. Answers how to stop. */
  onAdvance(listener: (position: Position) => void): () => void {
    return this.#parts.engine.tracker.onAdvance((positions) => {
      const last = positions.at(-1)
      if (last !== undefined) listener(last.position)
    })
  }

  /** @internal Called by the cluster before the engine closes the file. */
  async close(): Promise<void> {
    this.#stopReplace()
    await this.#reader.close(REPLACE_WAIT_MS)
  }

  async #write(
    statements: readonly SqlStatement[],
    options: WriteOptions | undefined,
    what: string,
  ): Promise<BatchAnswer> {
    const where = `database "${this.name}": ${what}`
    if (!Array.isArray(statements) || statements.length === 0) {
      throw new ClusterError('INVALID_REQUEST', `${where} needs at least one statement`)
    }
    const answer = await this.#parts.write({
      database: this.#parts.engine.name,
      operation: { kind: 'batch', statements },
      ...resolveWriteOptions(options, where),
    })
    if (answer.result.kind !== 'batch')
      throw new ClusterError('INVALID_REQUEST', `${where}: the primary answered something else`)
    return { results: answer.result.results, ...receiptOf(answer) }
  }
}

function receiptOf(answer: WriteReceipt): WriteReceipt {
  const { position, level, requestId, replayed } = answer
  return { position, level, requestId, replayed }
}
