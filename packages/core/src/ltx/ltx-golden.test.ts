/**
 * Golden files: written by superfly/ltx v0.3.14, the library of LiteFS 0.5.14 (test/fixtures/ltx/generate), with what that
 * library says about each of them in fixtures.json.
 */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { type Checksum, formatChecksum } from '../position/checksum.ts'
import { formatTxid } from '../position/txid.ts'
import { compressLtxRecord, LtxRecordBuilder } from './ltx-encoder.ts'
import { type LtxHeader, parseLtxHeader } from './ltx-header.ts'
import { decodeLtxRecord, type LtxRecord } from './ltx-record.ts'
import { LtxSnapshotWriter } from './ltx-snapshot-writer.ts'
import { LtxStreamReader } from './ltx-stream-reader.ts'

interface Described {
  readonly file: string
  readonly compressed: boolean
  readonly pageSize: number
  readonly commit: number
  readonly minTxid: string
  readonly maxTxid: string
  readonly timestampMs: number
  readonly preApplyChecksum: string
  readonly walOffset: number
  readonly walBytes: number
  readonly walSalt1: number
  readonly walSalt2: number
  readonly nodeId: string
  readonly postApplyChecksum: string
  readonly fileChecksum: string
  readonly pages: readonly { readonly pgno: number; readonly checksum: string }[]
}

const DIRECTORY = new URL('../../../../test/fixtures/ltx/', import.meta.url)
const fixtures = JSON.parse(readFileSync(new URL('fixtures.json', DIRECTORY), 'utf8')) as readonly Described[]

function read(file: string): Buffer {
  return readFileSync(new URL(file, DIRECTORY))
}

function hex(high: number, low: number): string {
  return [high, low].map((half) => half.toString(16).padStart(8, '0')).join('')
}

function describeHeader(header: LtxHeader): Omit<Described, 'file' | 'postApplyChecksum' | 'fileChecksum' | 'pages'> {
  const { minTxid, maxTxid, preApplyChecksum, nodeId, ...same } = header
  return {
    ...same,
    minTxid: formatTxid(minTxid),
    maxTxid: formatTxid(maxTxid),
    preApplyChecksum: formatChecksum(preApplyChecksum),
    nodeId: nodeId.toString(16).padStart(16, '0'),
  }
}

function describePages(record: LtxRecord): Described['pages'] {
  return Array.from(record.pgnos(), (pgno, i) => ({
    pgno,
    checksum: hex(record.pageChecksumHigh(i), record.pageChecksumLow(i)),
  }))
}

function rebuild(record: LtxRecord): LtxRecord {
  const builder = new LtxRecordBuilder({ ...record.header, pageCount: record.pageCount })
  for (let i = 0; i < record.pageCount; i++) {
    builder.addPage(record.pgno(i), record.bytes, record.pageOffset(i))
    expect(builder.checksumHigh).toBe(record.pageChecksumHigh(i))
    expect(builder.checksumLow).toBe(record.pageChecksumLow(i))
  }
  return builder.finish(record.postApply.checksum)
}

