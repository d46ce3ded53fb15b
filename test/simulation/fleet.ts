/**
 * The machines of a run, the processes on them, and everybody who watches them.
 *
 * A process that died is started again after a while, as a supervisor would; so is one whose database stopped.
 */
import type { WriteAnswer, WriteCall } from '../../packages/core/src/forward/write-call.ts'
import type { NodeRole } from '../../packages/core/src/leadership/node-role.ts'
import type { PeerProtocol } from '../../packages/core/src/peer/protocol.ts'
import type { DivergenceReport } from '../../packages/core/src/divergence/divergence-report.ts'
import { formatPosition, samePosition } from '../../packages/core/src/position/position.ts'
import { formatAwaitLevel } from '../../packages/core/src/request/await-level.ts'
import { ACCOUNTS, CENTS_EACH, State, transfer } from './application.ts'
import { Arbiter } from './arbiter.ts'
import type { Chance } from './chance.ts'
import type { EventLog } from './event-log.ts'
import { FaultCounts } from './fault-counts.ts'
import { HistoryOracle } from './history-oracle.ts'
import { Network } from './network.ts'
import type { OperationBook } from './operation-book.ts'
import type { Settings } from './settings.ts'
import { SimNode } from './sim-node.ts'
import { Machine, SimProcess } from './sim-process.ts'
import { SimulatedCrash } from './simulated-crash.ts'
import type { SqliteImage } from './sqlite-image.ts'
import { Violation } from './violation.ts'
import type { WorldTime } from './world-time.ts'

export interface FleetParts {
  readonly settings: Settings
  readonly time: WorldTime
  readonly chance: Chance
  readonly events: EventLog
  readonly book: OperationBook
  readonly protocol: PeerProtocol
}

/** What a machine is told when a process starts on it. */
export type MachineRole = 'primary' | { readonly follows: string }

export class Fleet {
  readonly settings: Settings
  readonly time: WorldTime
  readonly events: EventLog
  readonly network: Network
  readonly machines: readonly Machine[]
  readonly counts = new FaultCounts()
  readonly arbiter: Arbiter
  readonly oracle: HistoryOracle
  readonly violations: Violation[] = []
  readonly roles = new Map<string, MachineRole>()
  /** Faults of COMMIT that are due on a machine. */
  readonly commitFaults = new Map<string, 'fail' | 'full'>()
  /** The machine that the operator means to be primary, where no lease decides. */
  configured: string
  /** A process that dies takes its machine with it. */
  losesPower = false
  readonly #nodes = new Map<string, SimNode>()
  readonly #parts: FleetParts
  readonly #deathListeners = new Set<(process: SimProcess) => void>()
  /** Operations whose effect a machine held when it answered them, as their primary. */
  readonly #owed = new Map<string, Set<string>>()
  #restartMs: readonly [number, number] = [100, 3_000]
  /** Machines that could not be asked when the primary was chosen last. */
  #away = 0
  #newestOffice = 0

