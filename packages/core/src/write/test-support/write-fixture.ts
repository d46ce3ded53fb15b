/** A writer connection on a file of its own with everything a group commit needs, and jobs that remember how they ended. */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { type Clock, systemClock } from '../../base/clock.ts'
import type { PlainValue } from '../../request/plain-value.ts'
import { type RequestId, RequestIdSource } from '../../request/request-id.ts'
import type { SqlParams } from '../../request/sql-value.ts'
import type { SqlStatement, WriteOperation } from '../../request/write-request.ts'
import type { Connection } from '../../sqlite/connection.ts'
import { SqliteDatabase } from '../../sqlite/sqlite-library.ts'
import { GroupCommit } from '../group-commit.ts'
import { type LedgerOptions, resolveLedgerOptions } from '../ledger-options.ts'
import { ProcedureTable } from '../procedure-table.ts'
import { RequestLedger } from '../request-ledger.ts'
import type { JobOutcome, ResolveJob, RunJob, WriteJob } from '../write-job.ts'

export interface FixtureOptions {
  readonly ledger?: LedgerOptions | undefined
  readonly schema?: string | undefined
  readonly afterBegin?: (() => void) | undefined
}

export class WriteFixture implements Disposable {
  readonly directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-write-'))
  readonly file = path.join(this.directory, 'database')
  readonly writer: Connection
  readonly procedures = new ProcedureTable()
  readonly groupCommit: GroupCommit
  readonly ledger: RequestLedger
  readonly ids: RequestIdSource
  /** Moves the ledger's wall clock. */
  nowMs = 1_700_000_000_000
  begins = 0

  constructor(options: FixtureOptions = {}) {
    this.writer = openDatabase(this.file)
    if (options.schema !== undefined) this.writer.exec(options.schema)
    const clock: Clock = { ...systemClock, nowMs: () => this.nowMs }
    this.ids = new RequestIdSource(clock.nowMs, Buffer.from('abcdef'))
    const database = 'test.db'
    this.ledger = new RequestLedger({
      database,
      writer: this.writer,
      clock,
      ids: new RequestIdSource(clock.nowMs, Buffer.from('ledger')),
      options: resolveLedgerOptions(options.ledger),
    })
    this.groupCommit = new GroupCommit({
      database,
      writer: this.writer,
      procedures: this.procedures,
      ledger: this.ledger,
      afterBegin: () => {
        this.begins++
        options.afterBegin?.()
      },
    })
  }

  /** Another connection to the same file, as another process would have. */
  open(): Connection {
    return openDatabase(this.file)
  }

  /** Runs a batch that must not be busy, and answers its outcomes. */
  run(...jobs: readonly WriteJob[]): readonly JobOutcome[] {
    const ran = this.groupCommit.run(jobs)
    if (ran.kind === 'busy') throw new Error('the database was busy')
    return ran.outcomes
  }

  /** First column of all rows, read by another connection: what is really committed. */
  committed(sql: string): unknown[] {
    const other = this.open()
    try {
      return other.prepare(sql).pluck().all()
    } finally {
      other.close()
    }
  }

  [Symbol.dispose](): void {
    this.writer.close()
    fs.rmSync(this.directory, { recursive: true, force: true })
  }
}

export interface JobIdentity {
  readonly id?: RequestId | undefined
  readonly key?: string | undefined
}

export function sqlJob(sql: string, params?: SqlParams, identity?: JobIdentity): RunJob {
  return batchJob([params === undefined ? { sql } : { sql, params }], identity)
}

export function batchJob(statements: readonly SqlStatement[], identity?: JobIdentity): RunJob {
  return job({ kind: 'batch', statements }, identity)
}

export function procedureJob(name: string, input?: PlainValue, identity?: JobIdentity): RunJob {
  return job({ kind: 'procedure', name, input }, identity)
}

/** The error of a failed outcome; throws when it did not fail. */
export function errorOf(outcome: JobOutcome | undefined): Error & { readonly code?: string } {
  if (outcome?.kind !== 'failed') throw new Error(`it did not fail: ${JSON.stringify(outcome)}`)
  return outcome.error as Error & { readonly code?: string }
}

/** Asks what became of a request. */
export function resolveJob(requestId: RequestId): ResolveJob {
  return { kind: 'resolve', requestId, ...QUEUED }
}

const QUEUED = { deadlineMs: Number.POSITIVE_INFINITY, bytes: 100, settle: () => undefined }

function job(operation: WriteOperation, identity: JobIdentity = {}): RunJob {
  return { kind: 'run', operation, requestId: identity.id, idempotencyKey: identity.key, ...QUEUED }
}

function openDatabase(file: string): Connection {
  const connection = new SqliteDatabase(file, { timeout: 0 })
  connection.pragma('journal_mode = WAL')
  connection.pragma('synchronous = OFF')
  return connection
}
