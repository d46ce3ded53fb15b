import { describe, expect, it } from 'vitest'
import { type Checksum, EMPTY_CHECKSUM } from '../position/checksum.ts'
import type { Txid } from '../position/txid.ts'
import { LtxPageOrder, snapshotPageCount } from './ltx-page-order.ts'

const PAGE_SIZE = 65536
const LOCK_PAGE = 16385

function order(minTxid: bigint, commit: number): LtxPageOrder {
  return new LtxPageOrder({ pageSize: PAGE_SIZE, commit, minTxid: minTxid as Txid })
}

describe('the order of pages', () => {
  it('is ascending in an incremental LTX', () => {
    const pages = order(2n, 20)
    expect(pages.next(3)).toBeUndefined()
    expect(pages.next(20)).toBeUndefined()
    expect(pages.next(20)).toContain('page 20 follows')
    expect(pages.next(4)).toContain('page 4 follows')
    expect(pages.pageCount).toBe(2)
    expect(pages.end(EMPTY_CHECKSUM)).toBeUndefined()
  })

  it('ends at the size of the database', () => {
    expect(order(2n, 20).next(21)).toContain('beyond')
    expect(order(2n, 0).next(1)).toContain('beyond')
  })

  it('leaves the lock page out of an incremental LTX', () => {
    const pages = order(2n, LOCK_PAGE + 5)
    expect(pages.next(LOCK_PAGE - 1)).toBeUndefined()
    expect(pages.next(LOCK_PAGE)).toContain('lock page')
    expect(pages.next(LOCK_PAGE + 1)).toBeUndefined()
  })

  it('has no gap in a snapshot', () => {
    const pages = order(1n, 20)
    expect(pages.next(2)).toContain('page 2 follows page 0')
    expect(pages.next(1)).toBeUndefined()
    expect(pages.next(3)).toContain('page 3 follows page 1')
    expect(pages.next(1)).toContain('page 1 follows page 1')
    expect(pages.next(2)).toBeUndefined()
  })

  it.each([LOCK_PAGE - 1, LOCK_PAGE, LOCK_PAGE + 1])('steps over the lock page in a snapshot of %i pages', (commit) => {
    const pages = order(1n, commit)
    for (let pgno = 1; pgno < LOCK_PAGE; pgno++) {
      if (pages.next(pgno) !== undefined) throw new Error(`page ${pgno} refused`)
    }
    if (commit > LOCK_PAGE) {
      expect(pages.end(EMPTY_CHECKSUM)).toContain('ends after page 16384')
      expect(pages.next(LOCK_PAGE)).toContain('lock page')
      expect(pages.next(LOCK_PAGE + 1)).toBeUndefined()
    }
    expect(pages.end(EMPTY_CHECKSUM)).toBeUndefined()
    expect(pages.pageCount).toBe(snapshotPageCount(commit, PAGE_SIZE))
  })

  it('a snapshot needs all its pages and their checksum', () => {
    const pages = order(1n, 2)
    pages.next(1)
    pages.addChecksum(0x80000001, 2)
    expect(pages.end(pages.checksum)).toContain('ends after page 1')
    pages.next(2)
    pages.addChecksum(0xc0000001, 5)
    expect(pages.checksum).toBe(0xc000000000000007n)
    expect(pages.end(0xc000000000000007n as Checksum)).toBeUndefined()
    expect(pages.end(0xc000000000000006n as Checksum)).toContain('c000000000000007')
  })
})
