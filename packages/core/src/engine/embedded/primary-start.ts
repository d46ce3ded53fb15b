/**
 * From where the file of a primary stands to its first commit, under the write lock.
 *
 * Order: the guards begin (from here on no uncaptured frame can be overwritten) · the WAL is synced · commits that the log does not have are
 * captured and logged, durably · the start of the epoch is recorded durably · the capture stands at the end of the WAL.
 *
 * Commits that the log does not have were not announced, or were announced and lost with the unsynced end of the log, when power
 * failed or a sync did. In the second case replicas may have them. So they become the same records again, one a commit, with
 * the TXIDs and checksums they had, in the epoch in which this node wrote them: a replica that has them goes
 * on as if nothing had happened. Where that cannot be proved they become one record of the new epoch; where nothing can be proved
 * the history starts anew, and replicas are seeded again.
 *
 * Promises: what no checksum vouches for is looked through by SQLite's integrity check before it becomes the truth for all
 * replicas, and refused when it is damaged, with nothing changed. What such a check cannot see is a byte inside a value.
 */
import type { WalContinuity } from '../../capture/wal-continuity.ts'
import { cursorNow } from '../../capture/wal-continuity.ts'
import { WalCapture } from '../../capture/wal-capture.ts'
import type { WalCursor } from '../../capture/wal-cursor.ts'
import { ClusterError } from '../../errors/cluster-error.ts'
import type { TransactionLog } from '../../log/transaction-log.ts'
import { LtxRecordBuilder } from '../../ltx/ltx-encoder.ts'
import type { LtxRecord } from '../../ltx/ltx-record.ts'
import type { PageChecksums } from '../../ltx/page-checksums.ts'
import { NO_CHECKSUM } from '../../position/checksum.ts'
import { type Epoch, epochOf, NO_EPOCH } from '../../position/epoch.ts'
import { formatPosition, type Position, samePosition } from '../../position/position.ts'
import { nextTxid } from '../../position/txid.ts'
import { countedAs, readFirstPage } from '../../snapshot/first-page.ts'
import { findDamage } from '../../sqlite/integrity.ts'
import { WalGuards } from '../../sqlite/wal-guards.ts'
import type { DatabaseStore, OpenFile } from './database-store.ts'
import { type Continuation, pinnedNow, type Standing } from './recovery.ts'
import type { UnloggedRequests } from './unlogged-requests.ts'

export interface StartParts {
  readonly store: DatabaseStore
  readonly epoch: Epoch
  /** Random, not zero; new in each process. */
  readonly nodeId: bigint
  /** Others were told of it in this very epoch, so the database goes on from it or not at all; `undefined`: the epoch begins. */
  readonly announced: Position | undefined
  /** What a commit that this process could not log was asked for. */
  readonly unlogged: UnloggedRequests
}

export interface Started {
  readonly file: OpenFile
  readonly guards: WalGuards
  readonly capture: WalCapture
}

/** Commits that are kept in memory one by one; more become one record. */
const SEPARATE_BYTES_MAX = 256 * 1024 * 1024

/** `undefined`: the log is ahead of the file. Throws `CORRUPT_DATA`. */
export function startPrimary(parts: StartParts, file: OpenFile, standing: Standing): Started | undefined {
  const { log } = parts.store
  if (standing.kind === 'known' && !samePosition(standing.position, log.tail.position)) return undefined
  const guards = new WalGuards([file.connect(), file.connect()])
  try {
    guards.open()
    // What this node applied as a replica may be in the page cache only: until now its log vouched for it, and a primary's does not.
    file.files.disk.dataSyncNow('primary.sync-wal', file.files.walFd)
    return { file, guards, capture: new Start(parts, file, guards).begin(standing) }
  } catch (error) {
    guards.close()
    throw error
  }
}

class Start {
  readonly #parts: StartParts
  readonly #file: OpenFile
  readonly #guards: WalGuards
  readonly #log: TransactionLog

