import { describe, expect, it } from 'vitest'
import { checksum, formatChecksum, parseChecksum } from './checksum.ts'
import { epoch, epochOf, type EpochTable, NO_EPOCH } from './epoch.ts'
import { formatPosition, parsePosition, samePosition, ZERO_POSITION } from './position.ts'
import { formatTxid, nextTxid, parseTxid, txid } from './txid.ts'

describe('text forms are those of LiteFS', () => {
  it('of a position file', () => {
    const text = '0000000000000274/b8a8000000000001'
    const position = parsePosition(text)
    expect(position).toEqual({ txid: 0x274n, checksum: 0xb8a8000000000001n })
    expect(formatPosition(position!)).toBe(text)
    expect(formatPosition(ZERO_POSITION)).toBe('0000000000000000/0000000000000000')
  })

  it('and nothing else is taken for one', () => {
    for (const text of [
      '',
      '1/2',
      '0000000000000274',
      '0000000000000274/b8a8000000000001/',
      '0000000000000274/08a8000000000001',
      '000000000000027G/b8a8000000000001',
    ]) {
      expect(parsePosition(text), text).toBeUndefined()
    }
    expect(parseTxid('00000000000002AB')).toBeUndefined()
    expect(parseChecksum('0000000000000001')).toBeUndefined()
  })
})

it('TXIDs and checksums out of range are refused', () => {
  expect(() => txid(-1n)).toThrow(RangeError)
  expect(() => nextTxid(txid((1n << 64n) - 1n))).toThrow(RangeError)
  expect(() => checksum(5n)).toThrow(RangeError)
  expect(formatTxid(nextTxid(txid(15n)))).toBe('0000000000000010')
  expect(formatChecksum(checksum(0n))).toBe('0000000000000000')
})

it('two positions are the same only with number and checksum', () => {
  const a = parsePosition('0000000000000007/8000000000000001')!
  expect(samePosition(a, { ...a })).toBe(true)
  expect(samePosition(a, { ...a, checksum: checksum(0x8000000000000002n) })).toBe(false)
})

it('an epoch table tells who wrote a TXID', () => {
  const table: EpochTable = [
    { epoch: epoch(3), firstTxid: txid(10n), checksumBefore: checksum(0n) },
    { epoch: epoch(7), firstTxid: txid(20n), checksumBefore: checksum(1n << 63n) },
  ]
  expect([9n, 10n, 19n, 20n, 99n].map((number) => epochOf(table, txid(number)))).toEqual([NO_EPOCH, 3, 3, 7, 7])
})
