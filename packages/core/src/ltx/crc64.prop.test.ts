import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Crc64, Crc64Appender, shiftByBytes } from './crc64.ts'
import { PageCrc, pageChecksum } from './page-checksum.ts'

/** Bit by bit, as the definition goes. */
function reference(bytes: Uint8Array): string {
  let crc = 0xffffffffffffffffn
  for (const byte of bytes) {
    crc ^= BigInt(byte)
    for (let bit = 0; bit < 8; bit++) crc = crc & 1n ? (crc >> 1n) ^ 0xd800000000000000n : crc >> 1n
  }
  return (crc ^ 0xffffffffffffffffn).toString(16).padStart(16, '0')
}

function hex({ high, low }: { readonly high: number; readonly low: number }): string {
  return [high, low].map((half) => (half >>> 0).toString(16).padStart(8, '0')).join('')
}

const bytes = fc.uint8Array({ maxLength: 100 })

describe('CRC-64/GO-ISO', () => {
  it('has the check value of its definition', () => {
    expect(hex(new Crc64().update(Buffer.from('123456789')))).toBe('b90956c775a41001')
    expect(hex(new Crc64())).toBe('0000000000000000')
  })

  it('is the one computed bit by bit, at any alignment and length', () => {
    fc.assert(
      fc.property(bytes, fc.nat({ max: 9 }), fc.nat({ max: 9 }), (content, before, after) => {
        const within = new Uint8Array(before + content.length + after).fill(0xa5)
        within.set(content, before)
        expect(hex(new Crc64().update(within, before, before + content.length))).toBe(reference(content))
        expect(hex(new Crc64().update(within.subarray(before, before + content.length)))).toBe(reference(content))
      }),
    )
  })

  it('does not depend on how the bytes are cut', () => {
    fc.assert(
      fc.property(fc.array(bytes), (pieces) => {
        const crc = new Crc64().update(Buffer.from('left over')).reset()
        for (const piece of pieces) crc.update(piece)
        expect(hex(crc)).toBe(reference(Buffer.concat(pieces)))
      }),
    )
  })

  it('appends a block of which only the CRC is known', () => {
    fc.assert(
      fc.property(bytes, bytes, bytes, (first, block, last) => {
        const known = new Crc64().update(block)
        const crc = new Crc64()
          .update(first)
          .append(new Crc64Appender(block.length), known.high, known.low)
          .update(last)
        expect(hex(crc)).toBe(reference(Buffer.concat([first, block, last])))
      }),
      { numRuns: 30 },
    )
  })

  it('tells what a difference becomes after more bytes', () => {
    fc.assert(
      fc.property(bytes, bytes, fc.uint8Array({ minLength: 5, maxLength: 5 }), (rest, a, xor) => {
        const one = Buffer.concat([a, Buffer.alloc(5, 1)])
        const two = Buffer.from(one)
        xor.forEach((value, i) => {
          two[a.length + i] = two[a.length + i]! ^ value
        })
        const before = [new Crc64().update(one), new Crc64().update(two)] as const
        const moved = shiftByBytes(
          { high: before[0].high ^ before[1].high, low: before[0].low ^ before[1].low },
          rest.length,
        )
        const after = new Crc64().update(one).update(rest)
        expect(hex({ high: after.high ^ moved.high, low: after.low ^ moved.low })).toBe(
          reference(Buffer.concat([two, rest])),
        )
      }),
    )
  })

  it('takes numbers as four big-endian bytes', () => {
    expect(hex(new Crc64().update(Buffer.of(9)).updateUint32BE(0xfe020304))).toBe(
      reference(Buffer.of(9, 0xfe, 2, 3, 4)),
    )
  })

  it('refuses ranges outside its bytes', () => {
    expect(() => new Crc64().update(Buffer.alloc(4), 2, 5)).toThrow('CRC over bytes')
    expect(() => new Crc64().update(Buffer.alloc(4), 3, 2)).toThrow('CRC over bytes')
  })
})

describe('page checksums', () => {
  it('are those of ltx v0.3.14', () => {
    const out = new Uint32Array(4)
    pageChecksum(1, Buffer.alloc(512), 0, 512, out)
    pageChecksum(2, Buffer.alloc(512, 0x61), 0, 512, out, 2)
    expect(Array.from(out, (half) => half.toString(16))).toEqual(['efb1f44f', 'ecd99000', 'fbcad017', '64511888'])
  })

  it('are the CRC of page number and page with bit 63 set, from either function', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 0xffffffff }),
        fc.uint8Array({ minLength: 512, maxLength: 512 }),
        fc.nat({ max: 7 }),
        (pgno, page, shift) => {
          const number = Buffer.alloc(4)
          number.writeUInt32BE(pgno)
          const crc = reference(Buffer.concat([number, page]))
          const flagged = (BigInt(`0x${crc}`) | (1n << 63n)).toString(16)
          const source = Buffer.concat([Buffer.alloc(shift), page])
          const out = new Uint32Array(2)
          pageChecksum(pgno, source, shift, 512, out)
          expect(hex({ high: out[0]!, low: out[1]! })).toBe(flagged)
          const pageCrc = new PageCrc(512)
          pageCrc.compute(pgno, new DataView(source.buffer, source.byteOffset, source.length), shift)
          expect(hex(pageCrc)).toBe(flagged)
          expect(hex({ high: pageCrc.crcHigh, low: pageCrc.low })).toBe(crc)
        },
      ),
    )
  })
})
