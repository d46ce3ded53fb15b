/**
 * Runs writes in groups: one `BEGIN IMMEDIATE` … COMMIT, and so one sync of the disk, for many requests, with a savepoint for
 * each, so that every request still has all of its effect or none.
 *
 * - A request that fails is rolled back to its savepoint; the others go on.
 * - Savepoints are dear and most requests succeed. So a group runs without them first; if a request of it fails, everything
 *   is rolled back and the group runs again with savepoints, and so do the next `CAREFUL_GROUPS`.
 * - A request that ends the transaction (`RAISE(ROLLBACK)`, `OR ROLLBACK`, I/O error, full disk), or a COMMIT that fails (a
 *   deferred foreign key), undoes the group; then every request of it runs again in a transaction of its own, in order.
 * - A request whose transaction nobody shares needs no savepoint: its failure rolls back everything.
 * - VACUUM runs outside any transaction. What would change how other requests behave runs in a transaction of its own.
 * - What became of a request (`resolve`) is looked up in line with the writes and shares their transactions.
 * - Procedures are synchronous; their result must be a plain value.
 *
 * So a request may run more than once before it is committed once; procedures should have no effect beside the database.
 *
 * Relies on: the writer connection is used by nobody else while `run` runs; its busy timeout is 0.
 * Promises: an outcome is true once `run` has returned: done means committed and durable, failed means without any effect
 * (unless the error says that its outcome is unknown). Whatever `run` throws, nothing of the batch was committed.
 * `busy` means that nothing ran. `afterBegin` is called after every BEGIN IMMEDIATE, before anything is written.
 * After a crash: SQLite either has the whole group or nothing of it, ledger rows included.
 *
 * Not serial in one point: a request that violates a deferred foreign key succeeds if a later one of its group repairs it.
 */
import { assert, InvariantError } from '../base/assert.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import { statementRefused } from '../request/statement-rules.ts'
import type { Connection } from '../sqlite/connection.ts'
import { isBusy } from '../sqlite/sqlite-error.ts'
import type { ProcedureTable } from './procedure-table.ts'
import { RequestLedger } from './request-ledger.ts'
import { RequestRunner } from './request-runner.ts'
import type { JobOutcome, RunJob, WriteJob } from './write-job.ts'
import { WriteTransaction } from './write-transaction.ts'

export interface GroupCommitOptions {
  readonly database: string
  readonly writer: Connection
  readonly procedures: ProcedureTable
  readonly ledger: RequestLedger
  /** The write lock was just taken, nothing is written yet. What it throws rolls back. */
  afterBegin(): void
  /** Prepared statements kept. Default: 1,000. */
  readonly statementsMax?: number | undefined
}

export type GroupResult =
  /** Another process holds the write lock. Nothing ran. */
  | { readonly kind: 'busy' }
  | {
      readonly kind: 'ran'
      /** One for each job, in order. */
      readonly outcomes: readonly JobOutcome[]
      /** Whether the database may have changed. */
      readonly committed: boolean
      /** Present when the database should take no more writes: the disk failed during COMMIT, or an assumption is broken. */
      readonly failure?: unknown
    }

/**
 * `failing`: a request failed and there was no savepoint to go back to. `broken`: a request ended the transaction or needs one
 * of its own.
 */
type Attempt = readonly JobOutcome[] | 'busy' | 'failing' | 'broken'

const BUSY = { kind: 'busy' } as const
/** Failures come in runs: a failing group costs its work twice, a savepoint for each request about a quarter more. */
const CAREFUL_GROUPS = 32

export class GroupCommit {
  readonly #parts: GroupCommitOptions
  readonly #runner: RequestRunner
  readonly #transaction: WriteTransaction
  #carefulGroups = 0
  #failure: unknown

  constructor(parts: GroupCommitOptions) {
    this.#parts = parts
    this.#runner = new RequestRunner({ ...parts, statementsMax: parts.statementsMax ?? 1_000 })
    this.#transaction = new WriteTransaction(parts)
  }

  /** Whether a job cannot share a transaction, so that a batch should hold nothing else. */
  standsAlone(job: WriteJob): boolean {
    return this.#runner.needs(job) !== undefined
  }

