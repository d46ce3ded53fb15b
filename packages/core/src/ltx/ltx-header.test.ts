import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isClusterError } from '../errors/cluster-error.ts'
import { type Checksum, EMPTY_CHECKSUM, NO_CHECKSUM } from '../position/checksum.ts'
import type { Txid } from '../position/txid.ts'
import { encodeLtxHeader, LTX_HEADER_BYTES, type LtxHeader, parseLtxHeader, parseLtxTrailer } from './ltx-header.ts'

const valid: LtxHeader = {
  compressed: false,
  pageSize: 4096,
  commit: 3,
  minTxid: 2n as Txid,
  maxTxid: 2n as Txid,
  timestampMs: 1_700_000_000_000,
  preApplyChecksum: EMPTY_CHECKSUM,
  walOffset: 32,
  walBytes: 4120,
  walSalt1: 0xffffffff,
  walSalt2: 1,
  nodeId: 0xffffffffffffffffn,
}

function isRefused(action: () => unknown): boolean {
  try {
    action()
    return false
  } catch (error) {
    return isClusterError(error, 'CORRUPT_DATA')
  }
}

function checksumOf(value: bigint): Checksum {
  return value as Checksum
}

describe('LTX headers', () => {
  it('any valid header comes back as it was', () => {
    const uint32 = fc.integer({ min: 0, max: 0xffffffff })
    const uint64 = fc.bigInt({ min: 1n, max: (1n << 64n) - 1n })
    const wal = fc.oneof(
      fc.constant({ walOffset: 0, walBytes: 0, walSalt1: 0, walSalt2: 0 }),
      fc.record({
        walOffset: fc.maxSafeNat().map((n) => Math.max(1, n)),
        walBytes: fc.integer({ min: 1 }),
        walSalt1: uint32,
        walSalt2: uint32,
      }),
    )
    const header = fc
      .tuple(
        fc.boolean(),
        fc.integer({ min: 9, max: 16 }),
        uint32,
        uint64,
        uint64,
        fc.maxSafeInteger(),
        fc.bigInt({ min: 1n << 63n, max: (1n << 64n) - 1n }),
        wal,
        uint64,
      )
      .map(([compressed, sizeBits, commit, a, b, timestampMs, checksum, fromWal, nodeId]): LtxHeader => {
        const minTxid = (a < b ? a : b) as Txid
        const preApplyChecksum = minTxid === 1n ? NO_CHECKSUM : checksumOf(checksum)
        const maxTxid = (a < b ? b : a) as Txid
        const pageSize = 2 ** sizeBits
        return { compressed, pageSize, commit, minTxid, maxTxid, timestampMs, preApplyChecksum, ...fromWal, nodeId }
      })
    fc.assert(
      fc.property(header, (given) => {
        const bytes = encodeLtxHeader(given)
        expect(bytes.length).toBe(LTX_HEADER_BYTES)
        expect(parseLtxHeader(bytes)).toEqual(given)
      }),
    )
  })

  it.each<[string, Partial<LtxHeader>]>([
    ['page size 1000', { pageSize: 1000 }],
    ['page size 0', { pageSize: 0 }],
    ['min TXID 0', { minTxid: 0n as Txid }],
    ['max before min', { minTxid: 3n as Txid }],
    ['a snapshot with a pre-apply checksum', { minTxid: 1n as Txid }],
    ['an incremental without pre-apply checksum', { preApplyChecksum: NO_CHECKSUM }],
    ['a pre-apply checksum without flag', { preApplyChecksum: checksumOf(5n) }],
    ['a WAL offset without WAL bytes', { walBytes: 0 }],
    ['WAL bytes without a WAL offset', { walOffset: 0, walSalt1: 0, walSalt2: 0 }],
    ['a salt without a WAL offset', { walOffset: 0, walBytes: 0, walSalt1: 0, walSalt2: 1 }],
    ['a negative WAL offset', { walOffset: -1 }],
    ['negative WAL bytes', { walBytes: -1 }],
  ])('%s is refused when read and never written', (_, change) => {
    const bad = { ...valid, ...change }
    expect(() => encodeLtxHeader(bad)).toThrow('LTX header')
    const bytes = encodeLtxHeader(valid)
    bytes.writeUInt32BE(bad.pageSize, 8)
    bytes.writeBigUInt64BE(bad.minTxid, 16)
    bytes.writeBigUInt64BE(bad.preApplyChecksum, 40)
    bytes.writeBigInt64BE(BigInt(bad.walOffset), 48)
    bytes.writeBigInt64BE(BigInt(bad.walBytes), 56)
    bytes.writeUInt32BE(bad.walSalt1, 64)
    bytes.writeUInt32BE(bad.walSalt2, 68)
    expect(isRefused(() => parseLtxHeader(bytes))).toBe(true)
  })

  it('another magic, unknown flags and too few bytes are refused', () => {
    const magic = encodeLtxHeader(valid)
    magic[3] = 0x32
    const flags = encodeLtxHeader(valid)
    flags[7] = 2
    const highFlag = encodeLtxHeader(valid)
    highFlag[4] = 0x80
    const short = encodeLtxHeader(valid).subarray(0, 99)
    for (const bytes of [magic, flags, highFlag, short]) expect(isRefused(() => parseLtxHeader(bytes))).toBe(true)
  })
})

describe('LTX trailers', () => {
  function trailer(post: bigint, file: bigint): Buffer {
    const bytes = Buffer.alloc(16)
    bytes.writeBigUInt64BE(post, 0)
    bytes.writeBigUInt64BE(file, 8)
    return bytes
  }

  it('need both flags, and the empty checksum for a dropped database', () => {
    const good = trailer(EMPTY_CHECKSUM | 7n, EMPTY_CHECKSUM | 9n)
    expect(parseLtxTrailer(good, valid).postApplyChecksum).toBe(EMPTY_CHECKSUM | 7n)
    const dropped = { ...valid, commit: 0 }
    expect(parseLtxTrailer(trailer(EMPTY_CHECKSUM, EMPTY_CHECKSUM), dropped).postApplyChecksum).toBe(EMPTY_CHECKSUM)
    expect(isRefused(() => parseLtxTrailer(good, dropped))).toBe(true)
    expect(isRefused(() => parseLtxTrailer(trailer(7n, EMPTY_CHECKSUM), valid))).toBe(true)
    expect(isRefused(() => parseLtxTrailer(trailer(EMPTY_CHECKSUM, 9n), valid))).toBe(true)
    expect(isRefused(() => parseLtxTrailer(good.subarray(1), valid))).toBe(true)
  })
})
