/**
 * Makes one write and, when its outcome is unknown, finds it out as an application would: under the same id again, or by `resolve`; or
 * leaves it at that.
 *
 * Promises: a fate is only what a node said. "Not applied" about a later attempt says nothing of the first one.
 * Bound: `ATTEMPTS_MAX` attempts; a call that does not answer `GRACE_MS` after its deadline is a finding.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { AwaitLevel, SqlStatement } from '@litefleet/core'
import { RequestIdSource } from '../../packages/core/src/request/request-id.ts'
import { NodeError, type ProcessNode } from '../support/process-node.ts'
import type { Random } from '../support/random.ts'
import { TooLong, within } from './bounded.ts'
import type { Fleet } from './fleet.ts'
import { DATABASE, HAS_ID } from './storm-schema.ts'
import type { Write, WriteBook } from './write-book.ts'

const ATTEMPTS_MAX = 25
const RETRY_PAUSE_MS = 150
const GRACE_MS = 60_000
const TIMEOUTS_MS = [400, 1_500, 5_000, 12_000]

export interface WriteWish {
  readonly workload: Write['workload']
  readonly identity: Write['identity']
  readonly level: AwaitLevel
  /** What to do when the outcome is unknown. */
  readonly thenWhat: 'leave' | 'retry' | 'resolve'
  statements(id: number): readonly SqlStatement[]
  /** Whom to ask now; `undefined` when nobody can be asked. */
  node(): { readonly index: number; readonly process: ProcessNode } | undefined
}

export class StormClient {
  readonly #fleet: Fleet
  readonly #book: WriteBook
  readonly #random: Random
  readonly #ids: RequestIdSource
  #isStopping = false

  constructor(fleet: Fleet, book: WriteBook, random: Random) {
    this.#fleet = fleet
    this.#book = book
    this.#random = random
    this.#ids = new RequestIdSource(Date.now, random.bytes(6))
  }

  /** No further attempts from now on; what is under way is waited for. */
  stop(): void {
    this.#isStopping = true
  }

  /** `undefined` when there was nobody to ask. */
  async write(wish: WriteWish): Promise<Write | undefined> {
    const first = wish.node()
    if (first === undefined) return undefined
    const { workload, level, identity, thenWhat } = wish
    const isOfAll = typeof level === 'object' && level.replicas >= this.#fleet.size - 1
    const isEverywhere = isOfAll || level === 'majority'
    const write = this.#book.begin({ workload, level, identity, isEverywhere }, () => this.#ids.next())
    const statements = wish.statements(write.id)
    let requestId = await this.#attempt(write, statements, first)
    if (write.fate !== 'unknown' || thenWhat === 'leave') return write
    requestId ??= write.requestId
    // Without an id of any kind a repeated write is another write.
    if (requestId === undefined && write.key === undefined) return write
    while (write.fate === 'unknown' && write.attempts < ATTEMPTS_MAX && !this.#isStopping) {
      await sleep(RETRY_PAUSE_MS)
      const asked = wish.node()
      if (asked === undefined) continue
      if (thenWhat === 'resolve' && requestId !== undefined) await this.#resolve(write, requestId, asked.process)
      else await this.#attempt(write, statements, asked, requestId)
    }
    return write
  }

  /** Answers the request id that a failure named. */
  async #attempt(
    write: Write,
    statements: readonly SqlStatement[],
    { index, process }: { readonly index: number; readonly process: ProcessNode },
    givenId = write.requestId,
  ): Promise<string | undefined> {
    const isFirst = ++write.attempts === 1
    const timeoutMs = this.#random.pick(TIMEOUTS_MS)
    const identity = write.key !== undefined ? { idempotencyKey: write.key } : { requestId: givenId }
    const call = process.batch(DATABASE, statements, { await: write.level, timeoutMs, ...identity })
    try {
      const { position, replayed } = await within(timeoutMs + GRACE_MS, `write ${write.id} on node ${index}`, call)
      // The node has asked again by itself, and the ledger knew it.
      if (replayed) write.recoveredBy ??= 'retry'
      this.#applied(write, 'applied', position.txid)
      if (write.level !== 'none') await this.#readBack(write, process, index)
      return givenId
    } catch (error) {
      return this.#failed(write, isFirst, error) ?? givenId
    }
  }

  #applied(write: Write, fate: 'applied' | 'late', txid: bigint | undefined): void {
    if (write.attempts > 1) write.recoveredBy ??= 'retry'
    write.fate = fate
    if (txid !== undefined) write.txids.add(txid)
  }

  #failed(write: Write, isFirst: boolean, error: unknown): string | undefined {
    if (error instanceof TooLong) {
      this.#fleet.log.finding(error.message)
      write.fate = 'unknown'
      return undefined
    }
    if (!(error instanceof NodeError)) throw error
    const { outcome, details, code } = error
    if (outcome === 'applied') {
      const { position, replayed } = details as { position?: { txid?: bigint }; replayed?: boolean }
      if (replayed === true) write.recoveredBy ??= 'retry'
      this.#applied(write, 'late', position?.txid)
    } else if (code === 'REQUEST_ABANDONED') write.fate = 'abandoned'
    else if (outcome === 'unknown' || !isFirst) write.fate = 'unknown'
    // Without an outcome it is SQLite's own: then nothing happened.
    else write.fate = 'refused'
    const { requestId } = details as { requestId?: unknown }
    return typeof requestId === 'string' ? requestId : undefined
  }

  async #resolve(write: Write, requestId: string, process: ProcessNode): Promise<void> {
    write.attempts++
    const timeoutMs = this.#random.pick(TIMEOUTS_MS)
    const call = process.resolve(DATABASE, requestId, { timeoutMs })
    try {
      const { outcome, position } = await within(timeoutMs + GRACE_MS, `resolve of write ${write.id}`, call)
      write.recoveredBy = 'resolve'
      write.fate = outcome === 'applied' ? 'late' : 'abandoned'
      // At the latest: it may be an older one.
      if (outcome === 'applied') write.txids.add(position.txid)
    } catch (error) {
      if (error instanceof TooLong) this.#fleet.log.finding(error.message)
      else if (!(error instanceof NodeError)) throw error
      else if (error.outcome === 'applied') {
        write.recoveredBy = 'resolve'
        this.#failed(write, false, error)
      }
    }
  }

  /** I3: who is told that a write is visible on its node sees it there, as long as it is the same process. */
  async #readBack(write: Write, process: ProcessNode, index: number): Promise<void> {
    const divergedBefore = this.#fleet.divergedOf(index)
    const rows = await process.read(DATABASE, HAS_ID, [write.id, write.id]).catch(() => undefined)
    if (rows === undefined || this.#fleet.divergedOf(index) !== divergedBefore) return
    if (rows[0]?.[0] !== 1)
      this.#fleet.log.finding(
        `write ${write.id} was acknowledged on node ${index} and seen there ${String(rows[0]?.[0])} times`,
      )
  }
}
