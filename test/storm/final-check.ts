/**
 * What a storm must have left, once the machine is whole again: the oracles.
 *
 * Order: everybody healthy → everybody level → byte-equal → what is there is compared with what was told, and what is not there with the
 * reports → the reports are replayed, twice → compared again, byte-equal again.
 */
import { formatPosition } from '@litefleet/core'
import type { DivergenceReport } from '../../packages/core/src/divergence/divergence-report.ts'
import { differingPages, imageOf, integrityOf } from '../support/images.ts'
import { within } from './bounded.ts'
import type { Fleet } from './fleet.ts'
import {
  type FoundReport,
  isMissing,
  readReports,
  replay,
  replayByCommand,
  type ReplayCount,
  txidsWithoutRequest,
  writeIdOf,
} from './reports.ts'
import { ALL_IDS, COUNTS, DATABASE, STREAMS } from './storm-schema.ts'
import type { Write, WriteBook } from './write-book.ts'

const SETTLE_MS = 90_000
const ASK_MS = 60_000

export interface LossCount {
  readonly reports: number
  readonly transactions: number
  /** Acknowledged writes that the history kept did not have, all of them in reports. */
  lost: number
  /** Of these, whose transaction had been pruned from the log before, as a report says. */
  pruned: number
  /** Of these, found out after a crash of the primary that had not logged them yet: reported as transactions, without their requests. */
  withoutRequest: number
  replay: ReplayCount | undefined
}

export class FinalCheck {
  readonly #fleet: Fleet
  readonly #book: WriteBook
  readonly #hasLossyMoves: boolean

  constructor(fleet: Fleet, book: WriteBook, hasLossyMoves: boolean) {
    this.#fleet = fleet
    this.#book = book
    this.#hasLossyMoves = hasLossyMoves
  }

  /** The machine is whole again, and every node runs. */
  async heal(): Promise<void> {
    const fleet = this.#fleet
    for (const index of fleet.indexes) for (const link of fleet.cluster.linksOf(index)) link.heal()
    fleet.lease?.heal()
    for (const index of fleet.indexes) {
      const node = fleet.serving(index)
      node?.resume()
      if (node !== undefined) await within(ASK_MS, 'clear', node.clearFaults()).catch(() => undefined)
      if (fleet.serving(index) === undefined)
        await fleet.exclusively([index], async () => void (await fleet.start(index)))
    }
    if (fleet.lease !== undefined) await fleet.elected()
  }

