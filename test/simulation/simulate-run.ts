/**
 * One run: a fleet, its clients, faults for a while, then peace; at the end everything must be as the clients were told.
 *
 * Same seed, same run: the same events in the same order, and the same hash over them.
 */
import type { PeerProtocol } from '../../packages/core/src/peer/protocol.ts'
import { formatPosition, samePosition } from '../../packages/core/src/position/position.ts'
import { State } from './application.ts'
import { Chance } from './chance.ts'
import { Client } from './client.ts'
import { EventLog } from './event-log.ts'
import type { FaultCounts } from './fault-counts.ts'
import { FaultPlan } from './fault-plan.ts'
import { judge } from './final-oracle.ts'
import { Fleet } from './fleet.ts'
import { OperationBook } from './operation-book.ts'
import type { Sabotage } from './sabotage.ts'
import { drawSettings, type Settings } from './settings.ts'
import { Turns } from './turns.ts'
import { Uncaught } from './uncaught.ts'
import { Violation } from './violation.ts'
import { WorldTime } from './world-time.ts'

export interface RunOptions {
  readonly seed: number
  readonly protocol: PeerProtocol
  /** Prints each event. */
  readonly print?: ((line: string) => void) | undefined
  /** A guard that is left out on purpose. */
  readonly sabotage?: Sabotage | undefined
  /** Ends the faults after so many steps of time. */
  readonly stepsMax?: number | undefined
}

export interface RunResult {
  readonly seed: number
  readonly settings: Settings
  readonly digest: string
  readonly events: number
  readonly steps: number
  readonly virtualMs: number
  readonly faults: FaultCounts
  readonly operations: Readonly<Record<'applied' | 'refused' | 'unknown', number>>
  /** Acknowledged writes that only a divergence report has at the end, as the operator or an election decided. */
  readonly reported: number
  readonly violations: readonly Violation[]
  /** The last events, when something was violated. */
  readonly context: readonly string[]
}

const READ_EVERY_MS = 400
/** Virtual time in which a fleet at peace must agree. */
const PEACE_MS_MAX = 60_000
const STEPS_MAX = 2_000_000

export async function simulate(options: RunOptions): Promise<RunResult> {
  const turns = new Turns()
  turns.install()
  const uncaught = new Uncaught()
  uncaught.install()
  try {
    return await new Run(options, turns, uncaught).run()
  } finally {
    uncaught.uninstall()
    turns.uninstall()
  }
}

class Run {
  readonly #options: RunOptions
  readonly #turns: Turns
  readonly #uncaught: Uncaught
  readonly #chance: Chance
  readonly #settings: Settings
  readonly #time = new WorldTime()
  readonly #events: EventLog
  readonly #book = new OperationBook()
  readonly #fleet: Fleet
  readonly #clients: readonly Client[]
  readonly #plan: FaultPlan
  #steps = 0

  constructor(options: RunOptions, turns: Turns, uncaught: Uncaught) {
    this.#options = options
    this.#turns = turns
    this.#uncaught = uncaught
    this.#chance = new Chance(options.seed)
    const drawn = drawSettings(this.#chance.for('settings'))
    this.#settings = { ...drawn, node: { ...drawn.node, sabotage: options.sabotage } }
    this.#events = new EventLog(this.#time, options.print)
    this.#fleet = new Fleet({
      settings: this.#settings,
      time: this.#time,
      chance: this.#chance.for('fleet'),
      events: this.#events,
      book: this.#book,
      protocol: options.protocol,
    })
    this.#clients = Array.from(
      { length: this.#settings.clients },
      (_, i) => new Client(`c${i + 1}`, this.#fleet, this.#book, this.#chance.for(`client ${i}`)),
    )
    this.#plan = new FaultPlan(this.#fleet, this.#chance.for('faults'), this.#clients)
  }

