/**
 * LTX files that no encoder writes, each with a right file checksum, so that only the rule in question can refuse them.
 */
import { describe, expect, it } from 'vitest'
import { isClusterError } from '../errors/cluster-error.ts'
import { checksumFromHalves, EMPTY_CHECKSUM, NO_CHECKSUM } from '../position/checksum.ts'
import type { Txid } from '../position/txid.ts'
import { Crc64 } from './crc64.ts'
import { encodeLtxHeader } from './ltx-header.ts'
import { decodeLtxRecord } from './ltx-record.ts'
import { LtxStreamReader } from './ltx-stream-reader.ts'
import { encodeLz4Frame } from './lz4-frame.ts'

const PAGE_SIZE = 512

/** Page numbers with a page each; `'end'` is the end mark. */
type Piece = number | 'end'

function pageBlock(pieces: readonly Piece[]): Buffer {
  return Buffer.concat(
    pieces.map((piece) => {
      if (piece === 'end') return Buffer.alloc(4)
      const page = Buffer.alloc(4 + PAGE_SIZE, piece)
      page.writeUInt32BE(piece)
      return page
    }),
  )
}

interface Crafted {
  readonly pieces: readonly Piece[]
  readonly compressed: boolean
  /** What the file checksum covers instead of `pieces`. */
  readonly covered?: readonly Piece[]
  readonly commit?: number
  readonly minTxid?: bigint
  /** Bytes 80–99, which the format keeps zero. */
  readonly reserved?: Buffer
}

function craft({
  pieces,
  compressed,
  covered = pieces,
  commit = 100,
  minTxid = 2n,
  reserved = Buffer.alloc(20),
}: Crafted): Buffer {
  const header = encodeLtxHeader({
    compressed,
    pageSize: PAGE_SIZE,
    commit,
    minTxid: minTxid as Txid,
    maxTxid: 2n as Txid,
    timestampMs: 0,
    preApplyChecksum: minTxid === 1n ? NO_CHECKSUM : EMPTY_CHECKSUM,
    walOffset: 0,
    walBytes: 0,
    walSalt1: 0,
    walSalt2: 0,
    nodeId: 0n,
  })
  reserved.copy(header, 80)
  const block = pageBlock(pieces)
  const trailer = Buffer.alloc(16)
  trailer.writeBigUInt64BE(EMPTY_CHECKSUM, 0)
  const crc = new Crc64().update(header).update(pageBlock(covered)).update(trailer, 0, 8)
  trailer.writeBigUInt64BE(checksumFromHalves(crc.high, crc.low), 8)
  return Buffer.concat([header, compressed ? encodeLz4Frame(block) : block, trailer])
}

function isAccepted(read: () => unknown): boolean {
  try {
    read()
    return true
  } catch (error) {
    if (isClusterError(error, 'CORRUPT_DATA')) return false
    throw error
  }
}

/** What decoder and stream reader say; they must agree. */
function verdict(crafted: Crafted): boolean {
  const bytes = craft(crafted)
  const nothing = (): void => undefined
  const decoded = isAccepted(() => decodeLtxRecord(Buffer.from(bytes)))
  const streamed = isAccepted(() => {
    const reader = new LtxStreamReader({ header: nothing, page: nothing, end: nothing })
    reader.push(bytes)
    reader.finish()
  })
  expect(streamed).toBe(decoded)
  return decoded
}

describe.each([false, true])('a crafted LTX, compressed: %s', (compressed) => {
  it.each<[string, Omit<Crafted, 'compressed'>, boolean]>([
    ['pages and an end mark', { pieces: [1, 7, 'end'] }, true],
    ['reserved bytes in the header', { pieces: [1, 'end'], reserved: Buffer.alloc(20, 1) }, true],
    ['no end mark', { pieces: [1, 7] }, false],
    ['no end mark and no pages', { pieces: [] }, false],
    ['pages behind the end mark', { pieces: [1, 'end', 7, 'end'] }, false],
    ['pages behind the end mark, not in the checksum', { pieces: [1, 'end', 7], covered: [1, 'end'] }, false],
    ['an end mark only in the checksum', { pieces: [1], covered: [1, 'end'] }, false],
    ['two end marks', { pieces: [1, 'end', 'end'] }, false],
    ['pages in descending order', { pieces: [7, 1, 'end'] }, false],
    ['a page twice', { pieces: [7, 7, 'end'] }, false],
    ['a page beyond the size', { pieces: [101, 'end'] }, false],
    ['pages in a drop', { pieces: [1, 'end'], commit: 0 }, false],
    ['a snapshot without its last page', { pieces: [1, 'end'], commit: 2, minTxid: 1n }, false],
    ['a snapshot with a wrong checksum of the database', { pieces: [1, 'end'], commit: 1, minTxid: 1n }, false],
  ])('with %s', (_, crafted, accepted) => {
    expect(verdict({ ...crafted, compressed })).toBe(accepted)
  })
})

describe('a compressed LTX with reserved bytes in its header', () => {
  it('keeps them, so that its uncompressed form has a right checksum too', () => {
    const reserved = Buffer.alloc(20, 0x5a)
    const record = decodeLtxRecord(craft({ pieces: [3, 'end'], compressed: true, reserved }))
    expect(record.bytes.equals(craft({ pieces: [3, 'end'], compressed: false, reserved }))).toBe(true)
  })
})
