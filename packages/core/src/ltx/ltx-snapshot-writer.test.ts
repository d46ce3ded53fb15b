import { describe, expect, it } from 'vitest'
import { isClusterError } from '../errors/cluster-error.ts'
import { type Checksum, EMPTY_CHECKSUM } from '../position/checksum.ts'
import type { Txid } from '../position/txid.ts'
import { decodeLtxRecord } from './ltx-record.ts'
import { LtxSnapshotWriter } from './ltx-snapshot-writer.ts'
import { LtxStreamReader } from './ltx-stream-reader.ts'

function writer(commit: number, pageSize = 512): LtxSnapshotWriter {
  return new LtxSnapshotWriter({ pageSize, commit, maxTxid: 9n as Txid, timestampMs: 5, nodeId: 77n })
}

function code(action: () => unknown): unknown {
  try {
    return action()
  } catch (error) {
    return isClusterError(error) ? error.code : String(error)
  }
}

describe('the snapshot writer', () => {
  it('writes what the decoder accepts', () => {
    const snapshot = writer(3)
    const parts = [snapshot.header(), snapshot.page(1, Buffer.alloc(512, 1)), snapshot.pages(2, Buffer.alloc(1024, 2))]
    const post = snapshot.checksum
    const record = decodeLtxRecord(Buffer.concat([...parts, snapshot.end(post)]))
    expect(record.isSnapshot).toBe(true)
    expect(record.postApply).toEqual({ txid: 9n, checksum: post })
    expect(record.pageCount).toBe(3)
    expect(record.header.nodeId).toBe(77n)
    expect(record.bytes.length).toBe(snapshot.totalBytes)
  })

  it('a dropped database is a snapshot without pages', () => {
    const snapshot = writer(0)
    const record = decodeLtxRecord(Buffer.concat([snapshot.header(), snapshot.end(EMPTY_CHECKSUM)]))
    expect(record.commit).toBe(0)
    expect(record.pageCount).toBe(0)
  })

  it('leaves the lock page out, in a run and alone', () => {
    const pageSize = 65536
    const lockPage = 16385
    const commit = lockPage + 1
    const expected = writer(commit, pageSize)
    const run = Buffer.alloc(64 * pageSize)
    let pagesWritten = 0
    for (let pgno = 1; pgno < lockPage; pgno += 64) pagesWritten += expected.pages(pgno, run).length / (pageSize + 4)
    expect(expected.page(lockPage, run.subarray(0, pageSize)).length).toBe(0)
    const last = expected.pages(lockPage, run.subarray(0, 2 * pageSize))
    expect(last.length).toBe(4 + pageSize)
    expect(last.readUInt32BE(0)).toBe(lockPage + 1)
    expect(expected.end(expected.checksum).length).toBe(20)
    expect(expected.totalBytes).toBe(100 + (pagesWritten + 1) * (pageSize + 4) + 20)
  })

  it('refuses to end before the last page, or with a checksum the pages do not have', () => {
    const early = writer(2)
    early.page(1, Buffer.alloc(512))
    expect(code(() => early.end(early.checksum))).toBe('CORRUPT_DATA')
    const torn = writer(1)
    torn.page(1, Buffer.alloc(512))
    expect(code(() => torn.end((torn.checksum ^ 1n) as Checksum))).toBe('CORRUPT_DATA')
  })

  it('refuses a gap, a page of another size and a page beyond the size', () => {
    expect(code(() => writer(3).page(2, Buffer.alloc(512)))).toContain('page 2 follows page 0')
    expect(code(() => writer(3).page(1, Buffer.alloc(511)))).toContain('511 bytes')
    expect(code(() => writer(3).pages(1, Buffer.alloc(512 * 4)))).toContain('beyond')
    expect(code(() => writer(3).pages(1, Buffer.alloc(700)))).toContain('whole pages')
  })
})

describe('the stream reader', () => {
  it('refuses everything after an error of its own or of its visitor', () => {
    const snapshot = writer(1)
    const header = snapshot.header()
    const reader = new LtxStreamReader({
      header: () => {
        throw new RangeError('no room')
      },
      page: () => undefined,
      end: () => undefined,
    })
    expect(() => reader.push(header)).toThrow(RangeError)
    expect(code(() => reader.push(header))).toBe('CORRUPT_DATA')
    expect(code(() => reader.finish())).toBe('CORRUPT_DATA')
  })

  it('calls the visitor in order, and end only when all is right', () => {
    const calls: string[] = []
    const snapshot = writer(2)
    const body = [snapshot.header(), snapshot.pages(1, Buffer.alloc(1024, 7)), snapshot.end(snapshot.checksum)]
    const whole = Buffer.concat(body)
    const reader = new LtxStreamReader({
      header: ({ maxTxid }) => calls.push(`header ${maxTxid}`),
      page: (pgno, bytes) => calls.push(`page ${pgno} ${bytes.length}`),
      end: () => calls.push('end'),
    })
    reader.push(whole.subarray(0, whole.length - 1))
    expect(calls).toEqual(['header 9', 'page 1 512', 'page 2 512'])
    expect(code(() => reader.finish())).toBe('CORRUPT_DATA')
    reader.push(whole.subarray(whole.length - 1))
    expect(calls.at(-1)).toBe('end')
    expect(reader.isComplete).toBe(true)
    reader.finish()
  })
})
