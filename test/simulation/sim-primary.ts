/**
 * One database on the primary: the real queue, group commit, ledger, commit pipeline and log, on a virtual file.
 *
 * The order on opening is that of `engine/embedded/primary-start.ts`: what the log has beyond the file is applied, the
 * commits that died before they were logged become records again, the start of the epoch is recorded; or where the WAL does
 * not continue the log the history begins anew.
 */
import { admitOperation } from '../../packages/core/src/request/admit-operation.ts'
import type { Clock } from '../../packages/core/src/base/clock.ts'
import {
  announceForeignCommits,
  type CommitParts,
  commitBatch,
} from '../../packages/core/src/engine/embedded/commit-pipeline.ts'
import type { CommittedWrite, LocalResolve, LocalWrite, ResolvedWrite } from '../../packages/core/src/engine/engine.ts'
import type { SeedMarker } from '../../packages/core/src/engine/embedded/seed-marker.ts'
import { UnloggedRequests } from '../../packages/core/src/engine/embedded/unlogged-requests.ts'
import { ClusterError } from '../../packages/core/src/errors/cluster-error.ts'
import type { TransactionLog } from '../../packages/core/src/log/transaction-log.ts'
import { NO_CHECKSUM } from '../../packages/core/src/position/checksum.ts'
import { type Epoch, epochOf, NO_EPOCH } from '../../packages/core/src/position/epoch.ts'
import { type Position, samePosition, ZERO_POSITION } from '../../packages/core/src/position/position.ts'
import type { PositionTracker } from '../../packages/core/src/position/position-tracker.ts'
import { nextTxid } from '../../packages/core/src/position/txid.ts'
import type { RequestIdSource } from '../../packages/core/src/request/request-id.ts'
import { RequestJournal } from '../../packages/core/src/request/request-journal.ts'
import { GroupCommit } from '../../packages/core/src/write/group-commit.ts'
import type { ResolvedLedgerOptions } from '../../packages/core/src/write/ledger-options.ts'
import type { ProcedureTable } from '../../packages/core/src/write/procedure-table.ts'
import type { ResolvedWriteQueueOptions } from '../../packages/core/src/write/queue-options.ts'
import { RequestLedger } from '../../packages/core/src/write/request-ledger.ts'
import { WriteQueue } from '../../packages/core/src/write/write-queue.ts'
import type { Sabotage } from './sabotage.ts'
import type { SimProcess } from './sim-process.ts'
import { standingOf } from './sim-standing.ts'
import { SqliteImage } from './sqlite-image.ts'
import { VirtualApplier } from './virtual-applier.ts'
import { VirtualCapture } from './virtual-capture.ts'
import { VirtualWriter } from './virtual-writer.ts'

export interface SimPrimaryParts {
  readonly database: string
  readonly process: SimProcess
  readonly clock: Clock
  readonly log: TransactionLog
  readonly marker: SeedMarker
  readonly tracker: PositionTracker
  readonly procedures: ProcedureTable
  readonly requestIds: RequestIdSource
  readonly ledger: ResolvedLedgerOptions
  readonly queue: ResolvedWriteQueueOptions
  readonly nodeId: bigint
  readonly schema: string
  readonly sabotage: Sabotage | undefined
  /** Whether the disk fails the next COMMIT. */
  commitFault(): 'commit' | 'fail' | 'full'
  requirePrimary(): void
  onFailure(error: unknown): void
  /** The WAL did not continue the log. */
  onHistoryRestarted(): void
}

/** Commits in the WAL at which it is copied back. */
const CHECKPOINT_COMMITS = 16

export class SimPrimary {
  readonly epoch: Epoch
  readonly #parts: SimPrimaryParts
  readonly #writer: VirtualWriter
  readonly #commit: CommitParts
  readonly #queue: WriteQueue
  #failure: unknown
  /** Records are captured and not announced. */
  #hasCaptured = false

