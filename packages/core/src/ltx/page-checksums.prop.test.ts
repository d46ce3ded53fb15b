import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { CHECKSUM_FLAG, EMPTY_CHECKSUM, formatChecksum } from '../position/checksum.ts'
import { PageChecksums } from './page-checksums.ts'

const PAGE_SIZE = 65536
const LOCK_PAGE = 16385

type Model = { pages: Map<number, bigint>; pageCount: number }

type Step =
  | { readonly kind: 'set'; readonly pgno: number; readonly high: number; readonly low: number }
  | { readonly kind: 'truncate'; readonly to: number }
  | { readonly kind: 'apply'; readonly commit: number; readonly pages: readonly (readonly [number, number, number])[] }

const flagged = fc.integer({ min: 0x80000000, max: 0xffffffff })
const half = fc.integer({ min: 0, max: 0xffffffff })
const pgno = fc.oneof(fc.integer({ min: 1, max: 600 }), fc.integer({ min: LOCK_PAGE - 2, max: LOCK_PAGE + 2 }))
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constant('set' as const), pgno, high: flagged, low: half }),
  fc.record({ kind: fc.constant('truncate' as const), to: fc.nat({ max: 20_000 }) }),
  fc.record({
    kind: fc.constant('apply' as const),
    commit: pgno,
    pages: fc.array(fc.tuple(pgno, flagged, half), { maxLength: 5 }),
  }),
)

function run(checksums: PageChecksums, model: Model, { kind, ...rest }: Step): void {
  const set = (page: number, high: number, low: number): void => {
    model.pageCount = Math.max(model.pageCount, page)
    if (page !== LOCK_PAGE) model.pages.set(page, (BigInt(high) << 32n) | BigInt(low))
  }
  const cut = (to: number): void => {
    model.pageCount = to
    for (const page of model.pages.keys()) if (page > to) model.pages.delete(page)
  }
  const one = { kind, ...rest } as Step
  if (one.kind === 'set') {
    checksums.set(one.pgno, one.high, one.low)
    set(one.pgno, one.high, one.low)
  } else if (one.kind === 'truncate') {
    const to = Math.min(one.to, checksums.pageCount)
    checksums.truncate(to)
    cut(to)
  } else {
    const pages = one.pages.filter(([page]) => page <= one.commit)
    const highLow = Uint32Array.from(pages.flatMap(([, high, low]) => [high, low]))
    const answer = checksums.apply(
      pages.map(([page]) => page),
      highLow,
      one.commit,
    )
    cut(Math.min(model.pageCount, one.commit))
    model.pageCount = one.commit
    for (const [page, high, low] of pages) set(page, high, low)
    expect(answer).toBe(checksums.checksum)
  }
}

function expectSame(checksums: PageChecksums, model: Model): void {
  let sum = 0n
  for (const value of model.pages.values()) sum ^= value
  expect(formatChecksum(checksums.checksum)).toBe(formatChecksum((sum | CHECKSUM_FLAG) as never))
  expect(checksums.pageCount).toBe(model.pageCount)
  for (const page of [...model.pages.keys(), LOCK_PAGE, model.pageCount, model.pageCount + 1, 700])
    expect((BigInt(checksums.high(page)) << 32n) | BigInt(checksums.low(page))).toBe(model.pages.get(page) ?? 0n)
}

describe('PageChecksums', () => {
  it('an empty database has the empty checksum', () => {
    expect(new PageChecksums(4096).checksum).toBe(EMPTY_CHECKSUM)
    expect(new PageChecksums(4096).pageCount).toBe(0)
  })

  it('the database checksum of the known two pages is that of ltx v0.3.14', () => {
    const checksums = new PageChecksums(512)
    checksums.apply([1, 2], Uint32Array.of(0xefb1f44f, 0xecd99000, 0xfbcad017, 0x64511888), 2)
    expect(formatChecksum(checksums.checksum)).toBe('947b245888888888')
    checksums.truncate(0)
    expect(checksums.checksum).toBe(EMPTY_CHECKSUM)
  })

  it('does what a plain map does, under any steps', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const checksums = new PageChecksums(PAGE_SIZE)
        const model: Model = { pages: new Map(), pageCount: 0 }
        for (const one of steps) run(checksums, model, one)
        expectSame(checksums, model)
      }),
    )
  })

  it('undo puts everything back, commitUndo keeps it', () => {
    fc.assert(
      fc.property(fc.array(step), fc.array(step), fc.boolean(), (before, during, keep) => {
        const checksums = new PageChecksums(PAGE_SIZE)
        const model: Model = { pages: new Map(), pageCount: 0 }
        for (const one of before) run(checksums, model, one)
        const kept: Model = { pages: new Map(model.pages), pageCount: model.pageCount }
        checksums.beginUndo()
        for (const one of during) run(checksums, model, one)
        if (keep) checksums.commitUndo()
        else checksums.undo()
        expectSame(checksums, keep ? model : kept)
      }),
    )
  })

  it('the saved form brings everything back, and copies are independent', () => {
    fc.assert(
      fc.property(fc.array(step), (steps) => {
        const checksums = new PageChecksums(PAGE_SIZE)
        const model: Model = { pages: new Map(), pageCount: 0 }
        for (const one of steps) run(checksums, model, one)
        const saved = checksums.toBuffer()
        const copy = checksums.clone()
        expect(saved.length).toBe(model.pageCount * 8)
        checksums.set(1, 0x80000001, 1)
        checksums.truncate(0)
        expectSame(copy, model)
        expectSame(PageChecksums.fromBuffer(PAGE_SIZE, saved), model)
      }),
    )
  })

  it('an undo is neither nested nor invented, and bad input is refused', () => {
    const checksums = new PageChecksums(4096)
    expect(() => checksums.undo()).toThrow('no undo')
    expect(() => checksums.commitUndo()).toThrow('no undo')
    checksums.beginUndo()
    expect(() => checksums.beginUndo()).toThrow('open already')
    expect(() => checksums.set(0, 0, 0)).toThrow('page number')
    expect(() => checksums.truncate(1)).toThrow('truncation')
    expect(() => checksums.apply([3], Uint32Array.of(0x80000000, 0), 2)).toThrow('page 3')
    expect(() => PageChecksums.fromBuffer(4096, Buffer.alloc(9))).toThrow('9 bytes')
  })
})