  async run(): Promise<LossCount> {
    await this.#expectEqual()
    const reports = readReports(this.#fleet)
    const loss: LossCount = {
      reports: reports.length,
      transactions: reports.reduce((sum, { report }) => sum + spanOf(report.transactions), 0),
      lost: 0,
      pruned: 0,
      withoutRequest: 0,
      replay: undefined,
    }
    const gone = await this.#compareBefore(reports, loss)
    loss.replay = await replayByCommand(this.#fleet, reports)
    const sealed = new Set<number>()
    const again = await replay(this.#fleet, reports, (id) => sealed.add(id))
    if (again.ran > 0) this.#fleet.log.finding(`a second replay ran ${again.ran} requests again`)
    await this.#compareAfter(gone, sealed)
    await this.#expectEqual()
    return loss
  }

  /** I9: the same bytes everywhere, and nothing wrong with them. */
  async #expectEqual(): Promise<void> {
    const { cluster, log, replicas, primaryIndex } = this.#fleet
    if (!(await this.#fleet.settle(replicas, SETTLE_MS))) {
      for (const index of this.#fleet.indexes) {
        const state = await this.#fleet.stateOf(index)
        log.line(`node ${index} stands at ${await this.#fleet.standOf(index)}, ${state}`)
      }
      throw new Error('the nodes do not come to where the primary is')
    }
    const { pageSize } = await cluster.primary.facts(DATABASE)
    const image = imageOf(cluster.fileOf(primaryIndex))
    for (const index of this.#fleet.indexes) {
      const different = differingPages(image, imageOf(cluster.fileOf(index)), pageSize)
      if (different !== '') log.finding(`node ${index} differs from the primary: ${different}`)
      const integrity = integrityOf(cluster.fileOf(index))
      if (integrity !== 'ok') log.finding(`node ${index}: ${String(integrity)}`)
    }
  }

  /** Answers the writes that no report can bring back. */
  async #compareBefore(reports: readonly FoundReport[], loss: LossCount): Promise<ReadonlySet<number>> {
    const { log } = this.#fleet
    const present = await this.#present()
    const reported = new Set(reports.flatMap(({ requests }) => requests.map(writeIdOf)))
    for (const { node, report } of reports) log.note(`report of node ${node}: ${describeReport(report)}`)
    const gone = new Set<number>()
    const unreported: Write[] = []
    const silent = txidsWithoutRequest(reports)
    for (const write of this.#book.acknowledged) {
      if (present.has(write.id)) continue
      loss.lost++
      const what = describe(write)
      if (!this.#hasLossyMoves) log.finding(`${what} is lost, and the primary never moved`)
      else if (write.isEverywhere && write.fate === 'applied')
        log.finding(`${what} is lost, and was durable on every node, or a majority`)
      if (reported.has(write.id)) continue
      gone.add(write.id)
      const isPruned = reports.some((report) =>
        [...write.txids].some((txid) => isMissing(report, txid, write.recoveredBy !== undefined)),
      )
      if (isPruned) loss.pruned++
      else if (isWithoutRequest(write, silent)) loss.withoutRequest++
      else unreported.push(write)
    }
    if (unreported.length > 0) {
      const some = unreported.slice(0, 5).map(describe).join('; ')
      log.finding(`${unreported.length} acknowledged writes are lost and in no report: ${some}`)
      log.note(`all of them: ${unreported.map(describe).join('; ')}`)
    }
    return gone
  }

  /** @param sealed writes of reports that the history that was kept had declared not applied */
  async #compareAfter(gone: ReadonlySet<number>, sealed: ReadonlySet<number>): Promise<void> {
    const { log } = this.#fleet
    const present = await this.#present()
    let mayHaveGaps = gone.size > 0
    for (const write of this.#book.writes) {
      const times = present.get(write.id) ?? 0
      mayHaveGaps ||= times === 0 && isSealed(write, sealed)
      const [least, most] = gone.has(write.id) || isSealed(write, sealed) ? [0, 1] : this.#allowedTimes(write)
      if (times < least || times > most) log.finding(`${describe(write)} exists ${times} times in the end`)
    }
    for (const id of present.keys()) if (this.#book.get(id) === undefined) log.finding(`write ${id} was made by nobody`)
    const { primary } = this.#fleet.cluster
    const [counts] = await primary.read(DATABASE, COUNTS)
    if (counts?.[0] !== counts?.[1])
      log.finding(`version ${String(counts?.[0])} with ${String(counts?.[1])} entries in the end`)
    if (mayHaveGaps) return
    for (const [stream, count, last] of await primary.read(DATABASE, STREAMS))
      if (count !== last)
        log.finding(`stream ${String(stream)} has ${String(count)} rows up to ${String(last)} in the end`)
  }

  #allowedTimes(write: Write): readonly [least: number, most: number] {
    switch (write.fate) {
      case 'applied':
      case 'late':
        return [1, 1]
      case 'refused':
        return [0, 0]
      case 'abandoned':
        return [0, this.#book.mayExistThoughAbandoned(write) ? 1 : 0]
      default:
        return [0, 1]
    }
  }

  /** How often each write took effect. */
  async #present(): Promise<ReadonlyMap<number, number>> {
    const times = new Map<number, number>()
    for (const [value] of await this.#fleet.cluster.primary.read(DATABASE, ALL_IDS)) {
      const id = Number(value)
      times.set(id, (times.get(id) ?? 0) + 1)
      if (times.get(id) === 2) this.#fleet.log.finding(`write ${id} took effect twice`)
    }
    return times
  }
}

/** Acknowledged because the ledger knew it (a retry, by the node itself too, or `resolve`), after a transaction that was found without its request. */
function isWithoutRequest({ recoveredBy, txids }: Write, silent: readonly bigint[]): boolean {
  return recoveredBy !== undefined && silent.some((silentTxid) => [...txids].some((txid) => silentTxid <= txid))
}

/**
 * Its client asked two primaries what became of it: one sealed it as not applied and its answer got lost, the other one, whose history was lost
 * later, said that it was applied.
 */
function isSealed({ id, recoveredBy }: Write, sealed: ReadonlySet<number>): boolean {
  return recoveredBy === 'resolve' && sealed.has(id)
}

function spanOf(range: { readonly first: bigint; readonly last: bigint } | undefined): number {
  return range === undefined ? 0 : Number(range.last - range.first) + 1
}

function describeReport({
  id,
  kind,
  shared,
  here,
  hereEpoch,
  primaryEpoch,
  missing,
  requests,
}: DivergenceReport): string {
  const [from, to] = [shared, here].map((position) => (position === undefined ? 'nowhere' : formatPosition(position)))
  return `${id}, ${kind}, shared ${from}, here ${to} in epoch ${hereEpoch}, the primary in ${primaryEpoch}; ${requests} requests, ${missing} missing`
}

function describe({ id, workload, level, identity, fate, recoveredBy, attempts, txids }: Write): string {
  const known = recoveredBy === undefined ? '' : ` by ${recoveredBy}`
  const asked = typeof level === 'string' ? level : `replicas:${level.replicas}`
  return `write ${id} (${workload}, ${asked}, id: ${identity}, ${fate}${known}, ${attempts} attempts, TXID ${[...txids].join(' or ')})`
}
