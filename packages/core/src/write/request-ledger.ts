/**
 * Exactly once: remembers under which request ids and idempotency keys a write has taken effect in this database, and what it
 * answered, in the transaction of the write itself. So the memory replicates, survives failover, and can never disagree with
 * the data.
 *
 * Hidden tables, created by the primary's first use:
 *   _litefleet_request  id (16 bytes, sorts by issue time, so rows are appended), entry; the row with an empty id is the
 *                       horizon: its entry is the last id that was pruned
 *   _litefleet_key      key, id (when it was stored), entry
 *   An entry is the hash of the request (16 bytes) and its answer. Without the answer: applied, the answer was too large to
 *   keep. Empty: abandoned by `resolve`.
 *
 * Rules (I7):
 * - A known id or key gets its first answer (`replay`); with another request, `REQUEST_ID_REUSED`. A write that fails leaves no
 *   row and may run again. One that carries neither leaves no row either.
 * - Rows go by time only, oldest first, in small steps. An id at or before the horizon, or older than the retention, is
 *   `REQUEST_TOO_OLD`: it may have run, so it never runs again. The horizon is stored because another primary's clock may differ.
 * - At the size bound new requests are refused with `LEDGER_FULL`; there is a reserve of an eighth for `resolve` and for
 *   repeated keys, which leave a row under their new id.
 * - `resolve` of an id nobody knows writes a tombstone: a duplicate that arrives later gets `REQUEST_ABANDONED`.
 *
 * Relies on: the only writer of these tables; every call but `committed` and `rolledBack` is inside a transaction that holds
 * the write lock. Order: `begin` → (`admit` → `record` | `resolve`)* → `finish` → COMMIT → `committed`, or ROLLBACK → `rolledBack`.
 */
import type { Clock } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import { OperationHasher } from '../request/operation-hash.ts'
import { issuedAtMs, type RequestId, type RequestIdSource } from '../request/request-id.ts'
import type { Resolution, WriteResult } from '../request/write-request.ts'
import type { Connection } from '../sqlite/connection.ts'
import type { ResolvedLedgerOptions } from './ledger-options.ts'
import { LedgerEntryEncoder, readLedgerEntry, TOMBSTONE } from './ledger-entry.ts'
import { LedgerRows } from './ledger-rows.ts'
import type { LedgerTable } from './ledger-table.ts'
import type { RunJob, WriteJob } from './write-job.ts'

export interface RequestLedgerOptions {
  readonly database: string
  readonly writer: Connection
  readonly clock: Clock
  /** Orders the rows of keys by the time they were stored. */
  readonly ids: RequestIdSource
  readonly options: ResolvedLedgerOptions
}

/** What is to be recorded when the write succeeds. */
export interface Claim {
  readonly requestId: RequestId | undefined
  readonly key: string | undefined
  /** As `OperationHasher` gives it. */
  readonly hash: string
}

export type Admission =
  | { readonly kind: 'run'; readonly claim: Claim }
  | { readonly kind: 'replay'; readonly result: WriteResult }

/** Rows pruned in one transaction, or twice as many as the last one added if that is more: so pruning always catches up. */
const PRUNE_ROWS = 256
/** When nothing was old enough, how long until the next look. */
const PRUNE_PAUSE_MS = 1_000
const KEY_LENGTH_MAX = 255
/** From this share of a bound on, request ids older than `retentionMinMs` go early. */
const PRESSURE = 7 / 8
/** Up to this share of the bound of rows, requests can be given up, and keys repeated under new ids. */
const RESERVE = 9 / 8

export class RequestLedger {
  readonly #parts: RequestLedgerOptions
  readonly #hasher = new OperationHasher()
  readonly #encoder: LedgerEntryEncoder
  readonly #rows: LedgerRows
  #isBegun = false
  #wrote = false
  #nextPruneMs = 0
  /** Rows the last transaction added. */
  #lastAdded = 0

  constructor(parts: RequestLedgerOptions) {
    this.#parts = parts
    this.#encoder = new LedgerEntryEncoder(parts.options.answerBytesMax)
    this.#rows = new LedgerRows(parts.writer)
  }

  /** True when the job looks at rows or leaves one, so that its transaction needs `begin`. */
  static concerns(job: WriteJob): boolean {
    return job.requestId !== undefined || (job.kind === 'run' && job.idempotencyKey !== undefined)
  }

