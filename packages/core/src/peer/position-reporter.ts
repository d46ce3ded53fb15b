/**
 * A replica's acknowledgements: tells the primary what is durable and what is applied here (design D9).
 *
 * Promises: however often positions change in one turn, one message with the newest report of each changed database
 * leaves; on a slow channel the newest state leaves, never a backlog. A channel that was just opened gets the reports
 * of all databases first, also when there are none: with this message the node enters the set of connected replicas.
 * Relies on: `update` is called after the fact, `durable` after fdatasync and `applied` after publishing.
 */
import type { ReplicaReport } from '../position/replica-report.ts'

/** Where reports go: a `PeerClient`. */
export interface ReportChannel {
  /** Sends what `collect` answers when the message leaves; false without a connection. */
  sendPositions(collect: () => readonly ReplicaReport[] | undefined): boolean
}

export class PositionReporter {
  readonly #reports = new Map<string, ReplicaReport>()
  readonly #changed = new Set<string>()
  #channel: ReportChannel | undefined
  /** The channel knows everything up to `#changed`. */
  #isIntroduced = false

  /** The newest report of one database. */
  update(report: ReplicaReport): void {
    this.#reports.set(report.database, report)
    this.#changed.add(report.database)
    this.#send()
  }

  /** The database is gone from this node. */
  remove(database: string): void {
    this.#reports.delete(database)
    this.#changed.delete(database)
  }

  /** A channel to the primary was opened: everything is sent on it. */
  attach(channel: ReportChannel): void {
    this.#channel = channel
    this.#isIntroduced = false
    this.#send()
  }

  /** The channel ended, or this node follows nobody. */
  detach(): void {
    this.#channel = undefined
  }

  #send(): void {
    this.#channel?.sendPositions(() => this.#collect())
  }

  #collect(): readonly ReplicaReport[] | undefined {
    const names = this.#isIntroduced ? [...this.#changed] : [...this.#reports.keys()]
    if (this.#isIntroduced && names.length === 0) return undefined
    this.#isIntroduced = true
    this.#changed.clear()
    return names.map((name) => this.#reports.get(name)).filter((report) => report !== undefined)
  }
}
