/**
 * The table that shows the cluster at work: redrawn in place on a terminal, one line a second anywhere else.
 */

export interface NodeRow {
  readonly name: string
  readonly role: string
  readonly txid: string
  /** Median since the last row; `undefined` where there is nothing to measure, as on the primary. */
  readonly lagMs: number | undefined
  readonly writesPerSecond: number
  readonly readsPerSecond: number
}

export interface TableOutput {
  readonly isTTY?: boolean | undefined
  write(text: string): unknown
}

const COLUMNS = ['node', 'role', 'TXID', 'lag', 'writes/s', 'reads/s'] as const
const WIDTHS = [6, 8, 18, 9, 9, 9] as const

export class LiveTable {
  readonly #output: TableOutput
  #drawnLines = 0

  constructor(output: TableOutput) {
    this.#output = output
  }

  draw(elapsedSeconds: number, rows: readonly NodeRow[]): void {
    if (this.#output.isTTY === true) this.#redraw(elapsedSeconds, rows)
    else this.#output.write(`${plainLine(elapsedSeconds, rows)}\n`)
  }

  #redraw(elapsedSeconds: number, rows: readonly NodeRow[]): void {
    const lines = [
      `  ${elapsedSeconds.toFixed(0)} s`,
      tableLine(COLUMNS),
      ...rows.map((row) =>
        tableLine([
          row.name,
          row.role,
          row.txid,
          formatLag(row.lagMs),
          row.writesPerSecond.toFixed(0),
          row.readsPerSecond.toFixed(0),
        ]),
      ),
    ]
    // Up to the first line of the last drawing, then clear to the end of the screen.
    const home = this.#drawnLines > 0 ? `\u001b[${this.#drawnLines}A\u001b[J` : ''
    this.#output.write(`${home}${lines.join('\n')}\n`)
    this.#drawnLines = lines.length
  }
}

function tableLine(cells: readonly string[]): string {
  return `  ${cells.map((cell, i) => (i < 2 ? cell.padEnd(WIDTHS[i] ?? 0) : cell.padStart(WIDTHS[i] ?? 0))).join('  ')}`
}

function plainLine(elapsedSeconds: number, rows: readonly NodeRow[]): string {
  const nodes = rows.map((row) => {
    const lag = row.lagMs === undefined ? '' : ` lag ${formatLag(row.lagMs)}`
    const rates = `${row.writesPerSecond.toFixed(0)} w/s ${row.readsPerSecond.toFixed(0)} r/s`
    return `${row.name} ${row.role} ${row.txid.replace(/^0+(?=.)/, '')} ${rates}${lag}`
  })
  return `${elapsedSeconds.toFixed(0).padStart(3)} s  ${nodes.join(' | ')}`
}

export function formatLag(lagMs: number | undefined): string {
  return lagMs === undefined ? '-' : `${lagMs.toFixed(lagMs < 10 ? 2 : 0)} ms`
}