  /** Runs the batch. Jobs are not settled: what was committed has to be captured, logged and announced first. */
  run(batch: readonly WriteJob[]): GroupResult {
    const outcomes: JobOutcome[] = []
    this.#failure = undefined
    this.#transaction.startBatch()
    try {
      for (const group of this.#groupsOf(batch)) {
        const ran = this.#runGroup(group)
        if (ran === undefined && outcomes.length === 0) return BUSY
        if (ran === undefined) break
        outcomes.push(...ran)
        if (this.#failure !== undefined) break
      }
    } catch (error) {
      // Before any commit the caller can still be told that nothing happened.
      if (!this.#transaction.hasCommitted) throw error
      this.#failure = error
    }
    if (outcomes.length < batch.length) {
      const error = this.#failure === undefined ? this.#busyError() : this.#notBegun(this.#failure)
      while (outcomes.length < batch.length) outcomes.push({ kind: 'failed', error })
    }
    const committed = this.#transaction.hasCommitted
    return this.#failure === undefined
      ? { kind: 'ran', outcomes, committed }
      : { kind: 'ran', outcomes, committed, failure: this.#failure }
  }

  /** Runs of jobs that can share a transaction, and single ones that cannot. */
  #groupsOf(batch: readonly WriteJob[]): readonly (readonly WriteJob[])[] {
    if (batch.length === 1) return [batch]
    const groups: WriteJob[][] = []
    let shared: WriteJob[] | undefined
    for (const job of batch) {
      if (this.standsAlone(job)) {
        groups.push([job])
        shared = undefined
      } else if (shared === undefined) {
        shared = [job]
        groups.push(shared)
      } else shared.push(job)
    }
    return groups
  }

  /** `undefined`: busy, nothing of the group ran. */
  #runGroup(group: readonly WriteJob[]): readonly JobOutcome[] | undefined {
    const first = group[0]
    if (group.length > 1 || first === undefined) return this.#runShared(group)
    const isOutside = first.kind === 'run' && this.#runner.needs(first) === 'outside'
    const outcome = isOutside ? this.#runOutside(first) : this.#runAlone(first)
    return outcome === undefined ? undefined : [outcome]
  }

  #runShared(group: readonly WriteJob[]): readonly JobOutcome[] | undefined {
    const isCareful = this.#carefulGroups > 0
    if (isCareful) this.#carefulGroups--
    let ran = this.#attempt(group, isCareful)
    if (ran === 'failing' && !isCareful) {
      this.#carefulGroups = CAREFUL_GROUPS
      ran = this.#attempt(group, true)
    }
    if (ran === 'busy') return undefined
    if (typeof ran === 'string') return this.#runEachAlone(group)
    const refusal = this.#transaction.tryCommit(ran.some(isNewlyDone))
    if (refusal === undefined) return ran
    if (!isUnknown(refusal)) return this.#runEachAlone(group)
    this.#failure = refusal
    // Also what was replayed or looked up: what it speaks of may have run in this very group.
    return ran.map((outcome) => (outcome.kind === 'failed' ? outcome : { kind: 'failed', error: refusal }))
  }