  constructor(parts: FleetParts) {
    const { settings, time, chance, events } = parts
    this.#parts = parts
    this.settings = settings
    this.time = time
    this.events = events
    this.network = new Network(time, chance.for('network'))
    this.machines = settings.machines.map(
      (name) =>
        new Machine(name, (fault) => {
          this.counts.add(`disk ${fault.kind}`)
          events.add(`${name} disk fault ${fault.kind} at ${fault.operation}`)
        }),
    )
    this.configured = settings.machines[0] as string
    for (const name of settings.machines) this.roles.set(name, this.#roleFor(name))
    this.arbiter = new Arbiter(time)
    this.network.started(this.arbiter)
    const isExclusive = settings.leadership === 'elected' && settings.overstayMs === 0
    this.oracle = new HistoryOracle((name) => !isExclusive || this.arbiter.holder === name)
  }

  machine(name: string): Machine {
    return this.machines.find((machine) => machine.name === name) as Machine
  }

  /** The process that runs on a machine now. */
  node(name: string): SimNode | undefined {
    const node = this.#nodes.get(name)
    return node?.process.isDead === false ? node : undefined
  }

  get nodes(): readonly SimNode[] {
    return this.settings.machines.map((name) => this.node(name)).filter((node) => node !== undefined)
  }

  /** Nodes that act as primary by their own opinion. */
  get primaries(): readonly SimNode[] {
    return this.nodes.filter((node) => node.leadership.isPrimary)
  }

  onDeath(listener: (process: SimProcess) => void): () => void {
    this.#deathListeners.add(listener)
    return () => this.#deathListeners.delete(listener)
  }

  violate(error: unknown): void {
    const violation =
      error instanceof Violation
        ? error
        : new Violation('unexpected', error instanceof Error ? (error.stack ?? error.message) : String(error))
    this.violations.push(violation)
    this.events.add(`VIOLATION ${violation.message}`)
  }

  /** Starts a process on a machine that has none. */
  start(name: string): void {
    const machine = this.machine(name)
    if (machine.process?.isDead === false) return
    const { time, chance, protocol, events } = this.#parts
    machine.isUp = true
    const process = new SimProcess(machine, time, {
      died: (dead, where) => this.#died(dead, where),
      reached: (fault) => this.counts.add(fault),
    })
    machine.process = process
    const role = this.roles.get(name) as MachineRole
    const isElected = this.settings.leadership === 'elected'
    events.add(`${name} starts${isElected ? '' : role === 'primary' ? ' as primary' : ` following ${role.follows}`}`)
    try {
      const node = new SimNode({
        process,
        time,
        network: this.network,
        chance: chance.for(`${name}#${process.incarnation}`),
        protocol,
        options: this.settings.node,
        machines: this.settings.machines,
        voters: this.settings.voters,
        overstayMs: this.settings.overstayMs,
        lease: isElected ? 'elected' : role === 'primary' ? true : { url: `http://${role.follows}:2` },
        onOpened: (opened) => this.#opened(opened),
        onRole: (changed, to) => this.#roleChanged(changed, to),
        onOffice: (primary) => this.#tookOffice(primary),
        onAnswer: (primary, call, answer) => this.#answered(primary, call, answer),
        onReport: (replica) => {
          if (!replica.process.isDead) this.oracle.synced(replica)
        },
        onTrouble: (troubled, error) => {
          if (!troubled.process.isDead) events.add(`${troubled.name} trouble: ${messageOf(error)}`)
        },
        onStopped: (stopped, error) => this.#stopped(stopped, error),
        onReplace: (replica, before, after, report) => this.#replaced(replica, before, after, report),
        onHistoryRestarted: (primary) => events.add(`${primary.name} begins its history anew`),
        commitFault: (primary) => this.#commitFault(primary),
      })
      this.#nodes.set(name, node)
      node.open()
    } catch (error) {
      if (error instanceof Violation) throw error
      process.die(`it could not start: ${messageOf(error)}`)
    }
  }

  kill(name: string, how: 'process' | 'power', where: string): void {
    const process = this.machine(name).process
    if (process === undefined || process.isDead) return
    this.losesPower = how === 'power'
    process.die(where)
    this.losesPower = false
  }

  /** Ends a process in good order, as far as it comes within a second. */
  stopCleanly(name: string): void {
    const node = this.node(name)
    if (node === undefined) return
    const end = (): void => node.process.die('it was stopped')
    const timer = this.time.setTimer(1_000, undefined, end)
    node.close().then(
      () => (timer.cancel(), end()),
      (error: unknown) => (timer.cancel(), this.events.add(`${name} closes badly: ${messageOf(error)}`), end()),
    )
  }

  pause(name: string): void {
    const process = this.machine(name).process
    if (process?.isDead === false) process.isPaused = true
  }

  resume(name: string): void {
    const process = this.machine(name).process
    if (process?.isPaused !== true) return
    process.isPaused = false
    this.time.resumed(process)
  }

  /** From now on the operator means this machine; who is not told keeps its opinion until it is started anew. */
  movePrimary(to: string, told: readonly string[]): void {
    // Telling it to everybody is no new choice.
    if (to !== this.configured) this.#away = this.#countAway()
    this.configured = to
    for (const name of told) this.roles.set(name, this.#roleFor(name))
  }

  /** Whether another machine that is there has come further. */
  isMostAdvanced(name: string): boolean {
    const rank = (node: SimNode): readonly [number, bigint] => {
      const { epoch, position } = node.database.log.tail
      return [epoch, position.txid]
    }
    const self = this.node(name)
    if (self === undefined) return false
    const [epoch, txid] = rank(self)
    return this.nodes.every((other) => {
      if (other.process.isPaused || this.isCutOff(other.name)) return true
      const [otherEpoch, otherTxid] = rank(other)
      return otherEpoch < epoch || (otherEpoch === epoch && otherTxid <= txid)
    })
  }

  /** It cannot be asked by whoever decides. */
  isCutOff(name: string): boolean {
    return this.network.link(name, this.arbiter.name).isBlocked || this.network.link(this.arbiter.name, name).isBlocked
  }

  /** Every machine that is down comes back soon from now on. */
  hurry(): void {
    this.#restartMs = [50, 100]
    for (const { name, process } of this.machines) {
      if (process === undefined || process.isDead) this.start(name)
    }
  }

  /** What a machine still owes at the end. */
  owed(name: string): ReadonlySet<string> {
    return this.#owed.get(name) ?? new Set()
  }

  #roleFor(name: string): MachineRole {
    return name === this.configured ? 'primary' : { follows: this.configured }
  }

  #countAway(): number {
    return (
      this.machines.length - this.nodes.filter(({ name, process }) => !process.isPaused && !this.isCutOff(name)).length
    )
  }

