/**
 * I3 and I4 on the primary: nothing is committed or announced without the lease, and what is announced is in the log already.
 * The parts are stand-ins that write down what was asked of them, in order; log, capture and SQLite have tests of their own.
 */
import { expect, test } from 'vitest'
import type { WalCapture } from '../../capture/wal-capture.ts'
import { ClusterError } from '../../errors/cluster-error.ts'
import { RecordChain } from '../../log/test-support/record-chain.ts'
import type { TransactionLog } from '../../log/transaction-log.ts'
import type { LtxRecord } from '../../ltx/ltx-record.ts'
import { epoch } from '../../position/epoch.ts'
import type { PositionTracker } from '../../position/position-tracker.ts'
import { RequestJournal } from '../../request/request-journal.ts'
import type { GroupCommit } from '../../write/group-commit.ts'
import type { JobOutcome, WriteJob } from '../../write/write-job.ts'
import { announceForeignCommits, commitBatch, type CommitParts } from './commit-pipeline.ts'
import { UnloggedRequests } from './unlogged-requests.ts'

const lost = new ClusterError('NOT_PRIMARY', 'the lease is gone')
const done: JobOutcome = { kind: 'done', result: { kind: 'batch', results: [] }, replayed: false }

/** @param holdsLease answers the n-th question, from 1 */
function scenario(holdsLease: (question: number) => boolean, records: readonly LtxRecord[]) {
  const steps: string[] = []
  const settled: JobOutcome[] = []
  let questions = 0
  const step = (name: string): void => void steps.push(name)
  const parts: CommitParts = {
    database: 'app.db',
    epoch: epoch(1),
    groupCommit: {
      run: () => {
        step('commit')
        return { kind: 'ran', outcomes: [done], failure: undefined }
      },
    } as unknown as GroupCommit,
    capture: {
      capture: () => {
        step('capture')
        return records
      },
    } as Partial<WalCapture> as WalCapture,
    log: { append: () => step('log') } as unknown as TransactionLog,
    tracker: { advance: () => step('announce') } as unknown as PositionTracker,
    journal: new RequestJournal(),
    unlogged: new UnloggedRequests(),
    requirePrimary: () => {
      if (!holdsLease(++questions)) throw lost
    },
    syncWal: () => step('sync'),
    fail: () => step('stop'),
  }
  const job = {
    kind: 'run',
    requestId: undefined,
    idempotencyKey: undefined,
    operation: { kind: 'batch', statements: [] },
    bytes: 10,
    settle: (outcome: JobOutcome) => {
      settled.push(outcome)
      step('answer')
    },
  } as unknown as WriteJob
  return { parts, job, steps, settled }
}

const record = (): LtxRecord[] => [new RecordChain().next()]

test('I3: a write is announced after it is in the log, and answered after it was announced', () => {
  const { parts, job, steps } = scenario(() => true, record())
  expect(commitBatch([job], parts)).toBe('ran')
  expect(steps).toEqual(['commit', 'capture', 'log', 'announce', 'answer'])
})

test('I4: without the lease nothing is committed', () => {
  const { parts, job, steps, settled } = scenario(() => false, record())
  commitBatch([job], parts)
  expect(steps).toEqual(['answer'])
  expect(settled).toEqual([{ kind: 'failed', error: lost }])
})

test('I4: a lease that ends during the commit leaves the write unannounced, its outcome unknown and the database stopped', () => {
  const { parts, job, steps, settled } = scenario((question) => question === 1, record())
  commitBatch([job], parts)
  expect(steps).toEqual(['commit', 'capture', 'log', 'stop', 'answer'])
  expect(settled).toMatchObject([{ kind: 'failed', error: { code: 'WRITE_OUTCOME_UNKNOWN', cause: lost } }])
})

test('I4: what other processes committed is not announced without the lease either', () => {
  const { parts, steps } = scenario(() => false, record())
  expect(() => announceForeignCommits(parts)).toThrow(lost)
  expect(steps).toEqual(['capture', 'log'])
})
