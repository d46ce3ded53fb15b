/**
 * What is done to a fleet, drawn from the seed: when, what, to whom, and when it ends.
 */
import type { Chance } from './chance.ts'
import type { Client } from './client.ts'
import type { Fleet } from './fleet.ts'
import type { DiskFaultKind } from './machine-disk.ts'
import type { CrashPoint } from './sim-process.ts'

const CRASH_POINTS: readonly CrashPoint[] = [
  'before-commit',
  'after-commit',
  'after-capture',
  'before-announce',
  'before-apply',
]
/** Named operations of the disk and how likely each is to be struck. */
const OPERATIONS: readonly (readonly [weight: number, operation: string])[] = [
  [6, 'log.append'],
  [4, 'log.sync'],
  [2, 'log.new-segment'],
  [2, 'log.reset'],
  [2, 'log.epochs'],
  [1, 'log.truncate'],
  [1, 'log.prune'],
  [1, 'log.open'],
  [2, 'snapshot.receive'],
  [1, 'snapshot.receive-write'],
  [1, 'snapshot.receive-sync'],
  [1, 'identity.write-epoch'],
]
const DISK_FAULTS: readonly DiskFaultKind[] = ['full', 'io-error', 'crash-before', 'crash-midway', 'crash-after']

interface Fault {
  readonly weight: number
  readonly kind: string
  /** Where it makes sense; everywhere when left out. */
  readonly leadership?: 'static' | 'elected'
  /** No operator who takes care does that. */
  readonly isCareless?: boolean
  /** No fault by itself: load, or one that only comes about when something is reached, and is counted then. */
  readonly isUncounted?: boolean
  /** Brings it about; answers what it did, or nothing when there was nothing to do it to. */
  strike(plan: FaultPlan): string | undefined
}

export class FaultPlan {
  readonly fleet: Fleet
  readonly chance: Chance
  readonly clients: readonly Client[]
  readonly #faults: readonly (readonly [weight: number, fault: Fault])[]
  #isOver = false

  constructor(fleet: Fleet, chance: Chance, clients: readonly Client[]) {
    this.fleet = fleet
    this.chance = chance
    this.clients = clients
    const { leadership } = fleet.settings
    this.#faults = FAULTS.filter((fault) => fault.leadership === undefined || fault.leadership === leadership)
      .filter((fault) => fault.isCareless !== true || !fleet.settings.isCareful)
      .map((fault) => [fault.weight, fault] as const)
  }

  start(): void {
    this.#later()
  }

  /** Nothing more is done, and everything that lasts is undone. */
  end(): void {
    this.#isOver = true
    const { network, machines } = this.fleet
    const names = [...machines.map(({ name }) => name), this.fleet.arbiter.name]
    for (const from of names) {
      for (const to of names) {
        Object.assign(network.link(from, to), { delayMs: 1, jitterMs: 1 })
        network.unblock(from, to)
      }
    }
    for (const connection of network.connections) connection.release()
    for (const machine of machines) {
      machine.slowMs = 0
      machine.disk.disarm()
      this.fleet.resume(machine.name)
    }
    this.fleet.commitFaults.clear()
  }

