import { expect, test } from 'vitest'
import { FrameCollector } from './frame-collector.ts'
import { fakeLtx } from './test-support/fake-database.ts'
import { ltxFrame } from './test-support/raw-primary.ts'

test('a snapshot may be longer than the longest record, and comes in pieces of bounded size', () => {
  const collector = new FrameCollector('n.db', 65_536)
  const snapshot = fakeLtx(1, 9, 1_000_000)
  collector.push(ltxFrame('n.db', snapshot))
  const pieces = collector.take().flatMap((delivery) => (delivery.kind === 'snapshot-data' ? [delivery.bytes] : []))
  expect(Buffer.concat(pieces).equals(snapshot)).toBe(true)
  expect(Math.max(...pieces.map((piece) => piece.length))).toBeLessThanOrEqual(256 * 1024)
})

test('a record may be as long as allowed and not a byte longer', () => {
  const longest = fakeLtx(2, 2, 300_000 - 116)
  const collector = new FrameCollector('n.db', 300_000)
  collector.push(ltxFrame('n.db', longest))
  expect(collector.take()).toMatchObject([{ kind: 'records', records: [longest] }])
  expect(() => collector.push(ltxFrame('n.db', fakeLtx(3, 3, 300_000 - 115)))).toThrow(/longer than 300000 bytes/)
})

test('records share blocks, but what was given away is never overwritten', () => {
  const collector = new FrameCollector('n.db', 1_000_000)
  const records = Array.from({ length: 200 }, (_, i) => fakeLtx(i + 2, i + 2, 5000))
  const kept: Buffer[] = []
  for (const record of records) {
    collector.push(ltxFrame('n.db', record))
    for (const delivery of collector.take()) if (delivery.kind === 'records') kept.push(...delivery.records)
  }
  expect(kept).toEqual(records)
})
