/** One measured figure, its baseline from the same run, and the figure it has to reach. */

export interface Row {
  /** Stable: results of different days are compared by it. */
  readonly name: RowName
  readonly unit: string
  readonly value: number
  /** What the machine does without us, measured in the same run; `null` where nothing compares. */
  readonly baseline: number | null
  /** value / baseline. For times, less is better. */
  readonly ratio: number | null
}

export type RowName = keyof typeof TARGETS

interface Target {
  readonly text: string
  readonly isReached: (value: number, ratio: number) => boolean
}

/** What to reach on two cores. */
const TARGETS = {
  'read.get': { text: '>= 0.97x', isReached: (_, ratio) => ratio >= 0.97 },
  'commit.1': { text: '>= 0.75x', isReached: (_, ratio) => ratio >= 0.75 },
  'commit.64': { text: '>= 25000', isReached: (value) => value >= 25_000 },
  'forward.1': { text: '-', isReached: () => true },
  'forward.4': { text: '-', isReached: () => true },
  'forward.16': { text: '>= forward.4', isReached: () => true },
  'forward.64': { text: '>= 15000', isReached: (value) => value >= 15_000 },
  'forward.256': { text: '>= 15000', isReached: (value) => value >= 15_000 },
  'replicate.lag.p50': { text: '<= 2 ms', isReached: (value) => value <= 2 },
  'replicate.lag.p99': { text: '<= 10 ms', isReached: (value) => value <= 10 },
  'replicate.apply': { text: '>= 300', isReached: (value) => value >= 300 },
  'replicate.reader': { text: '>= 0.90x', isReached: (_, ratio) => ratio >= 0.9 },
  'snapshot.send': { text: '>= 200', isReached: (value) => value >= 200 },
  'open.clean': { text: '<= 1000 ms', isReached: (value) => value <= 1_000 },
  'failover.host.p50': { text: '<= 1000 ms', isReached: (value) => value <= 1_000 },
  'failover.host.p99': { text: '<= 1000 ms', isReached: (value) => value <= 1_000 },
  'failover.etcd.p50': { text: '<= TTL + 1 s', isReached: (value) => value <= 3_000 },
  'failover.etcd.p99': { text: '<= TTL + 1 s', isReached: (value) => value <= 3_000 },
  'failover.consul.p50': { text: '-', isReached: () => true },
  'failover.consul.p99': { text: '<= TTL + 1 s', isReached: (value) => value <= 11_000 },
  'handoff.pause.p50': { text: '-', isReached: () => true },
  'handoff.pause.p99': { text: '<= 250 ms', isReached: (value) => value <= 250 },
  'handoff.failed': { text: '0', isReached: (value) => value === 0 },
  'litefs.insert.1': { text: '>= 20x', isReached: (_, ratio) => ratio >= 20 },
  'litefs.insert.64': { text: '>= 20x', isReached: (_, ratio) => ratio >= 20 },
  'litefs.lag.p50': { text: '<= 1x', isReached: (_, ratio) => ratio <= 1 },
  'litefs.lag.p99': { text: '<= 1x', isReached: (_, ratio) => ratio <= 1 },
  'litefs.snapshot': { text: '<= 1x', isReached: (_, ratio) => ratio <= 1 },
  'memory.rss': { text: '<= 120 MB', isReached: (value) => value <= 120 },
} as const satisfies Record<string, Target>

export function row(name: RowName, unit: string, value: number, baseline: number | null): Row {
  const ratio = baseline === null ? null : rounded(value / baseline, 3)
  return { name, unit, value: rounded(value, 3), baseline: baseline === null ? null : rounded(baseline, 3), ratio }
}

export function formatRow({ name, unit, value, baseline, ratio }: Row): string {
  const target: Target = TARGETS[name]
  const mark = target.isReached(value, ratio ?? 0) ? '' : '  not reached'
  return [
    name.padEnd(18),
    formatNumber(value).padStart(11),
    unit.padEnd(9),
    (baseline === null ? '-' : formatNumber(baseline)).padStart(11),
    (ratio === null ? '-' : `${ratio.toFixed(2)}x`).padStart(8),
    `  ${target.text}${mark}`,
  ].join(' ')
}

export const HEADING = `${'name'.padEnd(18)} ${'value'.padStart(11)} ${'unit'.padEnd(9)} ${'baseline'.padStart(11)} ${'ratio'.padStart(8)}   target`

function formatNumber(value: number): string {
  return value >= 1000 ? Math.round(value).toString() : value.toFixed(value >= 10 ? 1 : 2)
}

function rounded(value: number, digits: number): number {
  return Number(value.toFixed(digits))
}
