/**
 * How a batch of writes becomes true on the primary. Order is everything here:
 *
 *   may I write → SQLite commits, durably → captured from the WAL → appended to the log → may I still → announced → answered
 *
 * Relies on: one pipeline per database; nobody else captures or appends while it runs.
 * Promises: no job is settled before its transaction was announced. Whatever throws after SQLite's COMMIT is answered
 * `WRITE_OUTCOME_UNKNOWN`, and `fail` stops the database: its file is then ahead of what was announced.
 * After a crash: frames beyond the log are captured again at start (`recovery.ts`); nobody was told they had happened.
 */
import { ClusterError } from '../../errors/cluster-error.ts'
import type { Epoch } from '../../position/epoch.ts'
import { samePosition } from '../../position/position.ts'
import type { PositionTracker } from '../../position/position-tracker.ts'
import type { WalCapture } from '../../capture/wal-capture.ts'
import type { LtxRecord } from '../../ltx/ltx-record.ts'
import type { TransactionLog } from '../../log/transaction-log.ts'
import type { RequestJournal } from '../../request/request-journal.ts'
import type { GroupCommit } from '../../write/group-commit.ts'
import type { JobOutcome, RunJob, WriteJob } from '../../write/write-job.ts'
import type { UnloggedRequests } from './unlogged-requests.ts'

export interface CommitParts {
  readonly database: string
  readonly epoch: Epoch
  readonly groupCommit: GroupCommit
  readonly capture: Pick<WalCapture, 'capture' | 'position'>
  readonly log: TransactionLog
  readonly tracker: PositionTracker
  readonly journal: RequestJournal
  readonly unlogged: UnloggedRequests
  /** Throws unless this node surely holds the lease. */
  requirePrimary(): void
  /** Flushes the WAL to disk. */
  syncWal(): void
  /** The database can take no more writes on this node. Answers what a write is told that has not begun. */
  fail(error: unknown): ClusterError
}

/** Runs one batch and settles its jobs. `busy`: another process holds the write lock; nothing ran, nothing was settled. */
export function commitBatch(batch: readonly WriteJob[], parts: CommitParts): 'ran' | 'busy' {
  let outcomes: readonly JobOutcome[]
  let failure: unknown
  try {
    parts.requirePrimary() // I4, before any work
    const ran = parts.groupCommit.run(batch) // SQLite says yes here, durably; foreign commits before ours are captured in its afterBegin
    if (ran.kind === 'busy') return 'busy'
    outcomes = ran.outcomes
    failure = ran.failure // the disk failed in the middle: what is committed is announced, then nothing more runs here
  } catch (error) {
    // Nothing of the batch is committed. But what others committed may have been captured and not logged: then nothing more runs here.
    const isLogged = samePosition(parts.capture.position, parts.log.tail.position)
    settleAll(batch, isLogged ? error : parts.fail(error))
    return 'ran'
  }
  try {
    announceBatch(batch, outcomes, parts)
    if (!isAllAnnounced(parts)) throw failure
  } catch (error) {
    parts.fail(error)
    const unknown = new ClusterError(
      'WRITE_OUTCOME_UNKNOWN',
      `database "${parts.database}": committed, but not announced`,
      { cause: error, details: { phase: 'announcement' } },
    )
    // What failed by itself was rolled back, or did not begin, in any case.
    settleEach(batch, outcomes, (outcome) => (outcome.kind === 'failed' ? outcome : { kind: 'failed', error: unknown }))
    return 'ran'
  }
  settleEach(batch, outcomes, (outcome) => outcome)
  if (failure !== undefined) parts.fail(failure)
  return 'ran'
}

/**
 * False when something was captured and then not logged or not announced. A batch of several transactions captures one of its own as soon as the
 * next begins, so the last capture need not be the one that failed.
 */
function isAllAnnounced({ capture, tracker }: CommitParts): boolean {
  return samePosition(capture.position, tracker.current.position)
}

/** Captures, logs and announces the batch, with what it was asked for behind its record. */
function announceBatch(batch: readonly WriteJob[], outcomes: readonly JobOutcome[], parts: CommitParts): void {
  const records = parts.capture.capture()
  const [last] = records.slice(-1)
  if (last === undefined) return // nothing had an effect
  if (records.length > 1) parts.syncWal() // others committed between our COMMIT and now
  // Of several records nobody can tell which holds a request: then those stay out that have no identity to run again under.
  const isTold = ({ requestId, idempotencyKey }: RunJob): boolean =>
    records.length === 1 || requestId !== undefined || idempotencyKey !== undefined
  const done = batch.filter((job, i): job is RunJob => {
    const outcome = outcomes[i]
    return outcome?.kind === 'done' && !outcome.replayed && job.kind === 'run' && isTold(job)
  })
  announceRecords(records, parts, done.length === 0 ? undefined : parts.journal.encode(done))
}

/**
 * Captures, logs and announces what other processes committed. It is flushed to disk first, because their writers may run
 * with a weaker `synchronous`.
 */
export function announceForeignCommits(parts: CommitParts): void {
  const records = parts.capture.capture({ syncWalFirst: true }) // I6
  if (records.length > 0) announceRecords(records, parts)
}

/**
 * Appends captured records to the log and announces them.
 * @param requests what the last of them was asked for
 */
export function announceRecords(records: readonly LtxRecord[], parts: CommitParts, requests?: Buffer): void {
  const { epoch } = parts
  const last = records.length - 1
  try {
    parts.log.append(records.map((record, i) => ({ epoch, record, requests: i === last ? requests : undefined }))) // I2
  } catch (error) {
    parts.unlogged.keep(records[last]!.postApply, requests)
    throw error
  }
  parts.requirePrimary() // I4 again: the last moment before it is true for others
  parts.tracker.advance(records.map((record) => ({ position: record.postApply, epoch: parts.epoch }))) // I3
}

function settleAll(batch: readonly WriteJob[], error: unknown): void {
  for (const job of batch) job.settle({ kind: 'failed', error })
}

function settleEach(
  batch: readonly WriteJob[],
  outcomes: readonly JobOutcome[],
  told: (outcome: JobOutcome) => JobOutcome,
): void {
  for (const [index, job] of batch.entries()) {
    const outcome = outcomes[index]
    if (outcome !== undefined) job.settle(told(outcome))
  }
}
