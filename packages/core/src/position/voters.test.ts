import { expect, test } from 'vitest'
import { Voters } from './voters.ts'

test.each([
  [['a'], 'a', 0],
  [['a', 'b'], 'a', 1],
  [['a', 'b', 'c'], 'a', 1],
  [['a', 'b', 'c', 'd'], 'a', 2],
  [['a', 'b', 'c', 'd', 'e'], 'a', 2],
  // A node that is no voter needs a majority of those who are.
  [['b', 'c', 'd'], 'a', 2],
  [['b'], 'a', 1],
] as const)('of %j, node %s needs %i others', (names, self, needed) => {
  const others = names.filter((name) => name !== self)
  expect(new Voters(names, self).majority).toEqual({ replicas: needed, among: others })
})

test('without voters there is no majority', () => {
  expect(new Voters([], 'a').majority).toBeUndefined()
})
