/** I10: from their epoch tables two nodes find out where their histories part, whoever was primary when. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Checksum, checksum, NO_CHECKSUM } from './checksum.ts'
import { type EpochStart, epoch, lastShared } from './epoch.ts'
import type { Position } from './position.ts'
import { txid } from './txid.ts'

/** A node of a model: every record ever written has a checksum of its own. */
class ModelNode {
  records: { epoch: number; checksum: Checksum }[] = []
  table: EpochStart[] = []

  get end(): Position {
    return this.at(this.records.length)
  }

  at(length: number): Position {
    return { txid: txid(BigInt(length)), checksum: length === 0 ? NO_CHECKSUM : this.records[length - 1]!.checksum }
  }

  /** Takes office, as `EpochFile.record` notes it, and writes. */
  write(epochNumber: number, checksums: readonly Checksum[]): void {
    const firstTxid = txid(BigInt(this.records.length + 1))
    const start = { epoch: epoch(epochNumber), firstTxid, checksumBefore: this.end.checksum }
    this.table = [...this.table.filter((earlier) => earlier.firstTxid < firstTxid), start]
    this.records.push(...checksums.map((written) => ({ epoch: epochNumber, checksum: written })))
  }

  /** Follows another node, up to a length, as `EpochFile.adopt` notes it. */
  follow(primary: ModelNode, length: number): void {
    this.records = primary.records.slice(0, length)
    this.table = primary.table.filter((start, i) => start.firstTxid !== primary.table[i + 1]?.firstTxid)
  }
}

const step = fc.oneof(
  fc.record({ kind: fc.constant('write' as const), node: fc.nat(3), records: fc.nat(4) }),
  fc.record({ kind: fc.constant('follow' as const), node: fc.nat(3), primary: fc.nat(3), lag: fc.nat(3) }),
)

test('the last shared position is the end of the longest common run of records, in both directions', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), fc.nat(3), fc.nat(3), fc.nat(4), (steps, a, b, missing) => {
      const nodes = [0, 1, 2, 3].map(() => new ModelNode())
      let next = 1
      for (const given of steps) {
        const node = nodes[given.node]!
        if (given.kind === 'write') {
          const written = Array.from({ length: given.records }, () => checksum((1n << 63n) | BigInt(next++)))
          node.write(next++, written)
        } else if (given.primary !== given.node) {
          const primary = nodes[given.primary]!
          node.follow(primary, Math.max(0, primary.records.length - given.lag))
        }
      }
      const [one, two] = [nodes[a]!, nodes[b]!]
      let common = 0
      while (common < one.records.length && one.records[common]?.checksum === two.records[common]?.checksum) common++
      const found = lastShared({ epochs: one.table, end: one.end }, { epochs: two.table, end: two.end })
      expect(found.txid).toBe(txid(BigInt(common)))
      expect(found.checksum).toBe(one.at(common).checksum)
      expect(lastShared({ epochs: two.table, end: two.end }, { epochs: one.table, end: one.end })).toEqual(found)
      // So do the epochs of the last records, also beside a table that is older than they are.
      const epochOfEnd = epoch(one.records.at(-1)?.epoch ?? 0)
      const told = { epochs: one.table, end: one.end, epoch: epochOfEnd }
      expect(lastShared(told, { epochs: two.table, end: two.end })).toEqual(found)
      if (common === one.records.length && common > 0)
        expect(lastShared({ ...told, epochs: [] }, { epochs: two.table, end: two.end })).toEqual(found)
      // A table without its oldest starts says as much about what it has, and claims nothing else to be different.
      const short = two.table.slice(missing)
      const unsure = lastShared({ epochs: one.table, end: one.end }, { epochs: short, end: two.end })
      if (short.length > 0) expect(unsure.txid).toBeGreaterThanOrEqual(found.txid)
    }),
    { numRuns: 2_000 },
  )
})
