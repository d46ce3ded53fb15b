/**
 * The disk of one machine: keeps what was synced through a power cut, and fails at a named operation when told to.
 *
 * The process that dies in the middle of an operation gets no answer from it, and none from any later one.
 */
import { ClusterError } from '../../packages/core/src/errors/cluster-error.ts'
import type { Disk } from '../../packages/core/src/files/disk.ts'
import { type DiskCall, interceptedDisk, writeHalf } from '../../packages/core/src/log/test-support/intercepted-disk.ts'
import { PowerCutDisk } from '../../packages/core/src/log/test-support/power-cut-disk.ts'

import { SimulatedCrash } from './simulated-crash.ts'

export type DiskFaultKind = 'full' | 'io-error' | 'crash-before' | 'crash-midway' | 'crash-after'

export interface DiskFault {
  readonly kind: DiskFaultKind
  /** The name of the operation. */
  readonly operation: string
  /** Calls that pass before it strikes. */
  after: number
  /** Calls that it strikes; a crash strikes once. */
  count: number
}

/** The process that uses the disk. */
export interface DiskUser {
  readonly isDead: boolean
  /** Dies here and now; `power`: with its machine. Throws. */
  crash(where: string): never
  wait(ms: number): Promise<void>
}

/** Calls that change nothing fail no write, but may find a bad sector. */
const READS: ReadonlySet<keyof Disk> = new Set(['read', 'sizeBytes', 'identity', 'list', 'readWhole', 'close'])
const SYNC_MS = 0.5

export class MachineDisk {
  readonly #disk = new PowerCutDisk()
  readonly #onFault: (fault: DiskFault) => void
  #faults: DiskFault[] = []

  constructor(onFault: (fault: DiskFault) => void) {
    this.#onFault = onFault
  }

  arm(fault: DiskFault): void {
    this.#faults.push(fault)
  }

  disarm(): void {
    this.#faults = []
  }

  get armed(): readonly DiskFault[] {
    return this.#faults
  }

  /** The process ended; what it wrote is in the page cache still. */
  processEnded(): void {
    this.#disk.restartProcess()
  }

  cutPower(random: () => number): void {
    this.#disk.cutPower(random)
  }

  forProcess(user: DiskUser): Disk {
    const disk = this.#disk.forProcess()
    return interceptedDisk(disk, (call) => {
      if (user.isDead) throw new SimulatedCrash(`${call.operation} of a dead process`)
      if (call.method === 'dataSync') return this.#dataSync(disk, call, user)
      return this.#pass(disk, call, user)
    })
  }

  async #dataSync(disk: Disk, call: DiskCall, user: DiskUser): Promise<void> {
    await user.wait(SYNC_MS)
    try {
      await (this.#pass(disk, call, user) as Promise<void>)
    } catch (error) {
      // A dead process gets no answer.
      if (user.isDead) await new Promise(() => undefined)
      throw error
    }
  }

  #pass(disk: Disk, call: DiskCall, user: DiskUser): unknown {
    const fault = READS.has(call.method) ? undefined : this.#due(call)
    if (fault === undefined) return call.run()
    this.#onFault(fault)
    const where = `${call.operation} (${call.method})`
    if (fault.kind === 'io-error') throw failed(call, 'EIO')
    if (fault.kind === 'crash-before') return user.crash(`before ${where}`)
    if (fault.kind === 'crash-after') {
      void Promise.resolve(call.run()).catch(() => undefined)
      return user.crash(`after ${where}`)
    }
    if (call.method === 'write') writeHalf(disk, call)
    if (fault.kind === 'full') throw failed(call, 'ENOSPC')
    return user.crash(`in the middle of ${where}`)
  }

  #due(call: DiskCall): DiskFault | undefined {
    const fault = this.#faults.find(({ operation }) => operation === call.operation)
    if (fault === undefined) return undefined
    if (fault.after-- > 0) return undefined
    if (--fault.count <= 0) this.#faults = this.#faults.filter((other) => other !== fault)
    return fault
  }
}

function failed(call: DiskCall, errno: string): ClusterError {
  return new ClusterError('STORAGE_FAILED', `${call.operation}: ${errno}`, {
    details: { operation: call.operation, errno },
    cause: new Error(errno),
  })
}
