/**
 * What each connected replica has, as far as it said so, and everybody on the primary who waits for replicas (design
 * D9).
 *
 * Relies on: reports of one replica arrive in the order it sent them; waiters are for transactions of this node's
 * current term.
 * Promises: a replica counts for a transaction only while the last record of its log carries the epoch of that
 * transaction and stands at or after it: one primary per epoch and logs without holes make that record the same record.
 * A report with another epoch, smaller or larger, never counts. Nodes of one name are one node: of a machine that lost power and
 * came back, the old channel may still look alive. A waiter wakes in the turn of the report that completes
 * its level. `waitFor` never rejects: the write it belongs to is committed whatever happens here, so the answer says
 * how far it came.
 *
 * `all` means: applied on every replica connected at the moment the wait ends. A replica that disconnects leaves the
 * set (a dead one must not hold up writes for ever) and one that joins enters it, also before its first report, so a
 * wait may end because the only missing replica went away. With no replica connected `all` is reached at once, with a
 * count of 0. LiteFS replicas acknowledge nothing; they count for no level and every answer lists them.
 *
 * Bound: `waitersMax` waits; one more is answered at once as not reached.
 */
import type { Clock } from '../base/clock.ts'
import { CoarseTimer } from '../base/coarse-timer.ts'
import type { Epoch } from './epoch.ts'
import type { Position } from './position.ts'
import type { ReplicaIdentity, ReplicaReport } from './replica-report.ts'
import type { Txid } from './txid.ts'

/** The await levels that replicas decide: applied on all, or durable on so many, of these names where they are given. */
export type ReplicaLevel = 'all' | ReplicaCount

export interface ReplicaCount {
  readonly replicas: number
  /** Only nodes of these names count. Default: all. */
  readonly among?: readonly string[] | undefined
}

export interface ReplicaWaitOutcome {
  readonly ended: 'reached' | 'deadline' | 'abandoned' | 'too-many-waiters'
  /**
   * The level really reached: the one asked for, or the durable copies counted when the wait ended; `none` without any.
   */
  readonly level: ReplicaLevel | 'none'
  /** Replicas that satisfied the asked level when the wait ended. */
  readonly count: number
  /** Connected LiteFS replicas, by name. */
  readonly uncounted: readonly string[]
}

/** One connected replica and its last report of one database; without a report when it said nothing of it yet. */
export interface ReplicaStanding extends ReplicaIdentity {
  readonly report: ReplicaReport | undefined
}

export interface ReplicaPositionsOptions {
  readonly clock: Clock
  /** Default: 100,000. */
  readonly waitersMax?: number | undefined
}

interface Replica {
  readonly identity: ReplicaIdentity
  readonly reports: Map<string, ReplicaReport>
}

interface Waiter {
  readonly position: Position
  readonly deadlineMs: number
  resolve(outcome: ReplicaWaitOutcome): void
}

/** Waiters of one database, epoch and level, ascending by TXID: the first that is not satisfied ends the search. */
interface WaiterGroup {
  readonly key: string
  readonly database: string
  readonly epoch: Epoch
  readonly level: ReplicaLevel
  waiters: Waiter[]
}

const SWEEP_MS = 10

export class ReplicaPositions {
  readonly #waitersMax: number
  readonly #clock: Clock
  readonly #replicas = new Map<string, Replica>()
  readonly #liteFs = new Map<string, number>()
  readonly #groups = new Map<string, WaiterGroup>()
  readonly #timer: CoarseTimer
  readonly #listeners = new Set<() => void>()
  #waiterCount = 0

  constructor(options: ReplicaPositionsOptions) {
    this.#clock = options.clock
    this.#waitersMax = options.waitersMax ?? 100_000
    this.#timer = new CoarseTimer(options.clock, SWEEP_MS, (nowMs) => this.#expire(nowMs))
  }

  /** A replica opened its channel. One that was known under the same id starts again without reports. */
  connected(identity: ReplicaIdentity): void {
    this.#replicas.set(identity.nodeId, { identity, reports: new Map() })
    this.#changed()
  }