  /** Runs the group up to its COMMIT. Unless outcomes come back, everything is rolled back. */
  #attempt(group: readonly WriteJob[], isCareful: boolean): Attempt {
    const transaction = this.#transaction
    if (!transaction.begin()) return 'busy'
    try {
      if (group.some(RequestLedger.concerns)) this.#parts.ledger.begin()
      const outcomes: JobOutcome[] = []
      for (const job of group) {
        const outcome = isCareful ? this.#runInSavepoint(job) : this.#runner.run(job, false)
        if (outcome === undefined) {
          transaction.rollback()
          return 'broken'
        }
        outcomes.push(outcome)
      }
      return outcomes
    } catch (error) {
      const isBroken = !transaction.isOpen
      transaction.rollback()
      if (error instanceof InvariantError) throw error
      return isBroken ? 'broken' : 'failing'
    }
  }

  /** `undefined`: nothing of the transaction may be kept. */
  #runInSavepoint(job: WriteJob): JobOutcome | undefined {
    const transaction = this.#transaction
    transaction.savepoint()
    try {
      const outcome = this.#runner.run(job, false)
      if (outcome !== undefined) transaction.release()
      return outcome
    } catch (error) {
      if (error instanceof InvariantError) throw error
      if (!transaction.isOpen) return undefined
      transaction.rollbackToSavepoint()
      return { kind: 'failed', error }
    }
  }

  /** After the group was undone. A foreign writer may slip in between two of them; what then did not run says so. */
  #runEachAlone(group: readonly WriteJob[]): readonly JobOutcome[] | undefined {
    const outcomes: JobOutcome[] = []
    for (const job of group) {
      const outcome =
        this.#failure === undefined
          ? this.#runAloneOrFail(job)
          : { kind: 'failed' as const, error: this.#notBegun(this.#failure) }
      if (outcome === undefined && outcomes.length === 0) return undefined
      outcomes.push(outcome ?? { kind: 'failed', error: this.#busyError() })
    }
    return outcomes
  }

  /** As `#runAlone`, but keeps the outcomes of those before it: once something is committed, what is thrown is a failure. */
  #runAloneOrFail(job: WriteJob): JobOutcome | undefined {
    try {
      return this.#runAlone(job)
    } catch (error) {
      if (!this.#transaction.hasCommitted) throw error
      this.#failure = error
      return { kind: 'failed', error: error instanceof InvariantError ? error : this.#notBegun(error) }
    }
  }

  /** One request, one transaction: it needs no savepoint. `undefined`: busy. */
  #runAlone(job: WriteJob): JobOutcome | undefined {
    const transaction = this.#transaction
    if (!transaction.begin()) return undefined
    let outcome: JobOutcome | undefined
    try {
      if (RequestLedger.concerns(job)) this.#parts.ledger.begin()
      outcome = this.#runner.run(job, true)
    } catch (error) {
      transaction.rollback()
      if (error instanceof InvariantError) throw error
      return { kind: 'failed', error }
    }
    assert(outcome !== undefined, 'a request alone in its transaction asked for one of its own')
    const refusal = transaction.tryCommit(isNewlyDone(outcome))
    if (refusal === undefined) return outcome
    if (isUnknown(refusal)) this.#failure = refusal
    return { kind: 'failed', error: refusal }
  }

  /**
   * VACUUM between two transactions of the ledger. If the process dies, or the lock is lost, before the second one, the
   * request is unknown to the ledger and may run again, which does no harm. `undefined`: busy.
   */
  #runOutside(job: RunJob): JobOutcome | undefined {
    const transaction = this.#transaction
    const { ledger } = this.#parts
    if (!transaction.begin()) return undefined
    try {
      if (job.operation.kind === 'batch' && job.operation.statements.length > 1)
        throw statementRefused('VACUUM with other statements')
      if (RequestLedger.concerns(job)) ledger.begin()
      const admission = RequestLedger.concerns(job) ? ledger.admit(job) : undefined
      if (admission?.kind === 'replay') {
        transaction.commit(false)
        return { kind: 'done', result: admission.result, replayed: true }
      }
      transaction.rollback()
      const result = this.#runner.execute(job, true)
      transaction.noteCommit()
      assert(result !== undefined, 'only statements run outside a transaction')
      if (admission !== undefined && transaction.begin()) {
        ledger.begin()
        ledger.record(admission.claim, result)
        transaction.commit(true)
      }
      return { kind: 'done', result, replayed: false }
    } catch (error) {
      transaction.rollback()
      if (error instanceof InvariantError) throw error
      return isBusy(error) ? undefined : { kind: 'failed', error }
    }
  }

  /** What a request is told after one before it met what ends the work of this database. */
  #notBegun(cause: unknown): ClusterError {
    if (cause instanceof ClusterError && cause.outcome === 'not-applied') return cause
    return new ClusterError(
      'DATABASE_STOPPED',
      `database "${this.#parts.database}": an earlier write failed for a reason that stops it; this one did not begin`,
      { cause },
    )
  }

  #busyError(): ClusterError {
    return new ClusterError('DATABASE_BUSY', `database "${this.#parts.database}": another process took the write lock`)
  }
}

function isNewlyDone(outcome: JobOutcome): boolean {
  return outcome.kind === 'done' && !outcome.replayed
}

function isUnknown(error: unknown): boolean {
  return error instanceof ClusterError && error.outcome === 'unknown'
}