  /** Whether the open transaction holds changes of the ledger. */
  get hasWritten(): boolean {
    return this.#wrote
  }

  /** Rows remembered; a lower bound until those found at start are counted. */
  get rowCount(): number {
    return this.#rows.rowCount
  }

  /** The first use inside a transaction. Prunes a little, so that there is room for what follows. */
  begin(): void {
    this.#isBegun = true
    this.#wrote = this.#rows.begin()
    this.#prune(Math.max(PRUNE_ROWS, this.#lastAdded * 2))
  }

  /**
   * May this job run?
   * @throws REQUEST_ID_REUSED, REQUEST_ABANDONED, REQUEST_TOO_OLD, ANSWER_DROPPED, LEDGER_FULL, INVALID_REQUEST
   */
  admit(job: RunJob): Admission {
    const { requestId, idempotencyKey: key } = job
    const claim: Claim = { requestId, key, hash: this.#hasher.hash(job.operation) }
    const byId = requestId === undefined ? undefined : this.#rows.findRequest(requestId)
    if (byId !== undefined) return this.#replay(byId, claim)
    // Not before: what is known was valid, by the clock of whoever was the primary then.
    this.#requireValid(requestId, key)
    const byKey = key === undefined ? undefined : this.#rows.findKey(key)
    if (byKey !== undefined) {
      const admission = this.#replay(byKey, claim)
      // Under its new id the request is answered, too: resolve() must not call it "not applied".
      if (requestId !== undefined) {
        this.#requireReserve()
        this.#rows.addRequest(requestId, byKey)
        this.#wrote = true
      }
      return admission
    }
    if (requestId !== undefined) this.#requireRemembered(requestId)
    this.#requireRoom(claim)
    return { kind: 'run', claim }
  }

  /** Stores the answer of a job that was admitted and has run. */
  record(claim: Claim, result: WriteResult): void {
    const entry = this.#encoder.encode(claim.hash, result)
    if (claim.requestId !== undefined) this.#rows.addRequest(claim.requestId, entry)
    if (claim.key !== undefined) this.#rows.addKey(claim.key, this.#parts.ids.next(), entry)
    this.#wrote = true
  }

  /** The last step before COMMIT, also of a transaction that did not begin the ledger: writes what was recorded. */
  finish(): void {
    if (this.#isBegun) this.#lastAdded = this.#rows.flush()
  }

  /**
   * Finds out what became of a request whose caller never got an answer. If it did not run, it never will.
   * @throws REQUEST_TOO_OLD when the ledger cannot know, LEDGER_FULL, INVALID_REQUEST
   */
  resolve(id: RequestId): Resolution {
    const known = this.#rows.findRequest(id)
    if (known !== undefined) {
      const entry = readLedgerEntry(known)
      return entry === undefined ? { outcome: 'not-applied' } : { outcome: 'applied', result: entry.answer() }
    }
    this.#requireValid(id, undefined)
    this.#requireRemembered(id)
    this.#requireReserve()
    this.#rows.addRequest(id, TOMBSTONE)
    this.#wrote = true
    return { outcome: 'not-applied' }
  }

  /** The transaction was committed, whether or not it began the ledger. */
  committed(): void {
    if (this.#isBegun) this.#rows.committed()
    this.#end()
  }

  /** The transaction was rolled back, whether or not it began the ledger. */
  rolledBack(): void {
    if (this.#isBegun) this.#rows.rolledBack()
    this.#end()
  }

  #end(): void {
    this.#isBegun = false
    this.#wrote = false
  }

  #prune(limit: number): void {
    const { clock, options } = this.#parts
    const { rows, bytes } = this.#rows.requests
    const nowMs = clock.nowMs()
    const isPressed = rows >= options.rowsMax * PRESSURE || bytes >= options.bytesMax * PRESSURE
    if (nowMs < this.#nextPruneMs && !isPressed) return
    const cutoffMs = nowMs - options.retentionMs
    const requests = this.#rows.pruneRequests(isPressed ? nowMs - options.retentionMinMs : cutoffMs, limit)
    const keys = this.#rows.pruneKeys(cutoffMs, limit)
    if (requests + keys > 0) this.#wrote = true
    if (requests < limit && keys < limit) this.#nextPruneMs = nowMs + PRUNE_PAUSE_MS
  }

  #replay(stored: Buffer, claim: Claim): Admission {
    const entry = readLedgerEntry(stored)
    if (entry === undefined)
      throw this.#error('REQUEST_ABANDONED', 'the request was declared not applied before it arrived')
    if (entry.hash !== claim.hash) {
      const what = claim.key === undefined ? 'request id' : 'request id or idempotency key'
      throw this.#error('REQUEST_ID_REUSED', `the ${what} belongs to a different request`)
    }
    const result = entry.answer()
    if (result === undefined)
      throw this.#error('ANSWER_DROPPED', 'the write was applied before; its answer was too large to keep')
    return { kind: 'replay', result }
  }

  #requireValid(id: RequestId | undefined, key: string | undefined): void {
    const { clock, options } = this.#parts
    if (key !== undefined && (key.length === 0 || key.length > KEY_LENGTH_MAX || !key.isWellFormed())) {
      throw this.#error(
        'INVALID_REQUEST',
        `an idempotency key has 1 … ${KEY_LENGTH_MAX} characters of well-formed text`,
      )
    }
    // Its row would stay until that time has come, and all rows are looked up as long as one is newer than the present.
    if (id === undefined || issuedAtMs(id) <= clock.nowMs() + options.retentionMs) return
    throw this.#error('INVALID_REQUEST', 'the request id was issued in the future', {
      hint: 'An id begins with the time in ms, 6 bytes; compare the clocks of the two nodes.',
      details: { issuedAtMs: issuedAtMs(id), nowMs: clock.nowMs() },
    })
  }

  #requireRemembered(id: RequestId): void {
    const { clock, options } = this.#parts
    const isForgotten = this.#rows.isPruned(id) || issuedAtMs(id) < clock.nowMs() - options.retentionMs
    if (!isForgotten) return
    throw this.#error('REQUEST_TOO_OLD', 'the request is older than the ledger remembers', {
      hint: 'It may have been applied long ago: look at the data before asking for it under a new id. A request that is new has an id from a node whose clock is late.',
      details: { issuedAtMs: issuedAtMs(id), retentionMs: options.retentionMs },
    })
  }

  #requireRoom(claim: Claim): void {
    const { rowsMax, bytesMax, retentionMs, retentionMinMs } = this.#parts.options
    const { requests, keys, requestRows } = this.#rows
    if (claim.requestId !== undefined && (requestRows >= rowsMax || requests.bytes >= bytesMax)) {
      throw this.#full('the request ledger is full', requests, retentionMinMs)
    }
    if (claim.key !== undefined && (keys.rows >= rowsMax || keys.bytes >= bytesMax)) {
      throw this.#full('the ledger of idempotency keys is full', keys, retentionMs)
    }
  }

  /** A full ledger still answers what became of requests, and repeated keys under new ids, up to its reserve. */
  #requireReserve(): void {
    const { rowsMax, retentionMinMs } = this.#parts.options
    const { requests, requestRows } = this.#rows
    if (requestRows < rowsMax * RESERVE) return
    throw this.#full('the request ledger is full, its reserve included', requests, retentionMinMs)
  }

  #full(message: string, table: LedgerTable, keptMs: number): ClusterError {
    const { clock, options } = this.#parts
    const { rowsMax, bytesMax } = options
    const nowMs = clock.nowMs()
    return this.#error('LEDGER_FULL', message, {
      hint: 'Rows go when they are old enough: wait, shorten ledger.retentionMs, or raise ledger.rowsMax and ledger.bytesMax.',
      details: {
        rows: table.rows,
        bytes: table.bytes,
        rowsMax,
        bytesMax,
        // The oldest row goes then; it is held back by nothing but its age.
        retryAfterMs: Math.max(0, (table.oldestMs() ?? nowMs) + keptMs - nowMs),
      },
    })
  }

  #error(
    code:
      | 'INVALID_REQUEST'
      | 'REQUEST_ID_REUSED'
      | 'REQUEST_ABANDONED'
      | 'REQUEST_TOO_OLD'
      | 'ANSWER_DROPPED'
      | 'LEDGER_FULL',
    message: string,
    options?: { readonly hint: string; readonly details: Readonly<Record<string, unknown>> },
  ): ClusterError {
    return new ClusterError(code, `database "${this.#parts.database}": ${message}`, options)
  }
}