  constructor(parts: SimPrimaryParts, epoch: Epoch) {
    this.#parts = parts
    this.epoch = epoch
    const { process, log, tracker, clock, database } = parts
    const { file } = process.machine
    const capture = begin(parts, epoch, () => {
      process.passing('after-capture')
      this.#hasCaptured = true
    })
    this.#writer = new VirtualWriter(file, {
      isDurable: parts.sabotage !== 'commits-without-sync',
      beforeCommit: () => {
        process.passing('before-commit')
        return parts.commitFault()
      },
      afterCommit: () => process.passing('after-commit'),
    })
    const writer = this.#writer.connection
    const groupCommit = new GroupCommit({
      database,
      writer,
      procedures: parts.procedures,
      ledger: new RequestLedger({ database, writer, clock, ids: parts.requestIds, options: parts.ledger }),
      afterBegin: () => announceForeignCommits(this.#commit),
    })
    this.#commit = {
      database,
      epoch,
      groupCommit,
      capture,
      log,
      tracker,
      journal: new RequestJournal(),
      unlogged: new UnloggedRequests(),
      requirePrimary: () => {
        const isAnnouncing = this.#hasCaptured
        if (isAnnouncing) process.passing('before-announce')
        this.#hasCaptured = false
        if (isAnnouncing && parts.sabotage === 'announces-without-lease') return
        parts.requirePrimary()
      },
      syncWal: () => undefined,
      fail: (error) => this.#fail(error),
    }
    this.#queue = new WriteQueue({
      database,
      clock,
      options: parts.queue,
      run: (batch) => this.#run(batch),
      standsAlone: (job) => groupCommit.standsAlone(job),
    })
  }

  /** Tells where the database stands, with the epoch of its last record, which may be an older one. */
  announce(): void {
    this.#parts.tracker.replace(this.#parts.log.tail)
  }

  get isStopped(): boolean {
    return this.#failure !== undefined
  }

  get queuedWrites(): number {
    return this.#queue.length
  }

  write(write: LocalWrite): Promise<CommittedWrite> {
    const { tracker } = this.#parts
    const { operation, bytes } = admitOperation(write.operation)
    return new Promise((resolve, reject) => {
      this.#queue.submit({
        ...write,
        ...(this.#parts.sabotage === 'forgets-request-ids' ? { requestId: undefined, idempotencyKey: undefined } : {}),
        kind: 'run',
        operation,
        bytes,
        settle(outcome) {
          if (outcome.kind !== 'done')
            return reject(outcome.kind === 'failed' ? outcome.error : new Error(outcome.kind))
          const { position, epoch } = tracker.current
          resolve({ result: outcome.result, replayed: outcome.replayed, position, epoch })
        },
      })
    })
  }

  resolve(question: LocalResolve): Promise<ResolvedWrite> {
    const { tracker } = this.#parts
    return new Promise((resolve, reject) => {
      this.#queue.submit({
        ...question,
        kind: 'resolve',
        bytes: 128,
        settle(outcome) {
          if (outcome.kind !== 'resolved')
            return reject(outcome.kind === 'failed' ? outcome.error : new Error(outcome.kind))
          const { position, epoch } = tracker.current
          resolve({ ...outcome.resolution, position, epoch })
        },
      })
    })
  }

  /** Another process commits; it is noticed with the next write, or here. */
  foreignCommit(sql: string, isNoticed: boolean): void {
    if (this.#failure !== undefined) return
    this.#writer.foreignCommit(sql)
    if (!isNoticed) return
    try {
      announceForeignCommits(this.#commit)
    } catch (error) {
      this.#fail(error)
    }
  }

  /** Everything committed is announced: before a snapshot is taken. */
  captureNow(): void {
    announceForeignCommits(this.#commit)
  }

  close(): void {
    this.#queue.close()
    this.#writer.close()
  }

  #run(batch: Parameters<typeof commitBatch>[0]): 'ran' | 'busy' {
    const ran = commitBatch(batch, this.#commit)
    const { log, process } = this.#parts
    if (ran === 'busy' || this.#failure !== undefined || process.isDead) return ran
    const { file } = process.machine
    if (file.walCommits < CHECKPOINT_COMMITS) return ran
    try {
      log.syncNow() // I6
      file.checkpoint()
    } catch (error) {
      this.#fail(error)
    }
    return ran
  }

  #fail(error: unknown): ClusterError {
    const refusal = new ClusterError(
      'DATABASE_STOPPED',
      `database "${this.#parts.database}" takes no writes on this node`,
      {
        cause: error,
      },
    )
    if (this.#failure === undefined) {
      this.#failure = error
      this.#queue.stop(refusal)
      this.#parts.onFailure(error)
    }
    return refusal
  }
}

/** Everything between opening the file and the first commit. */
function begin(parts: SimPrimaryParts, epoch: Epoch, afterCapture: () => void): VirtualCapture {
  const { log, marker, process, clock, nodeId } = parts
  const { file } = process.machine
  const common = { file, nodeId, nowMs: () => clock.nowMs(), afterCapture }
  const captureFrom = (position: Position, image: SqliteImage) => new VirtualCapture({ ...common, position, image })
  if (file.current.isEmpty) create(parts)
  file.sync()
  const beginEpoch = (): void => {
    const { txid, checksum } = log.tail.position
    if (log.epochTable().at(-1)?.epoch === epoch) return
    log.recordEpochStart({ epoch, firstTxid: nextTxid(txid), checksumBefore: txid === 0n ? NO_CHECKSUM : checksum })
  }
  const known = standingOf(file, log, marker)
  if (known !== undefined) {
    applyLogged(parts, known)
    beginEpoch()
    return captureFrom(log.tail.position, file.current)
  }
  const { position: before, epoch: epochBefore } = log.tail
  const logged = before.txid === 0n ? undefined : file.states.findLast((state) => state.checksum === before.checksum)
  if (logged !== undefined) {
    // The same records again, with the TXIDs that replicas may know them by, in the epoch in which this node wrote them.
    const capture = captureFrom(before, logged)
    const begun = epochOf(log.epochTable(), nextTxid(before.txid))
    const newest = begun > epochBefore ? begun : epochBefore
    const wrote = file.isOwnCommit(logged) && epochBefore !== NO_EPOCH ? newest : epoch
    if (wrote === epoch) beginEpoch()
    log.append(capture.capture().map((record) => ({ epoch: wrote, record })))
    log.syncNow()
    beginEpoch()
    return capture
  }
  if (before.txid > 0n) parts.onHistoryRestarted()
  // This state exists only as a snapshot, not as a record.
  beginEpoch()
  const position = { txid: nextTxid(before.txid), checksum: file.current.checksum }
  log.reset({ position, epoch })
  return captureFrom(position, file.current)
}

function create({ process, schema, log }: SimPrimaryParts): void {
  if (!samePosition(log.tail.position, ZERO_POSITION)) {
    throw new ClusterError('NOT_A_DATABASE', `the file of ${process.name} is empty, but its log is not`)
  }
  const { file } = process.machine
  const writer = new VirtualWriter(file, {
    isDurable: true,
    beforeCommit: () => 'commit',
    afterCommit: () => undefined,
  })
  writer.foreignCommit(schema)
  writer.close()
}

function applyLogged({ process, log }: SimPrimaryParts, from: Position): void {
  const applier = new VirtualApplier(process.machine.file, from, () => process.passing('before-apply'))
  for (let after = from; ; ) {
    const entry = log.readRecord(nextTxid(after.txid))
    if (entry === undefined) return
    applier.apply([entry.record])
    after = entry.record.postApply
  }
}
