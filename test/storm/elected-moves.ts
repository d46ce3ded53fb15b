/**
 * The moves of a storm whose nodes elect their primary (fault-event.ts): it is handed off, killed, frozen or cut off, and somebody else takes over by
 * itself, or nobody does because its lease does not run out (host).
 *
 * Which node follows is the nodes' own choice, except in a handoff.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { NodeError } from '../support/process-node.ts'
import { within } from './bounded.ts'
import type { Move } from './fault-event.ts'
import type { Fleet } from './fleet.ts'
import type { StormLease } from './storm-lease.ts'

const HANDOFF_MS = 8_000
const GRACE_MS = 60_000

export class ElectedMoves {
  readonly #fleet: Fleet
  readonly #lease: StormLease

  constructor(fleet: Fleet, lease: StormLease) {
    this.#fleet = fleet
    this.#lease = lease
  }

  /** Answers why it could not be done; `undefined` when it was. */
  move(move: Move): Promise<string | undefined> {
    if (move.how === 'planned') return this.#handOff(move.to)
    const { primaryIndex } = this.#fleet
    return this.#fleet.exclusively([primaryIndex], () => this.#endOffice(primaryIndex, move))
  }

  #endOffice(index: number, move: Move): Promise<string | undefined> {
    if (move.how !== 'stale') return this.#restart(index, move.downMs)
    switch (move.why) {
      case 'restarted':
        return this.#restart(index, 0)
      case 'frozen':
        return this.#freeze(index, move.besideMs)
      default:
        return this.#cutOff(index, move.besideMs)
    }
  }

  async #handOff(to: number): Promise<string | undefined> {
    const { primaryIndex } = this.#fleet
    if (to === primaryIndex) return 'it is the primary already'
    const node = this.#fleet.serving(primaryIndex)
    if (node === undefined) return 'the primary is down'
    const asked = node.handOff(`node-${to}`, { timeoutMs: HANDOFF_MS })
    try {
      await within(HANDOFF_MS + GRACE_MS, `the handoff from node ${primaryIndex} to node ${to}`, asked)
      return undefined
    } catch (error) {
      // Other faults happen to both: it may fail, but it must answer.
      if (error instanceof NodeError) return error.message.split('\n')[0]
      throw error
    }
  }

  async #restart(index: number, downMs: number): Promise<undefined> {
    await this.#fleet.kill(index)
    await sleep(downMs)
    await this.#fleet.start(index)
  }

  /** Its lease runs out while it stands still; it goes on in the middle of what it did. */
  async #freeze(index: number, besideMs: number): Promise<string | undefined> {
    const node = this.#fleet.serving(index)
    if (node === undefined) return 'the primary is down'
    node.pause()
    await sleep(this.#lease.expiryMs + besideMs)
    node.resume()
    return undefined
  }

  /** It cannot renew its lease, and goes on as long as it surely has it; without a backend it is cut off from all the others. */
  async #cutOff(index: number, besideMs: number): Promise<undefined> {
    const wire = await this.#lease.wire(index)
    const cut = wire === undefined ? this.#fleet.cluster.linksOf(index) : [wire]
    for (const one of cut) one.drop()
    await sleep(this.#lease.expiryMs + besideMs)
    for (const one of cut) one.heal()
  }
}
