/**
 * Moves the static primary by restarts, in good order and otherwise (fault-event.ts says how, lost-histories.ts what may be lost).
 *
 * Right after a node has become primary it must have every write that was acknowledged as durable on all nodes before.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { until } from './bounded.ts'
import type { Move } from './fault-event.ts'
import type { Fleet } from './fleet.ts'
import type { Gate } from './gate.ts'
import type { LostHistories } from './lost-histories.ts'
import { ALL_IDS, DATABASE } from './storm-schema.ts'
import type { WriteBook } from './write-book.ts'

const LEVEL_MS = 30_000

export class PrimaryMoves {
  readonly #fleet: Fleet
  readonly #histories: LostHistories
  readonly #book: WriteBook
  readonly #gate: Gate

  constructor(fleet: Fleet, histories: LostHistories, book: WriteBook, gate: Gate) {
    this.#fleet = fleet
    this.#histories = histories
    this.#book = book
    this.#gate = gate
  }

  /** Answers why it could not be done; `undefined` when it was. */
  move(move: Move): Promise<string | undefined> {
    return this.#fleet.exclusively(this.#fleet.indexes, async () => {
      const { primaryIndex } = this.#fleet
      if (move.to === primaryIndex) return 'it is the primary already'
      // Somebody whose copy is just being replaced is nobody's choice.
      if ((await this.#fleet.stateOf(move.to)) !== 'ready') return `node ${move.to} has no whole copy just now`
      if (move.how === 'planned') return this.#inGoodOrder(move.to)
      this.#histories.begin()
      try {
        if (move.how === 'stale') await this.#besideTheOld(move)
        else await this.#brutally(move.to, move.downMs)
      } finally {
        this.#histories.end()
      }
      return undefined
    })
  }

  async #inGoodOrder(to: number): Promise<string | undefined> {
    const fleet = this.#fleet
    const old = fleet.primaryIndex
    const others = fleet.replicas.filter((index) => index !== to)
    await this.#gate.close()
    try {
      // Nobody can forward anything any more that was given up by its caller.
      for (const index of others) await fleet.stop(index)
      const isLevel = await until(LEVEL_MS, async () => {
        const stand = await fleet.standOf(old)
        return stand !== '' && stand === (await fleet.standOf(to))
      })
      if (!isLevel) {
        for (const index of others) await fleet.start(index)
        return `node ${to} does not come to where the primary is`
      }
      const stand = await fleet.standOf(old)
      for (const index of [old, to]) await fleet.stop(index)
      fleet.cluster.appointPrimary(to)
      await fleet.start(to)
      if ((await fleet.standOf(to)) !== stand)
        fleet.log.finding(`node ${to} became primary at ${await fleet.standOf(to)}, not at ${stand}`)
      for (const index of [old, ...others]) await fleet.start(index)
      return undefined
    } finally {
      this.#gate.open()
    }
  }

  async #brutally(to: number, downMs: number): Promise<void> {
    const old = this.#fleet.primaryIndex
    await this.#fleet.kill(old)
    await this.#appoint(to, old)
    await sleep(downMs)
    await this.#fleet.start(old)
  }

  async #besideTheOld({ to, why, downMs, besideMs, hasFollower }: Extract<Move, { how: 'stale' }>): Promise<void> {
    const fleet = this.#fleet
    const old = fleet.primaryIndex
    const oldProcess = fleet.cluster.node(old)
    if (why === 'restarted') await fleet.kill(old)
    if (why === 'frozen') oldProcess.pause()
    await this.#appoint(to, old)
    if (why === 'restarted') {
      await sleep(downMs)
      await fleet.start(old, 'a primary')
    }
    if (why === 'frozen') oldProcess.resume()
    const follower = hasFollower ? fleet.indexes.find((index) => index !== to && index !== old) : undefined
    if (follower !== undefined) {
      this.#histories.boundary()
      await fleet.stop(follower)
      await fleet.start(follower, { follower: old })
    }
    await sleep(besideMs)
    // Put right.
    this.#histories.boundary()
    for (const index of [old, follower]) if (index !== undefined) await fleet.stop(index)
    this.#histories.boundary()
    for (const index of [old, follower]) if (index !== undefined) await fleet.start(index)
  }

  /** All but the old primary are started again and follow the new one. */
  async #appoint(to: number, old: number): Promise<void> {
    const fleet = this.#fleet
    const others = fleet.indexes.filter((index) => index !== to && index !== old)
    // What is acknowledged everywhere from here on cannot be: the node that takes over is down.
    for (const index of [to, ...others]) await fleet.stop(index)
    const everywhere = this.#book.everywhere.map(({ id }) => id)
    fleet.cluster.appointPrimary(to)
    const process = await fleet.start(to)
    const ids = new Set((await process.read(DATABASE, ALL_IDS)).map(([id]) => Number(id)))
    for (const id of everywhere) {
      if (!ids.has(id))
        fleet.log.finding(`write ${id}, durable on every node, is not on node ${to} that became primary`)
    }
    this.#histories.boundary()
    for (const index of others) await fleet.start(index)
  }
}