  constructor(parts: StartParts, file: OpenFile, guards: WalGuards) {
    this.#parts = parts
    this.#file = file
    this.#guards = guards
    this.#log = parts.store.log
  }

  begin(standing: Standing): WalCapture {
    if (standing.kind === 'known') {
      this.#requireAnnounced([])
      this.#beginEpoch()
      return this.#captureFrom(this.#leaveRollbackMode(standing.position))
    }
    if (standing.kind === 'unlogged') return this.#beginHistory()
    const { continuation, now } = standing
    if (typeof continuation !== 'string') {
      const continued = this.#captureEach(continuation, now)
      if (continued !== undefined) return continued
    }
    if (this.#parts.announced !== undefined) throw this.#cannotGoOn()
    this.#requireIntact()
    const merged = typeof continuation === 'string' ? undefined : this.#captureMerged(continuation.cursor, now)
    return merged ?? this.#restartHistory(typeof continuation === 'string' ? continuation : 'other-checksum')
  }

  /** One record for each commit that the log does not have. `undefined` when their states cannot be proved. */
  #captureEach({ cursor, before, isOwnRecord }: Continuation, now: PageChecksums): WalCapture | undefined {
    const { epoch } = this.#parts
    const { tail } = this.#log
    const bytes = (cursorNow(this.#file.files).frame - cursor.frame) * this.#file.pageSize
    if (before === undefined || bytes > SEPARATE_BYTES_MAX) return undefined
    const capture = this.#newCapture(before, tail.position, cursor)
    const records = capture.capture({ syncWalFirst: true })
    if (records.length === 0 || capture.position.checksum !== now.checksum) return undefined
    this.#requireAnnounced(records)
    // The epoch that began after the newest record, if one did: the table is durable before the first record of an epoch.
    const begun = epochOf(this.#log.epochTable(), nextTxid(tail.position.txid))
    const newest = begun > tail.epoch ? begun : tail.epoch
    const wrote = isOwnRecord && tail.epoch !== NO_EPOCH ? newest : epoch
    if (wrote === epoch) this.#beginEpoch()
    const { unlogged } = this.#parts
    this.#log.append(records.map((record) => ({ epoch: wrote, record, requests: unlogged.of(record.postApply) })))
    this.#log.syncNow()
    unlogged.forget()
    this.#beginEpoch()
    this.#file.checksums = before // brought up to now by the capture
    return capture
  }

  /** The same as one record, when that leads to the state that was found. */
  #captureMerged(cursor: WalCursor, now: PageChecksums): WalCapture | undefined {
    // The page checksums are already those after these commits; capturing sets the same values again.
    const capture = this.#newCapture(now, this.#log.tail.position, cursor)
    const record = capture.captureMerged({ syncWalFirst: true })
    if (record === undefined || record.postApply.checksum !== now.checksum) return undefined
    this.#beginEpoch()
    this.#log.append([{ epoch: this.#parts.epoch, record }])
    this.#log.syncNow()
    this.#file.checksums = now
    return capture
  }

  #restartHistory(reason: Exclude<WalContinuity, { kind: 'continues' }>['reason'] | 'other-checksum'): WalCapture {
    const { name, warn } = this.#parts.store.options
    warn('history-restarted', `database "${name}": its file does not continue its log; replicas will be seeded again`, {
      log: formatPosition(this.#log.tail.position),
      reason,
    })
    return this.#snapshotHere()
  }

  /** A database that was never logged: an empty one, or a file that somebody brought along. */
  #beginHistory(): WalCapture {
    if (this.#parts.announced !== undefined) throw this.#cannotGoOn()
    this.#requireIntact()
    // It had epochs, so it had records, too; an empty one may have died between the two.
    const isLost = this.#log.epochTable().length > 0 && this.#file.checksums.pageCount > 1
    return isLost ? this.#restartHistory('no-record') : this.#snapshotHere()
  }

  /** The state that is here exists only as a snapshot, not as a record. */
  #snapshotHere(): WalCapture {
    this.#beginEpoch()
    const position = { txid: nextTxid(this.#log.tail.position.txid), checksum: this.#file.checksums.checksum }
    this.#log.reset({ position, epoch: this.#parts.epoch })
    return this.#captureFrom(position)
  }

  /**
   * What came from a LiteFS primary in rollback-journal mode counts with that primary's page 1, while the file has been in WAL mode all along: this
   * difference becomes the first transaction of the epoch. After a crash it is there, or is made again.
   */
  #leaveRollbackMode(position: Position): Position {
    const { store, nodeId, epoch } = this.#parts
    const { files, pageSize, checksums } = this.#file
    const pages = pinnedNow(files, pageSize, checksums.pageCount)
    if (countedAs(files.disk, pages, checksums).isRollback !== true) return position
    const txid = nextTxid(position.txid)
    const { pageCount: commit } = checksums
    const builder = new LtxRecordBuilder({
      pageSize,
      commit,
      minTxid: txid,
      maxTxid: txid,
      timestampMs: Math.floor(store.options.clock.nowMs()),
      preApplyChecksum: position.checksum,
      walOffset: 0,
      walBytes: 0,
      walSalt1: 0,
      walSalt2: 0,
      nodeId,
      pageCount: 1,
    })
    builder.addPage(1, readFirstPage(files.disk, pages), 0)
    const record = builder.finish(checksums.apply(Uint32Array.of(1), builder.pageChecksums, commit))
    this.#log.append([{ epoch, record }])
    this.#log.syncNow()
    return record.postApply
  }

  #captureFrom(position: Position): WalCapture {
    return this.#newCapture(this.#file.checksums, position, cursorNow(this.#file.files))
  }

  #newCapture(checksums: PageChecksums, position: Position, cursor: WalCursor): WalCapture {
    const { files, pageSize } = this.#file
    const { nodeId, store } = this.#parts
    const { clock } = store.options
    return new WalCapture({ files, guards: this.#guards, checksums, pageSize, nodeId, clock, position, cursor })
  }

  /** Recorded once: a database that is opened again in its epoch goes on in it. */
  #beginEpoch(): void {
    const { epoch } = this.#parts
    if (this.#log.epochTable().at(-1)?.epoch === epoch) return
    const { txid, checksum } = this.#log.tail.position
    const checksumBefore = txid === 0n ? NO_CHECKSUM : checksum
    this.#log.recordEpochStart({ epoch, firstTxid: nextTxid(txid), checksumBefore })
  }

  /** Of one epoch nothing that was announced is ever taken back. */
  #requireAnnounced(records: readonly LtxRecord[]): void {
    const { announced } = this.#parts
    if (announced === undefined || announced.txid === 0n) return
    if (this.#log.checksumAt(announced.txid) === announced.checksum) return
    if (!records.some(({ postApply }) => samePosition(postApply, announced))) throw this.#cannotGoOn()
  }

  #cannotGoOn(): ClusterError {
    const { store, announced } = this.#parts
    return new ClusterError(
      'CORRUPT_DATA',
      `database "${store.options.name}": file and log do not continue what was announced`,
      {
        details: { announced: announced === undefined ? undefined : formatPosition(announced) },
        hint: 'Restart the node: it begins a new epoch with what is there, and replicas are seeded again.',
      },
    )
  }

  #requireIntact(): void {
    const { name, warn } = this.#parts.store.options
    const found = findDamage(() => this.#file.connect({ readonly: true }))
    if (found.kind === 'intact') return
    if (found.kind === 'unchecked') {
      warn('unchecked', `database "${name}": SQLite could not check its integrity: ${found.reason}`, {
        reason: found.reason,
      })
      return
    }
    throw new ClusterError(
      'CORRUPT_DATA',
      `database "${name}": ${this.#parts.store.databasePath} is damaged: ${found.reason}`,
      {
        details: { file: this.#parts.store.databasePath, reason: found.reason },
        hint: 'Nothing was changed, and no replica was given this state. Put the file of a replica or of a backup in its place (with its -wal and -shm files removed), or make a replica the primary.',
      },
    )
  }
}
