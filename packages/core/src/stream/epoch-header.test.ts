import { describe, expect, test } from 'vitest'
import { type Checksum, NO_CHECKSUM } from '../position/checksum.ts'
import { type EpochStart, type EpochTable, epoch } from '../position/epoch.ts'
import { txid } from '../position/txid.ts'
import { EPOCH_HEADER_BYTES_MAX, encodeEpochHeader, parseEpochHeader } from './epoch-header.ts'

function start(number: number, first = BigInt(number)): EpochStart {
  return { epoch: epoch(number), firstTxid: txid(first), checksumBefore: ((1n << 63n) | first) as Checksum }
}

describe('round trip', () => {
  test.each<[string, ReadonlyMap<string, EpochTable>]>([
    ['nothing', new Map()],
    ['a database without epochs', new Map([['a.db', []]])],
    ['names that need escapes', new Map([['a=b;c,d é%.db', [start(1)]]])],
    [
      'the largest values, and a database that began empty',
      new Map([
        [
          'a.db',
          [
            { epoch: epoch(1), firstTxid: txid(1n), checksumBefore: NO_CHECKSUM },
            start(Number.MAX_SAFE_INTEGER, (1n << 63n) - 1n),
          ],
        ],
        ['b.db', [start(2)]],
      ]),
    ],
  ])('%s', (_what, tables) => {
    const value = encodeEpochHeader(tables)
    expect(value).toMatch(/^[\x21-\x7e]*$/)
    expect(parseEpochHeader(value)).toEqual(tables)
  })
})

test('a table that does not fit keeps its newest starts', () => {
  const table = Array.from({ length: 10_000 }, (_, i) => start(i + 1, (1n << 62n) + BigInt(i)))
  const value = encodeEpochHeader(new Map([['a.db', table]]))
  expect(value.length).toBeLessThanOrEqual(EPOCH_HEADER_BYTES_MAX)
  const kept = parseEpochHeader(value)?.get('a.db') ?? []
  expect(kept.length).toBeGreaterThan(200)
  expect(kept).toEqual(table.slice(-kept.length))
})

test('many databases share the bound', () => {
  const table = Array.from({ length: 100 }, (_, i) => start(i + 1))
  const tables = new Map(Array.from({ length: 1000 }, (_, i) => [`database-${i}.db`, table]))
  expect(encodeEpochHeader(tables).length).toBeLessThanOrEqual(EPOCH_HEADER_BYTES_MAX)
})

test.each([
  'a',
  'a=1',
  'a=1:2',
  'a=1:2:3',
  'a=1:g:8000000000000001',
  'a=2:1:0,1:2:0',
  'a=1:1:0,',
  'a%=',
  'a=b=c',
  'a=99999999999999999:1:0',
])('malformed: %s', (value) => {
  expect(parseEpochHeader(value)).toBeUndefined()
})