describe.each(fixtures)('$file', (fixture) => {
  const { file, postApplyChecksum, fileChecksum, pages, ...header } = fixture
  const plainFile = file.replace('.lz4.', '.plain.')

  it('has the header the library wrote', () => {
    expect(describeHeader(parseLtxHeader(read(file)))).toEqual(header)
  })

  it('decodes to the pages and checksums the library names, always uncompressed', () => {
    const record = decodeLtxRecord(read(file))
    expect(describeHeader(record.header)).toEqual({ ...header, compressed: false })
    expect(describePages(record)).toEqual(pages)
    expect(formatChecksum(record.postApply.checksum)).toBe(postApplyChecksum)
    expect(formatTxid(record.postApply.txid)).toBe(header.maxTxid)
    expect(formatChecksum(record.preApply.checksum)).toBe(header.preApplyChecksum)
    expect(record.preApply.txid).toBe(record.header.minTxid - 1n)
    expect(record.isSnapshot).toBe(header.minTxid === '0000000000000001')
    expect(record.bytes.equals(read(plainFile))).toBe(true)
  })

  it('is built again byte for byte', () => {
    const again = rebuild(decodeLtxRecord(read(file)))
    expect(again.bytes.equals(read(plainFile))).toBe(true)
  })

  it('compressed by us has the file checksum of the compressed form, and decodes to the same', () => {
    const compressed = compressLtxRecord(decodeLtxRecord(read(file)))
    const golden = read(file.replace('.plain.', '.lz4.'))
    expect(compressed.subarray(0, 100).equals(golden.subarray(0, 100))).toBe(true)
    expect(compressed.subarray(-16).equals(golden.subarray(-16))).toBe(true)
    expect(decodeLtxRecord(compressed).bytes.equals(read(plainFile))).toBe(true)
  })

  it.each([1, 5, 4099, 1 << 20])('is read from a stream in chunks of %i bytes', (chunkBytes) => {
    const bytes = read(file)
    const seen: { pgno: number; checksum: string }[] = []
    const content: Buffer[] = []
    let ended: readonly [string, string] | undefined
    let seenHeader: LtxHeader | undefined
    const reader = new LtxStreamReader({
      header: (given) => {
        seenHeader = given
      },
      page: (pgno, page, high, low) => {
        seen.push({ pgno, checksum: hex(high, low) })
        content.push(Buffer.from(page))
      },
      end: (trailer) => {
        ended = [formatChecksum(trailer.postApplyChecksum), formatChecksum(trailer.fileChecksum)]
      },
    })
    let completeBeforeLast = false
    for (let at = 0; at < bytes.length; at += chunkBytes) {
      completeBeforeLast ||= reader.isComplete
      reader.push(bytes.subarray(at, at + chunkBytes))
    }
    reader.finish()
    expect(completeBeforeLast).toBe(false)
    expect(describeHeader(seenHeader!)).toEqual(header)
    expect(seen).toEqual(pages)
    expect(ended).toEqual([postApplyChecksum, fileChecksum])
    const record = decodeLtxRecord(read(plainFile))
    content.forEach((page, i) => expect(page.equals(record.page(i))).toBe(true))
  })
})

describe.each(fixtures.filter(({ minTxid, compressed }) => minTxid === '0000000000000001' && !compressed))(
  'snapshot $file',
  ({ file }) => {
    it('is written again byte for byte, page by page and in runs', () => {
      const bytes = read(file)
      const record = decodeLtxRecord(bytes)
      const database = Buffer.concat(Array.from({ length: record.pageCount }, (_, i) => record.page(i)))
      for (const runPages of [1, 7]) {
        const { pageSize, commit, maxTxid, timestampMs, nodeId } = record.header
        const writer = new LtxSnapshotWriter({ pageSize, commit, maxTxid, timestampMs, nodeId })
        const parts = [writer.header()]
        for (let pgno = 1; pgno <= commit; pgno += runPages) {
          const run = database.subarray((pgno - 1) * pageSize, (pgno - 1 + runPages) * pageSize)
          parts.push(runPages === 1 ? writer.page(pgno, run) : writer.pages(pgno, run))
        }
        expect(writer.checksum).toBe(record.postApply.checksum)
        parts.push(writer.end(record.postApply.checksum))
        expect(Buffer.concat(parts).equals(bytes)).toBe(true)
        expect(writer.totalBytes).toBe(bytes.length)
      }
    })
  },
)

describe('known vectors of ltx v0.3.14', () => {
  it('the compressed snapshot of two pages is these 167 bytes', () => {
    const vector = Buffer.from(
      '4c5458310000000100000200000000020000000000000001000000000000000100000000000003e8000000000000000000000000000000000000000000000000' +
        '000000000000000011223344556677880000000000000000000000000000000000000000' +
        '04224d186440a7200000005f00000001000100fff02f02610100ffe2000200b0616161616161610000000000000000948c81d7947b245888888888df40583505a20872',
      'hex',
    )
    expect(vector.length).toBe(167)
    expect(read('vector-snapshot-512.lz4.ltx').equals(vector)).toBe(true)
    expect(decodeLtxRecord(vector).postApply.checksum).toBe(0x947b245888888888n as Checksum)
  })

  it('the compressed drop ends in these bytes', () => {
    const tail = '04224d186440a704000080000000000000000069d9d60880000000000000009811fccb82010c94'
    expect(read('vector-drop-512.lz4.ltx').subarray(100).toString('hex')).toBe(tail)
    expect(read('vector-drop-512.lz4.ltx').length).toBe(139)
    expect(
      compressLtxRecord(decodeLtxRecord(read('vector-drop-512.plain.ltx')))
        .subarray(100)
        .toString('hex'),
    ).toBe(tail)
  })
})
