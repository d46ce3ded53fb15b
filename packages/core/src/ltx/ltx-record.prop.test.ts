import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isClusterError } from '../errors/cluster-error.ts'
import { type Checksum, CHECKSUM_FLAG, EMPTY_CHECKSUM, NO_CHECKSUM } from '../position/checksum.ts'
import type { Txid } from '../position/txid.ts'
import { compressLtxRecord, LtxRecordBuilder } from './ltx-encoder.ts'
import { decodeLtxRecord, type LtxRecord, ltxBytes } from './ltx-record.ts'
import { LtxStreamReader } from './ltx-stream-reader.ts'
import { PageChecksums } from './page-checksums.ts'

interface Content {
  readonly pageSize: number
  readonly isSnapshot: boolean
  /** Ascending. */
  readonly pgnos: readonly number[]
  /** One byte value for each page; 0 stands for bytes that do not compress. */
  readonly fills: readonly number[]
}

const content: fc.Arbitrary<Content> = fc
  .tuple(
    fc.constantFrom(512, 1024, 4096),
    fc.boolean(),
    fc.uniqueArray(fc.integer({ min: 1, max: 5000 }), { maxLength: 12 }),
    fc.array(fc.nat({ max: 255 }), { minLength: 12, maxLength: 12 }),
  )
  .map(([pageSize, isSnapshot, pgnos, fills]) => ({
    pageSize,
    isSnapshot,
    pgnos: isSnapshot ? pgnos.map((_, i) => i + 1) : pgnos.toSorted((a, b) => a - b),
    fills,
  }))

function pageBytes({ pageSize, fills }: Content, i: number): Buffer {
  const fill = fills[i] ?? 0
  if (fill !== 0) return Buffer.alloc(pageSize, `page filled with ${fill}; `)
  const page = Buffer.alloc(pageSize)
  for (let at = 0, state = i + 1; at < pageSize; at += 4) {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + at
    page.writeInt32LE(state | 0, at)
  }
  return page
}

function build(given: Content): LtxRecord {
  const { pageSize, isSnapshot, pgnos } = given
  const builder = new LtxRecordBuilder({
    pageSize,
    commit: isSnapshot ? pgnos.length : 6000,
    pageCount: pgnos.length,
    minTxid: (isSnapshot ? 1n : 41n) as Txid,
    maxTxid: 41n as Txid,
    timestampMs: 1_700_000_000_000,
    preApplyChecksum: isSnapshot ? NO_CHECKSUM : EMPTY_CHECKSUM,
    walOffset: 32,
    walBytes: 1,
    walSalt1: 2,
    walSalt2: 3,
    nodeId: 4n,
  })
  const checksums = new PageChecksums(pageSize)
  pgnos.forEach((pgno, i) => {
    const source = Buffer.concat([Buffer.alloc(i), pageBytes(given, i)])
    builder.addPage(pgno, source, i)
    checksums.set(pgno, builder.checksumHigh, builder.checksumLow)
  })
  return builder.finish(checksums.checksum)
}

/** What the record says, in a form that compares. */
function said(record: LtxRecord): unknown {
  const { bytes: _, ...rest } = record
  return { ...rest, pages: Array.from(record.pgnos(), (pgno, i) => [pgno, record.page(i).toString('base64')]) }
}

/** The record, or `undefined` when it is refused as corrupt. */
function decode(bytes: Buffer): LtxRecord | undefined {
  try {
    return decodeLtxRecord(bytes)
  } catch (error) {
    if (isClusterError(error, 'CORRUPT_DATA')) return undefined
    throw error
  }
}

/** The pages a stream reader saw, or `undefined` when it refused. */
function readStream(bytes: Buffer, cuts: readonly number[]): unknown {
  const pages: [number, string][] = []
  const reader = new LtxStreamReader({
    header: () => undefined,
    page: (pgno, page) => pages.push([pgno, page.toString('base64')]),
    end: () => undefined,
  })
  const ends = [...new Set(cuts.map((cut) => cut % (bytes.length + 1))), bytes.length].toSorted((a, b) => a - b)
  try {
    let at = 0
    for (const end of ends) {
      reader.push(Buffer.from(bytes.subarray(at, end)))
      at = end
    }
    reader.finish()
    return pages
  } catch (error) {
    if (isClusterError(error, 'CORRUPT_DATA')) return undefined
    throw error
  }
}

const cuts = fc.array(fc.nat({ max: 100_000 }), { maxLength: 12 })

