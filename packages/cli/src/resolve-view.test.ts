import type { ResolveAnswer } from '@litefleet/core/peer'
import { expect, test } from 'vitest'
import { formatResolution, resolutionJson } from './resolve-view.ts'

const at = { position: { txid: 42n, checksum: 2n ** 63n }, epoch: 3 } as Pick<ResolveAnswer, 'position' | 'epoch'>
const POSITION = '000000000000002a/8000000000000000'
const batch: ResolveAnswer = {
  outcome: 'applied',
  result: {
    kind: 'batch',
    results: [{ changes: 1, lastInsertRowid: 2n ** 60n, rows: [{ b: Buffer.from('x'), n: null }] }],
  },
  ...at,
}

test('people read what became of the write, where that is recorded, and what it answered', () => {
  expect(formatResolution({ outcome: 'not-applied', ...at })).toBe(
    `not applied, and never will be: recorded at ${POSITION}`,
  )
  expect(formatResolution({ outcome: 'applied', result: undefined, ...at })).toBe(
    `applied: contained in ${POSITION}\nits answer was too large to keep`,
  )
  expect(formatResolution(batch)).toBe(
    `applied: contained in ${POSITION}\n[{"changes":1,"lastInsertRowid":"${2n ** 60n}","rows":[{"b":{"base64":"eA=="},"n":null}]}]`,
  )
})

test('programs read the same as JSON', () => {
  const value = { when: new Date(0), nothing: undefined }
  const procedure: ResolveAnswer = { outcome: 'applied', result: { kind: 'procedure', value }, ...at }
  expect(resolutionJson('id', 'app.db', procedure)).toEqual({
    database: 'app.db',
    requestId: 'id',
    outcome: 'applied',
    result: { kind: 'procedure', value: { when: '1970-01-01T00:00:00.000Z', nothing: null } },
    position: POSITION,
    epoch: 3,
  })
  expect(resolutionJson('id', 'app.db', { outcome: 'not-applied', ...at })).toMatchObject({
    outcome: 'not-applied',
    result: null,
  })
})
