/**
 * Carries out a schedule. Faults overlap; two that end or start the same process wait for each other.
 *
 * Bound: `TOGETHER_MAX` faults at once; a further one waits, and all after it.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Link } from '../support/link.ts'
import { within } from './bounded.ts'
import { describeFault, exchanged, type Fault, type FaultEvent, kindOf, type LinkTrouble } from './fault-event.ts'
import type { Move } from './fault-event.ts'
import { type Fleet, messageOf } from './fleet.ts'

const TOGETHER_MAX = 8
const CRASH_WAIT_MS = 6_000
const ASK_MS = 30_000

export interface FaultCount {
  readonly kind: string
  /** As drawn. */
  readonly drawn: number
  /** That took place: the node was there, the operation was reached. */
  readonly happened: number
}

/** Who moves the primary. */
export interface Moves {
  /** Answers why it could not be done; `undefined` when it was. */
  move(move: Move): Promise<string | undefined>
}

export class FaultRunner {
  readonly #fleet: Fleet
  readonly #moves: Moves
  readonly #counts = new Map<string, { drawn: number; happened: number }>()
  readonly #running = new Set<Promise<void>>()

  constructor(fleet: Fleet, moves: Moves) {
    this.#fleet = fleet
    this.#moves = moves
  }

  get counts(): readonly FaultCount[] {
    return [...this.#counts]
      .map(([kind, count]) => ({ kind, ...count }))
      .toSorted((a, b) => a.kind.localeCompare(b.kind))
  }

  /** Until the duration is over and all faults have ended. */
  async run(events: readonly FaultEvent[], durationMs: number, interrupted: AbortSignal): Promise<void> {
    const startMs = performance.now()
    const waitUntil = async (atMs: number): Promise<void> => {
      const leftMs = startMs + atMs - performance.now()
      if (leftMs > 0) await sleep(leftMs, undefined, { signal: interrupted })
    }
    try {
      for (const event of events) {
        await waitUntil(event.atMs)
        if (performance.now() - startMs > durationMs) break
        while (this.#running.size >= TOGETHER_MAX) await Promise.race(this.#running)
        const { primaryIndex, lease } = this.#fleet
        const fault = lease === undefined ? event : exchanged(event, event.primary, primaryIndex)
        const done = this.#carryOut(fault).finally(() => this.#running.delete(done))
        this.#running.add(done)
      }
      await waitUntil(durationMs)
    } finally {
      await Promise.all(this.#running)
    }
  }

  async #carryOut(fault: Fault): Promise<void> {
    const kind = kindOf(fault)
    const count = this.#counts.get(kind) ?? { drawn: 0, happened: 0 }
    this.#counts.set(kind, count)
    count.drawn++
    this.#fleet.log.line(describeFault(fault))
    try {
      const why = await this.#do(fault)
      if (why === undefined) count.happened++
      else this.#fleet.log.line(`  did not happen (${kind}): ${why}`)
    } catch (error) {
      this.#fleet.log.finding(`${kind}: ${messageOf(error)}`)
    }
  }

  /** Answers why it did not happen. */
  #do(fault: Fault): Promise<string | undefined> | string | undefined {
    const fleet = this.#fleet
    switch (fault.kind) {
      case 'kill':
        return fleet.exclusively([fault.node], async () => {
          await fleet.kill(fault.node)
          await sleep(fault.downMs)
          await fleet.start(fault.node)
          return undefined
        })
      case 'pause':
        return fleet.exclusively([fault.node], async () => {
          const node = fleet.serving(fault.node)
          if (node === undefined) return 'the node is down'
          node.pause()
          await sleep(fault.forMs)
          node.resume()
          return undefined
        })
      case 'crash':
        return fleet.exclusively([fault.node], () => this.#crash(fault))
      case 'crash-in-start':
        return fleet.exclusively([fault.node], async () => {
          await fleet.kill(fault.node)
          await sleep(fault.downMs)
          const { operation, when, occurrence } = fault.at
          const rule = { operation, effect: { kind: 'crash', when }, occurrence } as const
          if (await fleet.startDespite(fault.node, [rule])) return 'the operation was not reached'
          await fleet.start(fault.node)
          return undefined
        })
      case 'disk':
        return this.#failDisk(fault)
      case 'link':
        return this.#trouble(fault)
      case 'skew':
        return fleet.exclusively([fault.node], async () => {
          await within(ASK_MS, 'skew', fleet.skew(fault.node, fault.skewMs)).catch(() => undefined)
          return undefined
        })
      case 'restart':
      case 'absence':
        return fleet.exclusively([fault.node], async () => {
          await fleet.stop(fault.node)
          await sleep(fault.downMs)
          await fleet.start(fault.node)
          return undefined
        })
      default:
        return this.#moves.move(fault)
    }
  }

  async #crash({ node: index, at, downMs }: Extract<Fault, { kind: 'crash' }>): Promise<string | undefined> {
    const node = this.#fleet.serving(index)
    if (node === undefined) return 'the node is down'
    const { operation, when, occurrence } = at
    const asked = node.crashAt(operation, { when, occurrence })
    const died = node.gone().then(() => true)
    const isDead = await Promise.race([died, sleep(CRASH_WAIT_MS, false, { ref: false })])
    await asked.catch(() => undefined)
    if (!isDead) {
      await within(ASK_MS, 'clear', node.clearFaults()).catch(() => undefined)
      if (node.isAlive) return 'the operation was not reached'
    }
    await this.#fleet.kill(index)
    await sleep(downMs)
    await this.#fleet.start(index)
    return undefined
  }

  async #failDisk({ node: index, failure, forMs }: Extract<Fault, { kind: 'disk' }>): Promise<string | undefined> {
    const node = this.#fleet.serving(index)
    if (node === undefined) return 'the node is down'
    const { operation, errno, methods, isShort, times } = failure
    try {
      const scope = { times, isShort, forMs, ...(methods === undefined ? {} : { methods }) }
      await within(ASK_MS, `a fault on node ${index}`, node.failOperation(operation, errno, scope))
    } catch (error) {
      return messageOf(error)
    }
    await sleep(forMs)
    return undefined
  }

  async #trouble({ pairs, trouble, forMs }: Extract<Fault, { kind: 'link' }>): Promise<undefined> {
    const links = pairs.map(([from, to]) => this.#fleet.cluster.link(from, to))
    for (const link of links) apply(link, trouble)
    if (trouble.how === 'cut') return
    await sleep(forMs)
    for (const link of links) link.heal()
  }
}

function apply(link: Link, { how, wire, amount }: LinkTrouble): void {
  for (const one of wire === 'both' ? [link.grpc, link.http] : [link[wire]]) {
    switch (how) {
      case 'cut':
        one.cut()
        break
      case 'drop':
        one.drop()
        break
      case 'hang':
        one.hang('both')
        break
      case 'hang-out':
        one.hang('out')
        break
      case 'hang-in':
        one.hang('in')
        break
      case 'delay':
        one.delay(amount)
        break
      default:
        one.throttle(amount)
    }
  }
}
