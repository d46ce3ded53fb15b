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
import { ZERO_POSITION } from '../../position/position.ts'
import type { PositionTracker, TrackedPosition } from '../../position/position-tracker.ts'
import { RequestJournal } from '../../request/request-journal.ts'
import type { GroupCommit, GroupResult } from '../../write/group-commit.ts'
import type { JobOutcome, WriteJob } from '../../write/write-job.ts'
import { announceForeignCommits, commitBatch, type CommitParts } from './commit-pipeline.ts'
import { UnloggedRequests } from './unlogged-requests.ts'

const lost = new ClusterError('NOT_PRIMARY', 'the lease is gone')
const stopped = new ClusterError('DATABASE_STOPPED', 'it takes no more')
const full = new ClusterError('STORAGE_FAILED', 'no room')
const done: JobOutcome = { kind: 'done', result: { kind: 'batch', results: [] }, replayed: false }

interface Scenario {
  /** Answers the n-th question, from 1. */
  readonly holdsLease?: (question: number) => boolean
  readonly records: readonly LtxRecord[]
  /** What the log answers. */
  readonly append?: () => void
  /** What the batch makes of its jobs; it may capture, as it does when its next transaction begins. Default: one that is done. */
  readonly runs?: (parts: CommitParts) => Partial<GroupResult & { kind: 'ran' }>
}

function scenario({ holdsLease = () => true, records, append, runs }: Scenario) {
  const steps: string[] = []
  const settled: JobOutcome[] = []
  let questions = 0
  const waiting = [...records]
  let position = ZERO_POSITION
  let logged = ZERO_POSITION
  let announced: TrackedPosition = { position: ZERO_POSITION, epoch: epoch(1) }
  const step = (name: string): void => void steps.push(name)
  const parts: CommitParts = {
    database: 'app.db',
    epoch: epoch(1),
    groupCommit: {
      run: () => {
        step('commit')
        return { kind: 'ran', outcomes: [done], failure: undefined, ...runs?.(parts) }
      },
    } as unknown as GroupCommit,
    capture: {
      get position() {
        return position
      },
      capture: () => {
        step('capture')
        const captured = waiting.splice(0)
        position = captured.at(-1)?.postApply ?? position
        return captured
      },
    } as Partial<WalCapture> as WalCapture,
    log: {
      get tail() {
        return { position: logged, epoch: epoch(1) }
      },
      append: () => {
        append?.()
        logged = position
        step('log')
      },
    } as unknown as TransactionLog,
    tracker: {
      get current() {
        return announced
      },
      advance: (positions: readonly TrackedPosition[]) => {
        announced = positions.at(-1) ?? announced
        step('announce')
      },
    } as Partial<PositionTracker> as PositionTracker,
    journal: new RequestJournal(),
    unlogged: new UnloggedRequests(),
    requirePrimary: () => {
      if (!holdsLease(++questions)) throw lost
    },
    syncWal: () => step('sync'),
    fail: () => {
      step('stop')
      return stopped
    },
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
  const { parts, job, steps } = scenario({ records: record() })
  expect(commitBatch([job], parts)).toBe('ran')
  expect(steps).toEqual(['commit', 'capture', 'log', 'announce', 'answer'])
})

test('I4: without the lease nothing is committed', () => {
  const { parts, job, steps, settled } = scenario({ holdsLease: () => false, records: record() })
  commitBatch([job], parts)
  expect(steps).toEqual(['answer'])
  expect(settled).toEqual([{ kind: 'failed', error: lost }])
})

test('I4: a lease that ends during the commit leaves the write unannounced, its outcome unknown and the database stopped', () => {
  const { parts, job, steps, settled } = scenario({ holdsLease: (question) => question === 1, records: record() })
  commitBatch([job], parts)
  expect(steps).toEqual(['commit', 'capture', 'log', 'stop', 'answer'])
  expect(settled).toMatchObject([{ kind: 'failed', error: { code: 'WRITE_OUTCOME_UNKNOWN', cause: lost } }])
})

test('I4: what other processes committed is not announced without the lease either', () => {
  const { parts, steps } = scenario({ holdsLease: () => false, records: record() })
  expect(() => announceForeignCommits(parts)).toThrow(lost)
  expect(steps).toEqual(['capture', 'log'])
})

test('I1: what was captured in the middle of a batch and could not be logged is not acknowledged', () => {
  const failed: JobOutcome = { kind: 'failed', error: stopped }
  const { parts, job, steps, settled } = scenario({
    records: record(),
    append: () => {
      throw full
    },
    runs: (running) => {
      // The first of two is committed; the second one captures it when it begins.
      expect(() => announceForeignCommits(running)).toThrow(full)
      return { outcomes: [done, failed], failure: full }
    },
  })
  commitBatch([job, job], parts)
  expect(steps).toEqual(['commit', 'capture', 'capture', 'stop', 'answer', 'answer'])
  expect(settled).toMatchObject([{ kind: 'failed', error: { code: 'WRITE_OUTCOME_UNKNOWN', cause: full } }, failed])
})

test('what others committed and the log cannot take stops the database; the batch that met it did not begin', () => {
  const { parts, job, steps, settled } = scenario({
    records: record(),
    append: () => {
      throw full
    },
    runs: (running) => {
      announceForeignCommits(running)
      return {}
    },
  })
  commitBatch([job], parts)
  expect(steps).toEqual(['commit', 'capture', 'stop', 'answer'])
  expect(settled).toEqual([{ kind: 'failed', error: stopped }])
})

test('what others committed as the lease ended is logged, and stops nothing', () => {
  const { parts, job, steps, settled } = scenario({
    holdsLease: (question) => question === 1,
    records: record(),
    runs: (running) => {
      announceForeignCommits(running)
      return {}
    },
  })
  commitBatch([job], parts)
  expect(steps).toEqual(['commit', 'capture', 'log', 'answer'])
  expect(settled).toEqual([{ kind: 'failed', error: lost }])
})
