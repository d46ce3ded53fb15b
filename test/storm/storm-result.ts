/** What a storm comes to, as data and as the tables it prints. */
import { formatAwaitLevel } from '../../packages/core/src/request/await-level.ts'
import type { FaultCount } from './fault-runner.ts'
import type { LossCount } from './final-check.ts'
import type { LeaseKind } from './storm-lease.ts'
import type { Write } from './write-book.ts'

export interface StormResult {
  readonly seed: number
  readonly seconds: number
  readonly nodes: number
  readonly lease: LeaseKind
  /** How often another node was found in office. */
  readonly elections: number
  readonly isRetentionShort: boolean
  readonly findings: readonly string[]
  readonly faults: readonly FaultCount[]
  readonly writes: readonly WriteCount[]
  readonly warnings: Readonly<Record<string, number>>
  readonly loss: LossCount | undefined
  /** Looks at a node while the storm went on, and read transactions of the reading processes. */
  readonly looks: number
  readonly reads: number
  readonly positions: number
  /** Nodes started again by hand. */
  readonly mended: number
  /** Where the files are, when they were kept. */
  readonly directory: string | undefined
}

/** Writes of one await level by outcome. */
export interface WriteCount {
  readonly level: string
  readonly acknowledged: number
  /** Applied, and the level was not reached in time. */
  readonly late: number
  readonly refused: number
  readonly unknown: number
  /** Of the acknowledged and late ones: found out under the same id. */
  readonly retried: number
  readonly resolved: number
  /** Found not applied by `resolve`. */
  readonly abandoned: number
}

export function countWrites(writes: readonly Write[]): readonly WriteCount[] {
  const counts = new Map<string, { -readonly [K in keyof WriteCount]: WriteCount[K] }>()
  for (const { level, fate, recoveredBy } of writes) {
    const name = formatAwaitLevel(level)
    const zero = { acknowledged: 0, late: 0, refused: 0, unknown: 0, retried: 0, resolved: 0, abandoned: 0 }
    const count = counts.get(name) ?? { level: name, ...zero }
    counts.set(name, count)
    if (fate === 'applied') count.acknowledged++
    else if (fate === 'pending') count.unknown++
    else count[fate]++
    if (fate !== 'applied' && fate !== 'late') continue
    if (recoveredBy === 'retry') count.retried++
    if (recoveredBy === 'resolve') count.resolved++
  }
  return [...counts.values()].toSorted((a, b) => a.level.localeCompare(b.level))
}

export function formatResult(result: StormResult): string {
  const { faults, writes, warnings, loss, looks, reads, positions, mended, lease, elections } = result
  const lines = [
    ...table(
      ['fault', 'drawn', 'took place'],
      faults.map(({ kind, drawn, happened }) => [kind, drawn, happened]),
    ),
    '',
    ...table(
      ['await', 'acknowledged', 'late', 'refused', 'unknown', 'by retry', 'by resolve', 'resolved: not applied'],
      writes.map((row) => [
        row.level,
        row.acknowledged,
        row.late,
        row.refused,
        row.unknown,
        row.retried,
        row.resolved,
        row.abandoned,
      ]),
    ),
    '',
    `warnings: ${Object.entries(warnings)
      .map(([name, count]) => `${name} ${count}`)
      .join(', ')}`,
    `looked ${looks} times at nodes, ${positions} positions, ${reads} read transactions of other processes; ${mended} nodes started again by hand`,
  ]
  if (lease !== 'static') lines.push(`${elections} times another node was in office, no epoch twice`)
  if (loss !== undefined) {
    const { reports, transactions, lost, pruned, withoutRequest, replay } = loss
    lines.push(
      `${reports} divergence reports with ${transactions} transactions; ${lost} acknowledged writes had left the history (${pruned} pruned before, ${withoutRequest} reported without their requests); ` +
        (replay === undefined
          ? 'nothing was replayed'
          : `replayed ${replay.requests} requests: ${replay.ran} ran, ${replay.known} were there, ${replay.abandoned} abandoned, ${replay.withoutOperation} skipped`),
    )
  }
  return lines.join('\n')
}

function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string[] {
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => String(row[column]).length)))
  const line = (cells: readonly (string | number)[]): string =>
    `| ${cells.map((cell, column) => (typeof cell === 'number' ? String(cell).padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0))).join(' | ')} |`
  return [line(head), `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`, ...rows.map(line)]
}
