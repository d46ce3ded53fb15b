/**
 * Looks at every node again and again while the storm goes on.
 *
 * - Positions (I9): within one epoch there is one checksum for each TXID, whoever says it, a node of itself or the primary of a replica.
 * - Order: what a process of a node shows of a stream has no gap and no double, and never gets shorter, unless the node gave up its history.
 * - Health: a database that stopped and does not come back by itself, or a node that a fault left behind, is started again.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Position } from '@litefleet/core'
import type { ProcessNode } from '../support/process-node.ts'
import type { AppendWorkload } from './append-workload.ts'
import { within } from './bounded.ts'
import { type Fleet, messageOf } from './fleet.ts'
import { COUNTS, DATABASE, STREAMS } from './storm-schema.ts'

const EVERY_MS = 200
const ASK_MS = 60_000
/** A database that stopped has this long to come back by itself. */
const STOPPED_MS = 20_000

interface SeenBy {
  readonly process: ProcessNode
  readonly diverged: number
  readonly newest: Map<number, number>
}

export class Watch {
  readonly #fleet: Fleet
  readonly #appends: AppendWorkload
  readonly #checksums = new Map<string, { readonly checksum: string; readonly who: string }>()
  #looks = 0
  #isStopping = false
  #watchers: readonly Promise<void>[] = []

  constructor(fleet: Fleet, appends: AppendWorkload) {
    this.#fleet = fleet
    this.#appends = appends
  }

  /** Reads of one node. */
  get looks(): number {
    return this.#looks
  }

  /** Different positions seen. */
  get positions(): number {
    return this.#checksums.size
  }

  start(): void {
    this.#watchers = [...this.#fleet.indexes.map((index) => this.#watch(index)), this.#noteWarnings()]
  }

  async stop(): Promise<void> {
    this.#isStopping = true
    await Promise.all(this.#watchers)
  }

  /** Into the file of the run, about when they came. */
  async #noteWarnings(): Promise<void> {
    const { warnings } = this.#fleet.cluster
    for (let noted = 0; !this.#isStopping; ) {
      for (const { node, name, message } of warnings.slice(noted))
        if (name !== 'stream') this.#fleet.log.note(`warning of node ${node}: ${name}: ${message}`)
      noted = warnings.length
      await sleep(EVERY_MS)
    }
  }

  async #watch(index: number): Promise<void> {
    let seen: SeenBy | undefined
    let stoppedAtMs: number | undefined
    while (!this.#isStopping) {
      await sleep(EVERY_MS)
      const process = this.#fleet.serving(index)
      if (process !== undefined && seen?.process !== process) {
        seen = { process, diverged: this.#fleet.divergedOf(index), newest: new Map() }
      }
      const state = process === undefined || seen === undefined ? 'gone' : await this.#look(index, seen)
      if (state !== 'stopped' && state !== 'gone') stoppedAtMs = undefined
      else stoppedAtMs ??= performance.now()
      if (stoppedAtMs === undefined || performance.now() - stoppedAtMs < STOPPED_MS) continue
      try {
        await this.#fleet.mend(index, performance.now() - stoppedAtMs)
      } catch (error) {
        this.#fleet.log.finding(messageOf(error))
      }
      stoppedAtMs = undefined
    }
  }

  /** Answers the state of the database. */
  async #look(index: number, seen: SeenBy): Promise<string> {
    const { process } = seen
    try {
      const facts = await within(ASK_MS, `the status of node ${index}`, process.facts(DATABASE))
      this.#note(facts.epoch, facts.position, `node ${index}`)
      for (const { epoch, applied, durable, nodeName } of facts.replicas) {
        for (const position of [applied, durable]) this.#note(epoch, position, `${nodeName} to node ${index}`)
      }
      if (facts.state === 'ready') await this.#readStreams(index, seen)
      this.#looks++
      return facts.state
    } catch (error) {
      if (process.isAlive && this.#fleet.serving(index) === process)
        this.#fleet.log.note(`node ${index}: ${messageOf(error)}`)
      return process.isAlive ? 'unclear' : 'gone'
    }
  }

  #note(epoch: number, position: Position | undefined, who: string): void {
    if (epoch === 0 || position === undefined || position.txid === 0n) return
    const key = `${epoch}/${position.txid}`
    const known = this.#checksums.get(key)
    const checksum = String(position.checksum)
    if (known === undefined) this.#checksums.set(key, { checksum, who })
    else if (known.checksum !== checksum) {
      this.#fleet.log.finding(
        `epoch ${epoch}, TXID ${position.txid}: ${known.who} had checksum ${known.checksum}, ${who} has ${checksum}`,
      )
    }
  }

  async #readStreams(index: number, seen: SeenBy): Promise<void> {
    const { process, newest, diverged } = seen
    const rows = await within(ASK_MS, `a read on node ${index}`, process.read(DATABASE, STREAMS))
    const [counts] = await within(ASK_MS, `a read on node ${index}`, process.read(DATABASE, COUNTS))
    const gaveUp = this.#fleet.divergedOf(index) !== diverged
    for (const [stream, count, last] of rows.map((row) => row.map(Number) as [number, number, number])) {
      const before = newest.get(stream) ?? 0
      newest.set(stream, last)
      if (count > last) this.#fleet.log.finding(`node ${index}: stream ${stream} has ${count} rows up to ${last}`)
      if (count < last && !this.#appends.isTorn(stream))
        this.#fleet.log.finding(`node ${index}: stream ${stream} has a gap: ${count} rows up to ${last}`)
      if (last < before && !gaveUp)
        this.#fleet.log.finding(`node ${index}: stream ${stream} went back from ${before} to ${last}`)
    }
    if (counts?.[0] !== counts?.[1])
      this.#fleet.log.finding(`node ${index}: version ${String(counts?.[0])} with ${String(counts?.[1])} entries`)
  }
}
