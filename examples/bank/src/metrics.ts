/**
 * What one bank node did since it was last asked, for whoever watches it.
 *
 * Times are on the machine's monotonic clock in ms, the same for every process of one machine, so that the moments at which
 * two nodes saw the same transaction can be compared. Lists are bounded: when nobody asks, the newest are kept.
 */
import type { Position } from '@litefleet/core'

const SAMPLES_MAX = 20_000

export interface MetricsReport {
  readonly writes: number
  readonly refused: number
  readonly reads: number
  /** How long each write took, from the call of the procedure to its answer, in ms. */
  readonly writeMs: readonly number[]
  /** [TXID, when reads on this node began to see it]. A later entry includes all earlier ones. */
  readonly advances: readonly (readonly [txid: number, atMs: number])[]
}

/** Now on the machine's monotonic clock, in ms. */
export function machineMs(): number {
  return Number(process.hrtime.bigint()) / 1e6
}

export class BankMetrics {
  #writes = 0
  #refused = 0
  #reads = 0
  #writeMs: number[] = []
  #advances: (readonly [number, number])[] = []

  wrote(tookMs: number): void {
    this.#writes++
    keep(this.#writeMs, tookMs)
  }

  refused(tookMs: number): void {
    this.#refused++
    keep(this.#writeMs, tookMs)
  }

  read(): void {
    this.#reads++
  }

  advanced(position: Position): void {
    keep(this.#advances, [Number(position.txid), machineMs()])
  }

  /** Everything since the last call. */
  take(): MetricsReport {
    const report = {
      writes: this.#writes,
      refused: this.#refused,
      reads: this.#reads,
      writeMs: this.#writeMs,
      advances: this.#advances,
    }
    this.#writes = this.#refused = this.#reads = 0
    this.#writeMs = []
    this.#advances = []
    return report
  }
}

function keep<T>(samples: T[], sample: T): void {
  samples.push(sample)
  if (samples.length > SAMPLES_MAX) samples.splice(0, samples.length - SAMPLES_MAX)
}