  /** A replica's channel ended: it leaves every set. */
  disconnected(nodeId: string): void {
    if (!this.#replicas.delete(nodeId)) return
    for (const group of this.#groups.values()) this.#wake(group)
    this.#changed()
  }

  /** A LiteFS node opened a stream. Answers what to call when it left. */
  liteFsConnected(name: string): () => void {
    this.#liteFs.set(name, (this.#liteFs.get(name) ?? 0) + 1)
    let left = false
    return () => {
      if (left) return
      left = true
      const count = (this.#liteFs.get(name) ?? 1) - 1
      if (count === 0) this.#liteFs.delete(name)
      else this.#liteFs.set(name, count)
    }
  }

  /** Takes reports of a connected replica; reports of one that is not connected are dropped. */
  report(nodeId: string, reports: readonly ReplicaReport[]): void {
    const replica = this.#replicas.get(nodeId)
    if (replica === undefined) return
    const touched = new Set<string>()
    for (const report of reports) {
      replica.reports.set(report.database, report)
      touched.add(report.database)
    }
    for (const group of this.#groups.values()) if (touched.has(group.database)) this.#wake(group)
    this.#changed()
  }

  /**
   * Resolves when `level` is reached for the transaction that ended at `target`, or at the deadline.
   * @param deadlineMs on the clock's monotonic scale
   */
  waitFor(
    level: ReplicaLevel,
    database: string,
    target: { readonly position: Position; readonly epoch: Epoch },
    deadlineMs: number,
  ): Promise<ReplicaWaitOutcome> {
    const { position, epoch } = target
    const key = `${typeof level === 'string' ? level : `${level.replicas}/${level.among?.join() ?? ''}`}/${epoch}/${database}`
    const group = this.#groups.get(key) ?? { key, database, epoch, level, waiters: [] }
    if (this.#isReached(group, position)) return Promise.resolve(this.#outcome('reached', group, position))
    if (deadlineMs <= this.#clock.monotonicMs()) return Promise.resolve(this.#outcome('deadline', group, position))
    if (this.#waiterCount >= this.#waitersMax) {
      return Promise.resolve(this.#outcome('too-many-waiters', group, position))
    }
    return new Promise((resolve) => {
      this.#groups.set(key, group)
      this.#waiterCount++
      // Almost always at the end: later callers wait for later transactions.
      let index = group.waiters.length
      while (index > 0 && (group.waiters[index - 1] as Waiter).position.txid > position.txid) index--
      group.waiters.splice(index, 0, { position, deadlineMs, resolve })
      this.#timer.arm()
    })
  }

  /** Ends every wait as `abandoned`: the node stopped being primary. Waits may be started again afterwards. */
  abandonWaits(): void {
    for (const group of this.#groups.values()) this.#end(group, group.waiters.splice(0), 'abandoned')
  }

  /** Ends every wait and the timer. */
  close(): void {
    this.abandonWaits()
    this.#timer.stop()
    this.#listeners.clear()
  }

  /** Every connected replica, by name, with its last report of the database. */
  standings(database: string): readonly ReplicaStanding[] {
    return [...this.#replicas.values()]
      .map(({ identity, reports }) => ({ ...identity, report: reports.get(database) }))
      .toSorted((a, b) => a.name.localeCompare(b.name))
  }

  /** Callers that wait for replicas. */
  get waiting(): number {
    return this.#waiterCount
  }

  /** All reports of one connected replica. */
  reportsOf(nodeId: string): readonly ReplicaReport[] {
    return [...(this.#replicas.get(nodeId)?.reports.values() ?? [])]
  }

  /** Names of connected LiteFS replicas. */
  get uncounted(): readonly string[] {
    return [...this.#liteFs.keys()].toSorted()
  }

  /** The smallest durable TXID that a connected replica reported for the database: what retention keeps for. */
  slowestDurable(database: string): Txid | undefined {
    let slowest: Txid | undefined
    for (const { reports } of this.#replicas.values()) {
      const durable = reports.get(database)?.durable.txid
      if (durable !== undefined && (slowest === undefined || durable < slowest)) slowest = durable
    }
    return slowest
  }

  /** Calls `listener` after a replica joined, left or reported. Answers how to stop. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  #changed(): void {
    for (const listener of this.#listeners) listener()
  }

  #isReached(group: WaiterGroup, position: Position): boolean {
    if (group.level !== 'all') return this.#count(group, position, 'durable', group.level.among) >= group.level.replicas
    return [...this.#replicas.values()].every((replica) => has(replica, group, position, 'applied'))
  }

  #count(group: WaiterGroup, position: Position, what: 'durable' | 'applied', among?: readonly string[]): number {
    const names = new Set<string>()
    for (const replica of this.#replicas.values()) {
      const { name } = replica.identity
      if (among?.includes(name) !== false && has(replica, group, position, what)) names.add(name)
    }
    return names.size
  }

  #outcome(ended: ReplicaWaitOutcome['ended'], group: WaiterGroup, position: Position): ReplicaWaitOutcome {
    const durable = this.#count(group, position, 'durable')
    const level = ended === 'reached' ? group.level : durable === 0 ? 'none' : { replicas: durable }
    const count = group.level === 'all' ? this.#count(group, position, 'applied') : durable
    return { ended, level, count, uncounted: this.uncounted }
  }

  #wake(group: WaiterGroup): void {
    const { waiters } = group
    let count = 0
    while (count < waiters.length && this.#isReached(group, (waiters[count] as Waiter).position)) count++
    if (count > 0) this.#end(group, waiters.splice(0, count), 'reached')
  }

  #expire(nowMs: number): boolean {
    for (const group of this.#groups.values()) {
      const expired = group.waiters.filter((waiter) => waiter.deadlineMs <= nowMs)
      if (expired.length === 0) continue
      group.waiters = group.waiters.filter((waiter) => waiter.deadlineMs > nowMs)
      this.#end(group, expired, 'deadline')
    }
    return this.#waiterCount > 0
  }

  #end(group: WaiterGroup, ended: readonly Waiter[], how: ReplicaWaitOutcome['ended']): void {
    this.#waiterCount -= ended.length
    if (group.waiters.length === 0) this.#groups.delete(group.key)
    for (const waiter of ended) waiter.resolve(this.#outcome(how, group, waiter.position))
  }
}

function has({ reports }: Replica, group: WaiterGroup, position: Position, what: 'durable' | 'applied'): boolean {
  const report = reports.get(group.database)
  return report !== undefined && report.epoch === group.epoch && contains(report[what], position)
}

/** Equal TXIDs with unequal checksums are two histories, also inside one epoch. */
function contains(has: Position, wanted: Position): boolean {
  return has.txid > wanted.txid || (has.txid === wanted.txid && has.checksum === wanted.checksum)
}