describe('records', () => {
  it('come back from their bytes, plain and compressed', () => {
    fc.assert(
      fc.property(content, (given) => {
        const record = build(given)
        expect(record.bytes.length).toBe(ltxBytes(given.pgnos.length, given.pageSize))
        expect(Array.from(record.pgnos())).toEqual(given.pgnos)
        given.pgnos.forEach((_, i) => expect(record.page(i).equals(pageBytes(given, i))).toBe(true))
        expect(said(decodeLtxRecord(Buffer.from(record.bytes)))).toEqual(said(record))
        const fromCompressed = decodeLtxRecord(compressLtxRecord(record))
        expect(fromCompressed.bytes.equals(record.bytes)).toBe(true)
        expect(said(fromCompressed)).toEqual(said(record))
      }),
    )
  })

  it('are read the same from a stream, wherever it is cut', () => {
    fc.assert(
      fc.property(content, cuts, fc.boolean(), (given, where, compressed) => {
        const record = build(given)
        const bytes = compressed ? compressLtxRecord(record) : record.bytes
        const pages = Array.from(record.pgnos(), (pgno, i) => [pgno, record.page(i).toString('base64')])
        expect(readStream(bytes, where)).toEqual(pages)
      }),
    )
  })

  it('a changed byte is always noticed', () => {
    fc.assert(
      fc.property(content, fc.nat(), fc.integer({ min: 1, max: 255 }), cuts, (given, position, change, where) => {
        const bytes = build(given).bytes
        const at = position % bytes.length
        bytes[at] = bytes[at]! ^ change
        expect(decode(bytes)).toBeUndefined()
        expect(readStream(bytes, where)).toBeUndefined()
      }),
      { numRuns: 400 },
    )
  })

  it('a changed byte in a compressed one is noticed, unless it still stands for the same pages', () => {
    fc.assert(
      fc.property(content, fc.nat(), fc.integer({ min: 1, max: 255 }), cuts, (given, position, change, where) => {
        const record = build(given)
        const bytes = compressLtxRecord(record)
        const at = position % bytes.length
        bytes[at] = bytes[at]! ^ change
        const decoded = decode(bytes)
        if (decoded !== undefined) expect(said(decoded)).toEqual(said(record))
        expect(readStream(bytes, where) === undefined).toBe(decoded === undefined)
      }),
      { numRuns: 400 },
    )
  })

  it('cut off or continued ones are refused', () => {
    fc.assert(
      fc.property(content, fc.nat(), fc.boolean(), cuts, (given, length, compressed, where) => {
        const record = build(given)
        const bytes = compressed ? compressLtxRecord(record) : record.bytes
        for (const wrong of [bytes.subarray(0, length % bytes.length), Buffer.concat([bytes, Buffer.alloc(1)])]) {
          expect(decode(wrong)).toBeUndefined()
          expect(readStream(wrong, where)).toBeUndefined()
        }
      }),
    )
  })

  it('a snapshot whose pages do not make its checksum is never built, and one that claims it is refused', () => {
    const given: Content = { pageSize: 512, isSnapshot: true, pgnos: [1, 2], fills: [1, 2] }
    const record = build(given)
    const wrong = (record.postApply.checksum ^ 1n) as Checksum
    const builder = new LtxRecordBuilder({ ...record.header, pageCount: 2 })
    for (let i = 0; i < 2; i++) builder.addPage(i + 1, record.bytes, record.pageOffset(i))
    expect(() => builder.finish(wrong)).toThrow('checksum')
    // An incremental LTX may claim anything: only who applies it can tell.
    const claim = new LtxRecordBuilder({
      ...record.header,
      minTxid: 41n as Txid,
      preApplyChecksum: EMPTY_CHECKSUM,
      pageCount: 2,
    })
    for (let i = 0; i < 2; i++) claim.addPage(i + 1, record.bytes, record.pageOffset(i))
    expect(claim.finish(wrong).postApply.checksum).toBe(wrong)
  })
})

describe('the record builder', () => {
  const options = {
    pageSize: 512,
    commit: 10,
    pageCount: 2,
    minTxid: 2n as Txid,
    maxTxid: 2n as Txid,
    timestampMs: 0,
    preApplyChecksum: EMPTY_CHECKSUM,
    walOffset: 0,
    walBytes: 0,
    walSalt1: 0,
    walSalt2: 0,
    nodeId: 0n,
  }
  const page = Buffer.alloc(512)

  it('refuses pages out of order, beyond the size, too many and too few', () => {
    const builder = new LtxRecordBuilder(options)
    builder.addPage(5, page, 0)
    expect(() => new LtxRecordBuilder(options).addPage(11, page, 0)).toThrow('beyond')
    expect(() => builder.finish(CHECKSUM_FLAG as Checksum)).toThrow('fewer pages')
    expect(() => builder.addPage(5, page, 0)).toThrow('follows page 5')
    expect(() => builder.addPage(6, page, 1)).toThrow('beyond the end of its source')
    builder.addPage(6, page, 0)
    expect(() => builder.addPage(7, page, 0)).toThrow('more pages')
    expect(builder.finish(CHECKSUM_FLAG as Checksum).pageCount).toBe(2)
  })

  it('refuses a post-apply checksum that no decoder would accept', () => {
    const dropped = { ...options, commit: 0, pageCount: 0 }
    expect(() => new LtxRecordBuilder(dropped).finish((CHECKSUM_FLAG | 1n) as Checksum)).toThrow('dropped')
    expect(() => new LtxRecordBuilder(dropped).finish(NO_CHECKSUM)).toThrow('flag')
    expect(new LtxRecordBuilder(dropped).finish(EMPTY_CHECKSUM).commit).toBe(0)
  })
})