  async run(): Promise<RunResult> {
    const { settings } = { settings: this.#settings }
    this.#events.add(
      `seed ${this.#options.seed}: ${settings.machines.length} machines, ${settings.leadership}${settings.isCareful ? ', careful' : ''}, ${settings.clients} clients`,
    )
    try {
      for (const { name, clock } of this.#fleet.machines) {
        clock.rate = 1 + (this.#chance.next() - 0.5) / 100
        clock.skewMs = this.#chance.between(-500, 500)
        this.#fleet.start(name)
      }
      await this.#until(() => this.#isAgreed(), PEACE_MS_MAX, 'the fleet starts')
      for (const client of this.#clients) client.start()
      this.#plan.start()
      this.#readLater()
      const endMs = this.#time.nowMs + settings.lengthMs
      await this.#until(
        () => this.#time.nowMs >= endMs || this.#steps >= (this.#options.stepsMax ?? STEPS_MAX),
        Infinity,
        '',
      )
      if (this.#fleet.violations.length === 0) await this.#peace()
      if (this.#fleet.violations.length === 0) judge(this.#fleet, this.#book)
    } catch (error) {
      this.#fleet.violate(error)
    }
    return this.#result()
  }

  async #peace(): Promise<void> {
    this.#events.add('peace')
    for (const client of this.#clients) client.stop()
    this.#plan.end()
    if (this.#settings.leadership === 'static') this.#oneOpinion()
    this.#fleet.hurry()
    await this.#until(
      () => this.#clients.every(({ isIdle }) => isIdle) && this.#isAgreed(),
      PEACE_MS_MAX,
      'the fleet agrees',
    )
  }

  /** The operator tells everybody at last; who was told something else starts anew. */
  #oneOpinion(): void {
    const before = new Map(this.#fleet.roles)
    this.#fleet.movePrimary(this.#fleet.configured, this.#settings.machines)
    for (const name of this.#settings.machines) {
      if (JSON.stringify(before.get(name)) === JSON.stringify(this.#fleet.roles.get(name))) continue
      this.#fleet.kill(name, 'process', 'the operator starts it anew')
    }
  }

  /** Every machine runs, one is primary, all show what it shows. */
  #isAgreed(): boolean {
    const { nodes, primaries } = this.#fleet
    const [primary] = primaries
    if (nodes.length < this.#settings.machines.length || primaries.length !== 1 || primary === undefined) return false
    const { position } = primary.database.tracker.current
    if (primary.database.primary?.isStopped !== false) return false
    return nodes.every(
      ({ database }) => database.isReadable && samePosition(database.tracker.current.position, position),
    )
  }

  async #until(isDone: () => boolean, withinMs: number, what: string): Promise<void> {
    const endMs = this.#time.nowMs + withinMs
    await this.#turns.settle()
    while (!isDone()) {
      const nextMs = this.#time.nextMs
      if (nextMs === undefined || nextMs > endMs || this.#steps > STEPS_MAX) {
        throw new Violation('liveness', `${what}: not within ${withinMs} ms; ${this.#standing()}`)
      }
      this.#uncaught.guard(() => this.#time.step())
      this.#steps++
      await this.#turns.settle()
      for (const error of this.#uncaught.take()) this.#fleet.violate(error)
      if (this.#fleet.violations.length > 0) return
    }
  }

  #readLater(): void {
    this.#time.setTimer(READ_EVERY_MS, undefined, () => {
      const readable = this.#fleet.nodes.filter(({ database }) => database.isReadable)
      if (readable.length > 0) {
        const node = this.#chance.for(`read ${this.#time.nowMs}`).pick(readable)
        this.#fleet.checkState(`a reader on ${node.name}`, new State(node.process.machine.file.current, false))
      }
      this.#readLater()
    })
  }

  #standing(): string {
    const standing = this.#settings.machines.map((name) => {
      const node = this.#fleet.node(name)
      if (node === undefined) return `${name} down`
      const { epoch, position } = node.database.tracker.current
      return `${name} ${node.leadership.role.kind} ${epoch}:${formatPosition(position)}`
    })
    const waiting = this.#clients.filter(({ isIdle }) => !isIdle).length
    return `${standing.join(', ')}; ${waiting} clients wait`
  }

  #result(): RunResult {
    const { violations, counts } = this.#fleet
    const book = this.#book
    return {
      seed: this.#options.seed,
      settings: this.#settings,
      digest: this.#events.digest,
      events: this.#events.count,
      steps: this.#steps,
      virtualMs: this.#time.nowMs,
      faults: counts,
      operations: { applied: book.count('applied'), refused: book.count('refused'), unknown: book.count('unknown') },
      reported: book.all().filter(({ isReported }) => isReported).length,
      violations,
      context: violations.length === 0 ? [] : this.#events.tail(60),
    }
  }
}
