import { expect, test } from 'vitest'
import { formatTable } from './text-table.ts'

test('columns are as wide as their widest cell, numbers end together, lines have no trailing blanks', () => {
  const columns = [{ heading: 'name' }, { heading: 'n', align: 'right' as const }, { heading: 'rest' }]
  const rows = [
    ['a', '1', ''],
    ['longer', '100', 'x'],
  ]
  expect(formatTable(columns, rows).split('\n')).toEqual(['NAME      N  REST', 'a         1', 'longer  100  x'])
})
