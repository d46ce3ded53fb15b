/**
 * Runs one request inside the open transaction: asks the ledger, executes the statements or the procedure, records the answer.
 * It neither begins nor ends transactions; see `group-commit.ts` for what happens when a request fails.
 */
import { ClusterError } from '../errors/cluster-error.ts'
import type { PlainValue } from '../request/plain-value.ts'
import { plainSize } from '../request/plain-size.ts'
import type { StatementResult, WriteResult } from '../request/write-request.ts'
import type { Connection } from '../sqlite/connection.ts'
import type { ProcedureTable } from './procedure-table.ts'
import { refusePromise } from './refuse-promise.ts'
import { RequestLedger } from './request-ledger.ts'
import { StatementExecutor } from './statement-executor.ts'
import { Transaction } from './transaction.ts'
import { TransactionScope } from './transaction-scope.ts'
import type { JobOutcome, RunJob, WriteJob } from './write-job.ts'

export interface RequestRunnerParts {
  readonly writer: Connection
  readonly procedures: ProcedureTable
  readonly ledger: RequestLedger
  /** Prepared statements kept. */
  readonly statementsMax: number
}

export class RequestRunner {
  readonly #parts: RequestRunnerParts
  readonly #executor: StatementExecutor

  constructor(parts: RequestRunnerParts) {
    this.#parts = parts
    this.#executor = new StatementExecutor(parts.writer, parts.statementsMax)
  }

  /** Whether it holds a statement that runs outside any transaction (`outside`), or in one of its own (`alone`). */
  needs(job: WriteJob): 'outside' | 'alone' | undefined {
    if (job.kind === 'resolve' || job.operation.kind !== 'batch') return undefined
    let needs: 'alone' | undefined
    for (const { sql } of job.operation.statements) {
      const { kind } = this.#executor.rule(sql)
      if (kind === 'outside-transaction') return 'outside'
      if (kind === 'alone') needs = 'alone'
    }
    return needs
  }

  /**
   * Runs the job unless the ledger knows it. Jobs the ledger concerns need `ledger.begin()` before.
   * @param isAlone no other request shares the transaction
   * @returns `undefined`: nothing of the transaction may be kept. The request ended it, or needs one of its own.
   * @throws why the request failed, whatever it did must be rolled back
   */
  run(job: WriteJob, isAlone: boolean): JobOutcome | undefined {
    const { ledger } = this.#parts
    if (job.kind === 'resolve') {
      return orRefused(() => ({ kind: 'resolved', resolution: ledger.resolve(job.requestId) }))
    }
    const admission = RequestLedger.concerns(job) ? orRefused(() => ledger.admit(job)) : undefined
    if (admission?.kind === 'failed') return admission
    if (admission?.kind === 'replay') return { kind: 'done', result: admission.result, replayed: true }
    const result = this.execute(job, isAlone)
    if (result === undefined) return undefined
    if (admission !== undefined) ledger.record(admission.claim, result)
    return { kind: 'done', result, replayed: false }
  }

  /** Runs the job without the ledger. */
  execute({ operation }: RunJob, isAlone: boolean): WriteResult | undefined {
    if (operation.kind === 'procedure') return this.#call(operation.name, operation.input, isAlone)
    const results: StatementResult[] = []
    for (const statement of operation.statements) results.push(this.#executor.execute(statement))
    return { kind: 'batch', results }
  }

  #call(name: string, input: PlainValue, isAlone: boolean): WriteResult | undefined {
    const run = this.#parts.procedures.get(name)
    const what = `procedure "${name}"`
    const scope = new TransactionScope({
      connection: this.#parts.writer,
      executor: this.#executor,
      name: what,
      isAlone,
    })
    try {
      const value = refusePromise(run(new Transaction(scope), input), what)
      plainSize(value)
      if (scope.broken === undefined) return { kind: 'procedure', value }
    } catch (error) {
      if (scope.broken === undefined || isAlone) throw error
    } finally {
      scope.end()
    }
    // It may have caught the error that ended its transaction: nothing of it may stand.
    if (isAlone) throw scope.broken.error
    return undefined
  }
}

/** What the ledger refuses has done nothing yet, so the transaction goes on. */
function orRefused<T>(ask: () => T): T | { readonly kind: 'failed'; readonly error: ClusterError } {
  try {
    return ask()
  } catch (error) {
    if (error instanceof ClusterError) return { kind: 'failed', error }
    throw error
  }
}
