/**
 * LZ4 frames (LZ4 Frame Format 1.6), the compressed page block of an LTX. All integers are little-endian.
 *
 *   magic 0x184d2204; flags; block size code; [content size u64]; descriptor hash: second byte of xxh32(descriptor)
 *   blocks: u32 length (top bit: stored as is), the block, [block checksum u32]; a length of 0 ends the frame
 *   [content checksum: xxh32 of everything uncompressed]
 *
 * LiteFS 0.5.14 writes (pierrec/lz4 v4.1.17) blocks of at most 64 KiB, independent, with content checksum and without block
 * checksums; so do we. Read is any frame without dictionary, with two remarks: block checksums are skipped (that writer
 * computes them over other bytes than the specification says, and the content is covered anyway), and linked blocks are
 * understood.
 *
 * The library does blocks, the frame is ours: its own frame reader wants the whole frame and puts no bound on the result.
 * Memory: one block, compressed and not, of the size the frame declares (64 KiB – 4 MiB), plus 64 KiB when linked.
 */
import { compressSync, uncompressSync } from 'lz4-napi'
import { assert } from '../base/assert.ts'
import { ByteCollector } from '../base/byte-collector.ts'
import { corruptLtx } from './ltx-header.ts'
import { Xxh32 } from './xxh32.ts'

const MAGIC = 0x184d2204
const STORED = 0x80000000
/** Version 1, independent blocks, content checksum. */
const FLAGS_WRITTEN = 0x64
const VERSION_MASK = 0xc0
const VERSION_1 = 0x40
const INDEPENDENT = 0x20
const BLOCK_CHECKSUM = 0x10
const CONTENT_SIZE = 0x08
const CONTENT_CHECKSUM = 0x04
/** Reserved bit and dictionary id. */
const REFUSED = 0x03
const BLOCK_CODE_64_KIB = 4
const BLOCK_BYTES_WRITTEN = 65536
const BLOCK_BYTES_MAX = 4 * 1024 * 1024
/** How far back a linked block may refer. */
const WINDOW_BYTES = 65536
/** No block becomes more than so many times its length: a byte says at most 255 bytes more of a match. */
const EXPANSION_MAX = 255
/** The library's blocks begin with their uncompressed length. */
const PREFIX_BYTES = 4

/** One frame holding `bytes`. */
export function encodeLz4Frame(bytes: Buffer): Buffer {
  const start = Buffer.alloc(7)
  start.writeUInt32LE(MAGIC, 0)
  start[4] = FLAGS_WRITTEN
  start[5] = BLOCK_CODE_64_KIB << 4
  start[6] = descriptorHash(start.subarray(4, 6))
  const parts: Buffer[] = [start]
  for (let at = 0; at < bytes.length; at += BLOCK_BYTES_WRITTEN) {
    const block = bytes.subarray(at, at + BLOCK_BYTES_WRITTEN)
    // The length in front of the library's block is overwritten with the one a frame wants.
    const compressed = compressSync(block)
    const compressedBytes = compressed.length - PREFIX_BYTES
    if (compressedBytes < block.length) {
      compressed.writeUInt32LE(compressedBytes, 0)
      parts.push(compressed)
    } else {
      const length = Buffer.alloc(4)
      length.writeUInt32LE((block.length | STORED) >>> 0)
      parts.push(length, block)
    }
  }
  const end = Buffer.alloc(8)
  end.writeUInt32LE(new Xxh32().update(bytes).digest(), 4)
  parts.push(end)
  return Buffer.concat(parts)
}

/**
 * The content of exactly one frame, in pieces.
 * @param contentBytesMax more content than that is refused
 * @throws ClusterError `CORRUPT_DATA`
 */
export function decodeLz4Frame(frame: Buffer, contentBytesMax: number): readonly Buffer[] {
  const pieces: Buffer[] = []
  let contentBytes = 0
  const reader = new Lz4FrameReader((piece) => {
    contentBytes += piece.length
    if (contentBytes > contentBytesMax) throw corruptLtx('the LZ4 frame holds more than its pages')
    pieces.push(piece)
  })
  const end = reader.push(frame, 0)
  if (!reader.isComplete) throw corruptLtx('the LZ4 frame is cut off')
  if (end !== frame.length) throw corruptLtx(`${frame.length - end} bytes follow the LZ4 frame`)
  return pieces
}

type Field = 'magic' | 'descriptor' | 'block-length' | 'block' | 'block-checksum' | 'content-checksum' | 'none'

/** Decodes one frame from chunks of any length. */
export class Lz4FrameReader {
  readonly #output: (content: Buffer) => void
  readonly #collector = new ByteCollector(BLOCK_BYTES_MAX)
  readonly #hash = new Xxh32()
  #field: Field = 'magic'
  #fieldBytes = 6
  /** Flags and block size code, as the descriptor hash wants them. */
  readonly #descriptor = Buffer.alloc(2)
  #flags = 0
  #blockBytesMax = 0
  #blockIsStored = false
  #contentBytes = 0
  #declaredBytes: bigint | undefined
  /** Linked blocks only: the last 64 KiB of content. */
  #window: Buffer = Buffer.alloc(0)
  /** A block behind the length that the library wants. */
  #scratch: Buffer = Buffer.alloc(0)

  /** @param output given the content piece by piece; a piece is valid during the call, unless the frame came in one chunk */
  constructor(output: (content: Buffer) => void) {
    this.#output = output
  }

