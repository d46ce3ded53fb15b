import { randomBytes } from 'node:crypto'
import { compressFrameSync, compressSync, decompressFrameSync } from 'lz4-napi'
import { describe, expect, it } from 'vitest'
import { isClusterError } from '../errors/cluster-error.ts'
import { decodeLz4Frame, encodeLz4Frame, Lz4FrameReader } from './lz4-frame.ts'
import { Xxh32 } from './xxh32.ts'

const NO_LIMIT = 1 << 30
const text = Buffer.from(Array.from({ length: 20_000 }, (_, i) => `row ${i} of many; `).join(''))

interface FrameShape {
  readonly flags: number
  readonly blocks: readonly Buffer[]
  readonly content: Buffer
  readonly declaredBytes?: number
}

/** Builds a frame with any flags, after the specification and independent of the encoder. */
function frameOf({ flags, blocks, content, declaredBytes }: FrameShape): Buffer {
  const descriptor = Buffer.alloc(declaredBytes === undefined ? 2 : 10)
  descriptor[0] = flags
  descriptor[1] = 0x40
  if (declaredBytes !== undefined) descriptor.writeBigUInt64LE(BigInt(declaredBytes), 2)
  const hash = Buffer.of((new Xxh32().update(descriptor).digest() >>> 8) & 255)
  const parts: Buffer[] = [Buffer.from('04224d18', 'hex'), descriptor, hash]
  for (const block of blocks) {
    const length = Buffer.alloc(4)
    length.writeUInt32LE(block.length)
    parts.push(length, block)
    if (flags & 0x10) parts.push(Buffer.from('anything'.slice(0, 4)))
  }
  parts.push(Buffer.alloc(4))
  const checksum = Buffer.alloc(4)
  checksum.writeUInt32LE(new Xxh32().update(content).digest())
  if (flags & 0x04) parts.push(checksum)
  return Buffer.concat(parts)
}

/** A raw block. */
function block(content: Buffer, dictionary?: Buffer): Buffer {
  return (dictionary === undefined ? compressSync(content) : compressSync(content, dictionary)).subarray(4)
}

function refuses(frame: Buffer, limit = NO_LIMIT): void {
  let caught: unknown
  try {
    decodeLz4Frame(frame, limit)
  } catch (error) {
    caught = error
  }
  expect(isClusterError(caught, 'CORRUPT_DATA')).toBe(true)
}

describe('LZ4 frames', () => {
  it.each([
    ['nothing', Buffer.alloc(0)],
    ['one byte', Buffer.from('x')],
    ['text over several blocks', text],
    ['random bytes, which are stored as they are', randomBytes(200_000)],
    ['exactly one block', Buffer.alloc(65536, 'ab')],
  ])('%s come back from our frame and from the library', (_, content) => {
    const frame = encodeLz4Frame(content)
    expect(frame.subarray(0, 7).toString('hex')).toBe('04224d186440a7')
    expect(Buffer.concat(decodeLz4Frame(frame, content.length)).equals(content)).toBe(true)
    if (content.length > 0) expect(decompressFrameSync(frame).equals(content)).toBe(true)
  })

  it('frames of the library with large blocks are read', () => {
    for (const options of [{ contentChecksum: true }, { contentChecksum: false }]) {
      const frame = compressFrameSync(text, options)
      expect(Buffer.concat(decodeLz4Frame(frame, NO_LIMIT)).equals(text)).toBe(true)
    }
  })

  it('content size and block checksums are understood, and a wrong size is refused', () => {
    const content = text.subarray(0, 1000)
    const blocks = [block(content)]
    const good = frameOf({ flags: 0x40 | 0x20 | 0x10 | 0x08 | 0x04, blocks, content, declaredBytes: 1000 })
    expect(Buffer.concat(decodeLz4Frame(good, NO_LIMIT)).equals(content)).toBe(true)
    refuses(frameOf({ flags: 0x40 | 0x20 | 0x08, blocks, content, declaredBytes: 999 }))
  })

  it('linked blocks are read', () => {
    const pieces = [0, 1, 2, 3].map((i) => text.subarray(i * 30_000, (i + 1) * 30_000))
    const blocks = pieces.map((piece, i) => {
      const before = text.subarray(Math.max(0, i * 30_000 - 65536), i * 30_000)
      return i === 0 ? block(piece) : block(piece, before)
    })
    const content = Buffer.concat(pieces)
    const frame = frameOf({ flags: 0x44, blocks, content })
    expect(Buffer.concat(decodeLz4Frame(frame, NO_LIMIT)).equals(content)).toBe(true)
  })

  it('dictionaries, reserved bits, other versions and sizes are refused', () => {
    const content = Buffer.from('x')
    for (const flags of [0x65, 0x66, 0xa4, 0x24]) refuses(frameOf({ flags, blocks: [block(content)], content }))
    const sizeCode = encodeLz4Frame(content)
    sizeCode[5] = 0x30
    refuses(sizeCode)
  })

  it('a block longer than the frame declares is refused before it is read', () => {
    const content = Buffer.from('x')
    const frame = frameOf({ flags: 0x64, blocks: [Buffer.alloc(65537)], content })
    refuses(frame.subarray(0, 11))
  })

  it('a block that grows beyond the declared size is refused', () => {
    const content = Buffer.alloc(100_000)
    refuses(frameOf({ flags: 0x64, blocks: [block(content)], content }))
  })

  it('content beyond the limit is refused', () => {
    const frame = encodeLz4Frame(Buffer.alloc(1_000_000))
    refuses(frame, 999_999)
    expect(Buffer.concat(decodeLz4Frame(frame, 1_000_000)).length).toBe(1_000_000)
  })

  it('a cut frame and bytes behind it are refused', () => {
    const frame = encodeLz4Frame(text.subarray(0, 500))
    for (let length = 0; length < frame.length; length++) refuses(frame.subarray(0, length))
    refuses(Buffer.concat([frame, Buffer.alloc(1)]))
  })

  it('a changed bit in the descriptor, the end mark or the content checksum is refused', () => {
    const frame = encodeLz4Frame(text.subarray(0, 500))
    const positions = [0, 1, 2, 3, 4, 5, 6, ...Array.from({ length: 8 }, (_, i) => frame.length - 1 - i)]
    for (const at of positions) {
      for (let bit = 0; bit < 8; bit++) {
        const damaged = Buffer.from(frame)
        damaged[at] = damaged[at]! ^ (1 << bit)
        refuses(damaged)
      }
    }
  })

  it('a descriptor is refused when only its hash is wrong', () => {
    const frame = encodeLz4Frame(Buffer.from('x'))
    frame[6] = frame[6]! ^ 1
    refuses(frame)
  })

  it('a reader says where the frame ended', () => {
    const frame = encodeLz4Frame(text)
    const pieces: Buffer[] = []
    const reader = new Lz4FrameReader((piece) => pieces.push(Buffer.from(piece)))
    const joined = Buffer.concat([Buffer.from('ab'), frame, Buffer.from('cd')])
    let at = 2
    for (let end = 100; !reader.isComplete; end += 777) at = reader.push(joined.subarray(0, end), at)
    expect(at).toBe(joined.length - 2)
    expect(Buffer.concat(pieces).equals(text)).toBe(true)
  })
})