  #opened(node: SimNode): void {
    node.database.procedures.register('transfer', transfer)
    this.oracle.reopened(node)
    this.#checkOwed(node)
    node.database.tracker.onAdvance((positions) => {
      if (node.process.isDead) return
      try {
        this.oracle.advanced(node, positions)
      } catch (error) {
        this.violate(error)
      }
      const last = positions.at(-1)
      if (last !== undefined) this.events.add(`${node.name} shows ${last.epoch}:${formatPosition(last.position)}`)
    })
  }

  #roleChanged(node: SimNode, role: NodeRole): void {
    if (node.process.isDead) return
    const detail =
      role.kind === 'replica' ? ` of ${role.primary.name}` : role.kind === 'detached' ? ` (${role.reason})` : ''
    this.events.add(`${node.name} is ${role.kind}${detail}`)
  }

  #tookOffice(node: SimNode): void {
    this.events.add(`${node.name} takes office in epoch ${node.database.primary?.epoch}`)
    this.oracle.tookOffice(node)
    this.#newestOffice = Math.max(this.#newestOffice, node.database.primary?.epoch ?? 0)
    const state = new State(node.process.machine.file.current, false)
    for (const operation of this.#parts.book.all()) {
      if (operation.copies === 0 || operation.isLost || state.has(operation.id)) continue
      operation.isLost = true
      // One of those that have it was there to be chosen.
      const mustHave = this.settings.isCareful && operation.copies >= this.#away
      this.events.add(`${node.name} takes office without ${operation.id}, which ${operation.copies + 1} machines have`)
      if (operation.isSafe)
        this.violate(new Violation('I1', `${node.name} takes office without ${operation.id}, which is at a majority`))
      if (mustHave) {
        this.violate(new Violation('I1', `${node.name} was chosen with care and has lost ${operation.id}`))
      }
    }
  }

  #answered(node: SimNode, call: WriteCall, answer: WriteAnswer): void {
    if (node.process.isDead) return
    const operation = operationOf(call, this.#parts.book)
    if (operation === undefined) return
    const at = { position: answer.position, epoch: answer.epoch }
    const asked = typeof call.await === 'object' ? call.await.replicas : 0
    const copies = this.oracle.copies(at, node.name)
    if (copies < asked) {
      this.violate(
        new Violation(
          'I1',
          `${operation.id} is answered with ${formatAwaitLevel(answer.level)}, ${copies} other machines have it`,
        ),
      )
    }
    operation.appliedAt = node.name
    if (answer.level === 'majority') operation.isSafe = true
    // Acknowledged by replicas that had not heard of the next primary yet, and no majority.
    const isOver = this.settings.leadership === 'elected' && this.arbiter.holder !== node.name
    if (isOver || answer.epoch < this.#newestOffice) operation.isLost = true
    operation.copies = Math.max(operation.copies, asked)
    const owed = this.#owed.get(node.name) ?? new Set()
    this.#owed.set(node.name, owed)
    owed.add(operation.id)
  }

  #stopped(node: SimNode, error: unknown): void {
    const { process } = node
    if (process.isDead || error instanceof SimulatedCrash) return
    this.events.add(`${node.name} stops: ${messageOf(error)}`)
    this.time.setTimer(200, undefined, () => process.die('its database stopped'))
  }

  #replaced(
    node: SimNode,
    before: SqliteImage,
    after: SqliteImage,
    report: DivergenceReport | 'copy' | undefined,
  ): void {
    this.oracle.replaced(node)
    if (before.isEmpty) return
    const had = new State(before, false)
    const has = new State(after, false)
    this.checkState(`${node.name} before it is seeded again`, had)
    const operations = [...had.places.keys()].filter((id) => !has.has(id))
    const told = report === undefined ? 'no report' : report === 'copy' ? 'a copy' : `report ${report.id}`
    this.events.add(`${node.name} is seeded again with ${told}; only it had ${operations.length} operations`)
    if (operations.length === 0) return
    this.#checkReport(node, operations, report)
    const owed = this.#owed.get(node.name)
    for (const id of operations) owed?.delete(id)
    node.process.machine.reports.push({ node: node.name, operations })
  }

  /** I10: what only this node had is in the report, which is durable before it is given up. */
  #checkReport(node: SimNode, operations: readonly string[], report: DivergenceReport | 'copy' | undefined): void {
    if (report === 'copy') return
    const violate = (what: string): void => this.violate(new Violation('I10', `${node.name}: ${what}`))
    if (report === undefined) return violate(`${operations[0]} is given up without a report`)
    const { tail } = node.database.log
    if (!samePosition(report.here, tail.position)) {
      violate(`the report ends at ${formatPosition(report.here)}, the log at ${formatPosition(tail.position)}`)
    }
    const { transactions, missing } = report
    if (missing > 0) this.events.add(`retention had removed ${missing} transactions before the report`)
    else if (transactions?.last !== tail.position.txid) violate('the report lacks the last transactions')
    const shared = report.shared === undefined ? undefined : this.oracle.stateAt(report.shared)
    if (shared === undefined || shared.isEmpty) return
    const both = new State(shared, false)
    const hidden = operations.find((id) => both.has(id))
    if (hidden !== undefined) violate(`${hidden} is lost, and the report calls it shared`)
  }

  /** What every state of every history must keep. */
  checkState(where: string, state: State): void {
    for (const [id, places] of state.places) {
      if (places.length > 1) this.violate(new Violation('I7', `${where}: ${id} took effect ${places.length} times`))
      if (this.#parts.book.get(id)?.told === 'refused') {
        this.violate(new Violation('refused', `${where}: ${id} was refused and took effect`))
      }
    }
    for (const id of state.sealed) {
      const operation = this.#parts.book.sealedUnder(id)
      if (operation !== undefined && state.has(operation.id)) {
        this.violate(new Violation('I7', `${where}: ${operation.id} was declared not applied and took effect`))
      }
    }
    if (state.cents !== TOTAL_CENTS) {
      this.violate(new Violation('bank', `${where}: ${state.cents} cents instead of ${TOTAL_CENTS}`))
    }
    if (state.integrity !== 'ok') this.violate(new Violation('integrity', `${where}: ${state.integrity}`))
  }

  /** A machine that answered a write as its primary has it when it comes back. */
  #checkOwed(node: SimNode): void {
    const { file } = node.process.machine
    const owed = this.#owed.get(node.name)
    if (owed === undefined || owed.size === 0 || file.current.isEmpty) return
    const state = new State(file.current, false)
    for (const id of owed) {
      if (!state.has(id)) this.violate(new Violation('I1', `${node.name} answered ${id} and came back without it`))
    }
  }

  #commitFault(node: SimNode): 'commit' | 'fail' | 'full' {
    const fault = this.commitFaults.get(node.name)
    if (fault === undefined) return 'commit'
    this.commitFaults.delete(node.name)
    this.counts.add(`commit ${fault}`)
    this.events.add(`${node.name} COMMIT ${fault === 'fail' ? 'fails to sync' : 'finds the disk full'}`)
    return fault
  }

  #died(process: SimProcess, where: string): void {
    const { machine, name } = process
    const chance = this.#parts.chance.for(`${name}#${process.incarnation} dies`)
    const isPowerCut =
      this.losesPower || ((where.includes(' of ') || where.startsWith('before ')) && chance.happens(0.5))
    this.events.add(`${name} dies${isPowerCut ? ' with its machine' : ''}: ${where}`)
    if (isPowerCut) machine.disk.cutPower(chance.next)
    else machine.disk.processEnded()
    if (isPowerCut) machine.file.cutPower(chance.next)
    else machine.file.processEnded(chance.next)
    machine.isUp = !isPowerCut
    this.network.died(process, isPowerCut)
    for (const listener of this.#deathListeners) listener(process)
    const [min, max] = this.#restartMs
    this.time.setTimer(chance.between(min, max), undefined, () => this.start(name))
  }
}

const TOTAL_CENTS = ACCOUNTS * CENTS_EACH

/** By the first parameter of its first statement. */
function operationOf(call: WriteCall, book: OperationBook) {
  const { operation } = call
  if (operation.kind === 'procedure') return book.get((operation.input as { readonly id: string }).id)
  const params = operation.statements[0]?.params
  return Array.isArray(params) ? book.get(String(params[0])) : undefined
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message.split('\n', 1)[0]! : String(error)
}