  /** The end of the frame was read and its content checksum was right. */
  get isComplete(): boolean {
    return this.#field === 'none'
  }

  /**
   * Reads on from `chunk` at `from` and returns where it stopped: the end of the chunk, or of the frame.
   * @throws ClusterError `CORRUPT_DATA`; the reader is of no use afterwards
   */
  push(chunk: Buffer, from: number): number {
    let at = from
    while (this.#field !== 'none') {
      const field = this.#collector.take(chunk, at, this.#fieldBytes)
      at = this.#collector.next
      if (field === undefined) break
      this.#accept(field)
    }
    return at
  }

  #accept(field: Buffer): void {
    switch (this.#field) {
      case 'magic':
        return this.#acceptMagic(field)
      case 'descriptor':
        return this.#acceptDescriptor(field)
      case 'block-length':
        return this.#acceptBlockLength(field.readUInt32LE(0))
      case 'block':
        this.#acceptBlock(field)
        return this.#flags & BLOCK_CHECKSUM ? this.#expect('block-checksum', 4) : this.#expect('block-length', 4)
      case 'block-checksum':
        return this.#expect('block-length', 4)
      case 'content-checksum':
        if (field.readUInt32LE(0) !== this.#hash.digest())
          throw corruptLtx('the content checksum of the LZ4 frame is wrong')
        return this.#complete()
      default:
        assert(false, 'LZ4 frame: a field after the end')
    }
  }

  #expect(field: Field, fieldBytes: number): void {
    this.#field = field
    this.#fieldBytes = fieldBytes
  }

  /** Magic, flags and block size code. */
  #acceptMagic(field: Buffer): void {
    if (field.readUInt32LE(0) !== MAGIC) throw corruptLtx('the page block is not an LZ4 frame')
    const flags = field[4]!
    const code = field[5]!
    if ((flags & VERSION_MASK) !== VERSION_1 || (flags & REFUSED) !== 0)
      throw corruptLtx(`LZ4 frame flags 0x${flags.toString(16)}`)
    if ((code & 0x8f) !== 0 || code >>> 4 < 4) throw corruptLtx(`LZ4 block size code 0x${code.toString(16)}`)
    this.#flags = flags
    this.#blockBytesMax = 1 << (8 + 2 * (code >>> 4))
    this.#descriptor[0] = flags
    this.#descriptor[1] = code
    this.#expect('descriptor', flags & CONTENT_SIZE ? 9 : 1)
  }

  /** Content size, if any, and the hash of the descriptor. */
  #acceptDescriptor(field: Buffer): void {
    const optional = field.subarray(0, field.length - 1)
    if (optional.length > 0) this.#declaredBytes = optional.readBigUInt64LE(0)
    const hash = descriptorHash(Buffer.concat([this.#descriptor, optional]))
    if (field[field.length - 1] !== hash) throw corruptLtx('the descriptor of the LZ4 frame is damaged')
    this.#expect('block-length', 4)
  }

  #acceptBlockLength(length: number): void {
    if (length === 0) {
      if (this.#flags & CONTENT_CHECKSUM) this.#expect('content-checksum', 4)
      else this.#complete()
      return
    }
    const blockBytes = length & ~STORED
    this.#blockIsStored = (length & STORED) !== 0
    if (blockBytes > this.#blockBytesMax) throw corruptLtx(`LZ4 block of ${blockBytes} bytes`)
    this.#expect('block', blockBytes)
  }

  #acceptBlock(block: Buffer): void {
    const content = this.#blockIsStored ? block : this.#uncompress(block)
    this.#contentBytes += content.length
    if (this.#flags & CONTENT_CHECKSUM) this.#hash.update(content)
    if (!(this.#flags & INDEPENDENT)) {
      const joined = Buffer.concat([this.#window, content])
      this.#window = joined.subarray(Math.max(0, joined.length - WINDOW_BYTES))
    }
    this.#output(content)
  }

  #uncompress(block: Buffer): Buffer {
    if (this.#scratch.length < PREFIX_BYTES + block.length)
      this.#scratch = Buffer.allocUnsafeSlow(PREFIX_BYTES + Math.max(block.length, BLOCK_BYTES_WRITTEN))
    // An upper bound where the library expects the exact length: it allocates that much and cuts the result. A frame of many
    // tiny blocks must not pay for the largest block each time.
    this.#scratch.writeUInt32LE(Math.min(this.#blockBytesMax, block.length * EXPANSION_MAX), 0)
    block.copy(this.#scratch, PREFIX_BYTES)
    const prefixed = this.#scratch.subarray(0, PREFIX_BYTES + block.length)
    try {
      return this.#window.length === 0 ? uncompressSync(prefixed) : uncompressSync(prefixed, this.#window)
    } catch (error) {
      throw corruptLtx('an LZ4 block cannot be decoded', error)
    }
  }

  #complete(): void {
    if (this.#declaredBytes !== undefined && this.#declaredBytes !== BigInt(this.#contentBytes))
      throw corruptLtx(`the LZ4 frame holds ${this.#contentBytes} bytes, not ${this.#declaredBytes}`)
    this.#expect('none', 0)
  }
}

function descriptorHash(descriptor: Buffer): number {
  return (new Xxh32().update(descriptor).digest() >>> 8) & 255
}