  /** Undoes something after a while, unless the end did. */
  after(minMs: number, maxMs: number, undo: () => void): void {
    this.fleet.time.setTimer(this.chance.between(minMs, maxMs), undefined, () => {
      if (!this.#isOver) undo()
    })
  }

  machine(): string {
    return this.chance.pick(this.fleet.settings.machines)
  }

  /** Two different machines. */
  pair(): readonly [string, string] {
    const one = this.machine()
    return [one, this.chance.pick(this.fleet.settings.machines.filter((name) => name !== one))]
  }

  /** The primary more often than not. */
  interesting(): string {
    const primary = this.fleet.primaries[0]?.name
    return primary !== undefined && this.chance.happens(0.6) ? primary : this.machine()
  }

  #later(): void {
    const { faultEveryMs } = this.fleet.settings
    const delayMs = this.chance.next() * 2 * faultEveryMs
    this.fleet.time.setTimer(delayMs, undefined, () => {
      if (this.#isOver) return
      const fault = this.chance.weighted(this.#faults)
      const what = fault.strike(this)
      if (what !== undefined) {
        if (fault.isUncounted !== true) this.fleet.counts.add(fault.kind)
        this.fleet.events.add(`FAULT ${fault.kind}: ${what}`)
      }
      this.#later()
    })
  }
}

const FAULTS: readonly Fault[] = [
  { weight: 3, kind: 'process killed', strike: (plan) => kill(plan, 'process') },
  { weight: 2, kind: 'power cut', strike: (plan) => kill(plan, 'power') },
  {
    weight: 2,
    kind: 'clean restart',
    strike(plan) {
      const name = plan.interesting()
      if (plan.fleet.node(name) === undefined) return undefined
      plan.fleet.stopCleanly(name)
      return name
    },
  },
  {
    weight: 5,
    kind: 'crash at a step',
    isUncounted: true,
    strike(plan) {
      const name = plan.interesting()
      const point = plan.chance.pick(CRASH_POINTS)
      const process = plan.fleet.node(name)?.process
      process?.crashLater(point, plan.chance.between(0, 5))
      return process === undefined ? undefined : `${name} ${point}`
    },
  },
  {
    weight: 7,
    kind: 'disk fault armed',
    isUncounted: true,
    strike(plan) {
      const name = plan.interesting()
      const { disk } = plan.fleet.machine(name)
      if (disk.armed.length > 1) return undefined
      const operation = plan.chance.weighted(OPERATIONS)
      const kind = plan.chance.pick(DISK_FAULTS)
      const after = plan.chance.between(0, 6)
      disk.arm({ kind, operation, after, count: kind === 'full' ? plan.chance.between(1, 3) : 1 })
      return `${name} ${operation} ${kind} after ${after}`
    },
  },
  {
    weight: 2,
    kind: 'COMMIT fault armed',
    isUncounted: true,
    strike(plan) {
      const name = plan.fleet.primaries[0]?.name
      if (name === undefined) return undefined
      plan.fleet.commitFaults.set(name, plan.chance.pick(['fail', 'full']))
      return name
    },
  },
  {
    weight: 4,
    kind: 'link cut',
    strike(plan) {
      const [one, other] = plan.pair()
      const { network } = plan.fleet
      network.block(one, other)
      network.block(other, one)
      plan.after(50, 4_000, () => {
        network.unblock(one, other)
        network.unblock(other, one)
      })
      return `${one} and ${other}`
    },
  },
  {
    weight: 4,
    kind: 'link cut one way',
    strike(plan) {
      const [one, other] = plan.pair()
      plan.fleet.network.block(one, other)
      plan.after(50, 4_000, () => plan.fleet.network.unblock(one, other))
      return `${one} to ${other}`
    },
  },
  {
    weight: 2,
    kind: 'machine isolated',
    strike(plan) {
      const name = plan.interesting()
      const others = plan.fleet.settings.machines.filter((other) => other !== name)
      const { network } = plan.fleet
      for (const other of others) {
        network.block(name, other)
        network.block(other, name)
      }
      plan.after(200, 6_000, () => {
        for (const other of others) {
          network.unblock(name, other)
          network.unblock(other, name)
        }
      })
      return name
    },
  },
  {
    weight: 3,
    kind: 'link slow',
    strike(plan) {
      const [one, other] = plan.pair()
      const link = plan.fleet.network.link(one, other)
      Object.assign(link, { delayMs: plan.chance.between(20, 600), jitterMs: plan.chance.between(0, 300) })
      plan.after(200, 5_000, () => Object.assign(link, { delayMs: 1, jitterMs: 1 }))
      return `${one} to ${other}, ${link.delayMs} ms`
    },
  },
  {
    weight: 4,
    kind: 'connection half open',
    strike(plan) {
      const { connections } = plan.fleet.network
      if (connections.length === 0) return undefined
      const connection = plan.chance.pick(connections)
      connection.stall()
      plan.after(100, 6_000, () => connection.release())
      return `${connection.door} of ${connection.from} to ${connection.to}`
    },
  },
  {
    weight: 4,
    kind: 'connection reset',
    strike(plan) {
      const { connections } = plan.fleet.network
      if (connections.length === 0) return undefined
      const connection = plan.chance.pick(connections)
      connection.breakOff()
      return `${connection.door} of ${connection.from} to ${connection.to}`
    },
  },
  {
    weight: 2,
    kind: 'slow receiver',
    strike(plan) {
      const name = plan.machine()
      const machine = plan.fleet.machine(name)
      machine.slowMs = plan.chance.between(5, 200)
      plan.after(200, 4_000, () => (machine.slowMs = 0))
      return `${name}, ${machine.slowMs} ms`
    },
  },
  {
    weight: 3,
    kind: 'process paused',
    strike(plan) {
      const name = plan.interesting()
      if (plan.fleet.node(name) === undefined) return undefined
      plan.fleet.pause(name)
      plan.after(30, 5_000, () => plan.fleet.resume(name))
      return name
    },
  },
  {
    weight: 3,
    kind: 'wall clock jumps',
    strike(plan) {
      const name = plan.machine()
      const { clock } = plan.fleet.machine(name)
      const byMs = plan.chance.pick([-400_000, -61_000, -2_000, -50, 50, 2_000, 61_000, 400_000])
      clock.skewMs = Math.max(-500_000, Math.min(500_000, clock.skewMs + byMs))
      return `${name} by ${byMs} ms`
    },
  },
  {
    weight: 1,
    kind: 'time passes for the ledger',
    isUncounted: true,
    strike(plan) {
      for (const { clock } of plan.fleet.machines) clock.skewMs += 61_000
      return 'a minute'
    },
  },
  {
    weight: 2,
    kind: 'burst of writes',
    isUncounted: true,
    strike(plan) {
      const count = plan.chance.between(10, 60)
      plan.chance.pick(plan.clients).burst(count)
      return `${count}`
    },
  },
  {
    weight: 2,
    kind: 'foreign commit',
    strike(plan) {
      const primary = plan.fleet.primaries[0]?.database.primary
      if (primary === undefined) return undefined
      primary.foreignCommit('INSERT INTO foreign_note DEFAULT VALUES', plan.chance.happens(0.5))
      return plan.fleet.primaries[0]?.name
    },
  },
  { weight: 3, kind: 'primary moved', leadership: 'static', strike: (plan) => move(plan, 'all') },
  {
    weight: 2,
    kind: 'primary moved, the old one not told',
    leadership: 'static',
    isCareless: true,
    strike: (plan) => move(plan, 'some'),
  },
  {
    weight: 2,
    kind: 'stale primary told',
    leadership: 'static',
    strike(plan) {
      const { fleet } = plan
      const stale = fleet.settings.machines.filter(
        (name) => name !== fleet.configured && fleet.roles.get(name) === 'primary',
      )
      const name = stale[0]
      if (name === undefined) return undefined
      fleet.movePrimary(fleet.configured, [name])
      fleet.kill(name, 'process', 'the operator starts it anew')
      return name
    },
  },
  {
    weight: 3,
    kind: 'lease taken away',
    leadership: 'elected',
    strike(plan) {
      const { holder } = plan.fleet.arbiter
      plan.fleet.arbiter.expire()
      return holder
    },
  },
  {
    weight: 4,
    kind: 'lease lost at a step',
    isUncounted: true,
    leadership: 'elected',
    strike(plan) {
      const primary = plan.fleet.primaries[0]
      const point = plan.chance.pick(CRASH_POINTS.slice(0, 3))
      primary?.process.loseLeaseLater(point, plan.chance.between(0, 3))
      return primary === undefined ? undefined : `${primary.name} ${point}`
    },
  },
  {
    weight: 3,
    kind: 'lease service unreachable',
    leadership: 'elected',
    strike(plan) {
      const name = plan.interesting()
      const { network, arbiter } = plan.fleet
      const isOneWay = plan.chance.happens(0.4)
      network.block(name, arbiter.name)
      if (!isOneWay) network.block(arbiter.name, name)
      plan.after(200, 6_000, () => {
        network.unblock(name, arbiter.name)
        network.unblock(arbiter.name, name)
      })
      return `for ${name}${isOneWay ? ', one way' : ''}`
    },
  },
]

function kill(plan: FaultPlan, how: 'process' | 'power'): string | undefined {
  const name = plan.interesting()
  if (plan.fleet.node(name) === undefined) return undefined
  plan.fleet.kill(name, how, how === 'power' ? 'the power is cut' : 'it is killed')
  return name
}

/** `some`: the old primary and those it can still serve go on as they are. */
function move(plan: FaultPlan, told: 'all' | 'some'): string | undefined {
  const { fleet, chance } = plan
  const before = fleet.configured
  const others = fleet.nodes.map(({ name }) => name).filter((name) => name !== before)
  const choice = fleet.settings.isCareful ? others.filter((name) => fleet.isMostAdvanced(name)) : others
  if (choice.length === 0) return undefined
  const to = chance.pick(choice)
  const { machines } = fleet.settings
  const names =
    told === 'all' ? machines : machines.filter((name) => name === to || (name !== before && chance.happens(0.5)))
  fleet.movePrimary(to, names)
  for (const name of names) fleet.kill(name, 'process', 'the operator starts it anew')
  return `from ${before} to ${to}, told ${names.join(' ')}`
}
