/** Rows under upper-case headings, columns as wide as they must be, two spaces between. */

export interface Column {
  readonly heading: string
  readonly align?: 'left' | 'right' | undefined
}

export function formatTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const headings = columns.map((column) => column.heading.toUpperCase())
  const widths = columns.map((_, i) => Math.max(...[headings, ...rows].map((row) => (row[i] ?? '').length)))
  const line = (cells: readonly string[]): string =>
    columns
      .map(({ align }, i) => {
        const cell = cells[i] ?? ''
        return align === 'right' ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)
      })
      .join('  ')
      .trimEnd()
  return [headings, ...rows].map(line).join('\n')
}
