import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { byteSwap32, walChecksum } from './wal-checksum.ts'

/** The algorithm as the format's description gives it, with big integers. */
function reference(words: readonly number[], s0: number, s1: number): [number, number] {
  let a = BigInt(s0)
  let b = BigInt(s1)
  const mask = 0xffffffffn
  for (let i = 0; i < words.length; i += 2) {
    a = (a + BigInt(words[i] ?? 0) + b) & mask
    b = (b + BigInt(words[i + 1] ?? 0) + a) & mask
  }
  return [Number(a), Number(b)]
}

const uint32 = fc.integer({ min: 0, max: 0xffffffff })

describe('the WAL checksum', () => {
  it('is the one of the specification, from any state, in either byte order', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(uint32, uint32)), uint32, uint32, fc.boolean(), (pairs, s0, s1, bigEndian) => {
        const words = pairs.flat()
        const stored = Uint32Array.from([7, ...(bigEndian ? words.map(byteSwap32) : words), 9])
        const state = Int32Array.of(s0, s1)
        walChecksum(stored, 1, words.length, state, bigEndian)
        expect([state[0]! >>> 0, state[1]! >>> 0]).toEqual(reference(words, s0, s1))
      }),
    )
  })

  it('byteSwap32 reverses bytes and stays unsigned', () => {
    expect(byteSwap32(0x010203ff)).toBe(0xff030201)
    fc.assert(
      fc.property(uint32, (x) => {
        expect(byteSwap32(byteSwap32(x))).toBe(x)
      }),
    )
  })
})
