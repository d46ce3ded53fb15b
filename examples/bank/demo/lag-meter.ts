/**
 * How long after the primary each replica shows a transaction.
 *
 * Every node reports when its reads began to see which TXID, on the one monotonic clock of the machine. A replica may show
 * several transactions at once, so a moment of the primary is matched with the first moment of the replica at or beyond its TXID.
 * Reports of different nodes arrive in any order; at most `PENDING_MAX` moments of the primary wait for a replica.
 */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'

const PENDING_MAX = 200_000

type Advance = readonly [txid: number, atMs: number]

interface ReplicaLag {
  /** Moments of the primary this replica has not been seen to reach, ascending. */
  primary: Advance[]
  /** Moments of the replica beyond the last known moment of the primary, ascending. */
  replica: Advance[]
  readonly recent: number[]
}

export class LagMeter {
  readonly #replicas = new Map<string, ReplicaLag>()
  readonly #all: RecordableHistogram = createHistogram()

  constructor(replicas: readonly string[]) {
    for (const name of replicas) this.#replicas.set(name, { primary: [], replica: [], recent: [] })
  }

  primaryAdvanced(advances: readonly Advance[]): void {
    for (const lag of this.#replicas.values()) {
      lag.primary = lag.primary.concat(advances).slice(-PENDING_MAX)
      this.#match(lag)
    }
  }

  replicaAdvanced(name: string, advances: readonly Advance[]): void {
    const lag = this.#replicas.get(name)
    if (lag === undefined) return
    lag.replica = lag.replica.concat(advances).slice(-PENDING_MAX)
    this.#match(lag)
  }

  /** Median of what was measured since the last call, in ms; `undefined` when nothing was. */
  takeRecentMs(name: string): number | undefined {
    const recent =
      this.#replicas
        .get(name)
        ?.recent.splice(0)
        .sort((a, b) => a - b) ?? []
    return recent[recent.length >> 1]
  }

  /** Over all replicas and the whole run, in ms. */
  percentileMs(percent: number): number {
    return this.#all.count === 0 ? 0 : this.#all.percentile(percent) / 1e6
  }

  #match(lag: ReplicaLag): void {
    const { primary, replica } = lag
    let p = 0
    let r = 0
    while (p < primary.length && r < replica.length) {
      const [txid, announcedMs] = primary[p]!
      const [reached, shownMs] = replica[r]!
      if (reached < txid) {
        r++
        continue
      }
      const lagMs = Math.max(0, shownMs - announcedMs)
      lag.recent.push(lagMs)
      this.#all.record(Math.max(1, Math.round(lagMs * 1e6)))
      p++
    }
    lag.primary = primary.slice(p)
    lag.replica = replica.slice(r)
  }
}
