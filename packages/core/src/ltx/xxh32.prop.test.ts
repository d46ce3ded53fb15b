import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Xxh32 } from './xxh32.ts'

describe('xxHash32', () => {
  it.each([
    ['', 0x02cc5d05],
    ['a', 0x550d7456],
    ['abc', 0x32d153ff],
    ['Nobody inspects the spammish repetition', 0xe2293b2f],
  ])('of %j is the published value', (text, hash) => {
    expect(new Xxh32().update(Buffer.from(text)).digest()).toBe(hash)
  })

  it('does not depend on how the bytes are cut', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 40 })), (pieces) => {
        const hash = new Xxh32()
        for (const piece of pieces) hash.update(piece)
        expect(hash.digest()).toBe(new Xxh32().update(Buffer.concat(pieces)).digest())
      }),
    )
  })
})
