/** How long after one process another one shows the same thing. All processes of a machine share one monotonic clock. */

/** [TXID, when reads began to see it]. A later entry includes all earlier ones. */
export type Advance = readonly [txid: number, atMs: number]

/** Now on the machine's monotonic clock, in ms. */
export function machineMs(): number {
  return Number(process.hrtime.bigint()) / 1e6
}

/** For each moment of the primary, how long until the first moment of the replica at or beyond its TXID. Both lists ascend. */
export function lagsMs(announced: readonly Advance[], shown: readonly Advance[]): readonly number[] {
  const lags: number[] = []
  let next = 0
  for (const [txid, announcedMs] of announced) {
    while (next < shown.length && shown[next]![0] < txid) next++
    const moment = shown[next]
    if (moment === undefined) break
    lags.push(Math.max(0, moment[1] - announcedMs))
  }
  return lags
}

export function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))] ?? Number.NaN
}
