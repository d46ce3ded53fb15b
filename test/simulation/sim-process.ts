/**
 * A simulated machine, and the process that runs on it.
 *
 * The machine keeps what outlives a process: disk, database file, clock, divergence reports. A process that died runs no
 * timer, gets nothing from the network and finds every file operation failing; what its promises still do reaches nobody.
 */
import type { DiskFault, DiskUser } from './machine-disk.ts'
import { MachineDisk } from './machine-disk.ts'
import type { ClockFault } from './machine-clock.ts'
import type { Endpoint, Host } from './network.ts'
import { SqliteFile } from './sqlite-file.ts'
import { SimulatedCrash } from './simulated-crash.ts'
import type { WorldTime } from './world-time.ts'

/** What only one node had when it was seeded again. */
export interface DivergenceReport {
  readonly node: string
  /** Ids of the operations that the database held and the snapshot does not. */
  readonly operations: readonly string[]
}

export class Machine {
  readonly name: string
  readonly disk: MachineDisk
  readonly file = new SqliteFile()
  readonly clock: ClockFault = { skewMs: 0, rate: 1 }
  readonly reports: DivergenceReport[] = []
  isUp = true
  slowMs = 0
  process: SimProcess | undefined
  /** Counted over all processes of the machine. */
  incarnations = 0

  constructor(name: string, onDiskFault: (fault: DiskFault) => void) {
    this.name = name
    this.disk = new MachineDisk(onDiskFault)
  }
}

/** A step in the code at which a process may be told to die. */
export type CrashPoint = 'before-commit' | 'after-commit' | 'after-capture' | 'before-announce' | 'before-apply'

export interface ProcessListener {
  died(process: SimProcess, where: string): void
  /** A fault that waited for a step takes place. */
  reached(fault: string): void
}

export class SimProcess implements Host, DiskUser {
  readonly machine: Machine
  readonly incarnation: number
  isDead = false
  isPaused = false
  accept: (door: string, connection: Endpoint) => boolean = () => false
  readonly #time: WorldTime
  readonly #listener: ProcessListener
  /** Its lease runs out here and now, unnoticed; set where there is one. */
  loseLease: () => void = () => undefined
  #crashAt: { readonly point: CrashPoint; after: number } | undefined
  #leaseLostAt: { readonly point: CrashPoint; after: number } | undefined

  constructor(machine: Machine, time: WorldTime, listener: ProcessListener) {
    this.machine = machine
    this.incarnation = ++machine.incarnations
    this.#time = time
    this.#listener = listener
  }

  get name(): string {
    return this.machine.name
  }

  get slowMs(): number {
    return this.machine.slowMs
  }

  get isMachineUp(): boolean {
    return this.machine.isUp
  }

  /** It will die when it passes this point for the n-th time from now on. */
  crashLater(point: CrashPoint, after: number): void {
    this.#crashAt = { point, after }
  }

  /** As if it had been stopped there for longer than its lease. */
  loseLeaseLater(point: CrashPoint, after: number): void {
    this.#leaseLostAt = { point, after }
  }

  passing(point: CrashPoint): void {
    if (this.isDead) throw new SimulatedCrash(`${this.name} is dead`)
    if (this.#leaseLostAt?.point === point && this.#leaseLostAt.after-- <= 0) {
      this.#leaseLostAt = undefined
      this.#listener.reached('lease lost at a step')
      this.loseLease()
    }
    if (this.#crashAt?.point !== point || this.#crashAt.after-- > 0) return
    this.#listener.reached('crash at a step')
    this.crash(point)
  }

  crash(where: string): never {
    this.die(where)
    throw new SimulatedCrash(`${this.name} died: ${where}`)
  }

  die(where: string): void {
    if (this.isDead) return
    this.isDead = true
    this.#listener.died(this, where)
  }

  /** Resolves after so much time, or never. */
  wait(ms: number): Promise<void> {
    return new Promise((resolve) => void this.#time.setTimer(ms, this, resolve))
  }
}
