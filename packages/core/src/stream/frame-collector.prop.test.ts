import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Delivery, FrameCollector } from './frame-collector.ts'
import { fakeLtx } from './test-support/fake-database.ts'
import { dropDb, END, heartbeat, hwm, ltxFrame, READY } from './test-support/raw-primary.ts'

type Step =
  | { readonly kind: 'record' | 'snapshot'; readonly payloadBytes: number; readonly chunkBytes: number }
  | { readonly kind: 'ready' | 'end' | 'dropped' | 'heartbeat' | 'hwm' }

const ltxStep = fc.record({
  kind: fc.constantFrom('record' as const, 'snapshot' as const),
  payloadBytes: fc.oneof(fc.integer({ min: 0, max: 2000 }), fc.constantFrom(262_144 - 116, 262_144, 700_000)),
  chunkBytes: fc.constantFrom(1000, 32_768, 65_535),
})
const otherStep = fc.record({ kind: fc.constantFrom('ready', 'end', 'dropped', 'heartbeat', 'hwm') } as const)

test('whatever the frames and wherever they are cut, all of them are delivered whole and in order', () => {
  const steps = fc.array(fc.oneof<fc.Arbitrary<Step>[]>(ltxStep, otherStep), { maxLength: 12 })
  const cuts = fc.array(fc.integer({ min: 1, max: 100_000 }), { minLength: 1, maxLength: 20 })
  fc.assert(
    fc.property(steps, cuts, (given, lengths) => {
      const expected: string[] = []
      const body = Buffer.concat(given.map((step, i) => encode(step, i, expected)))
      const collector = new FrameCollector('n.db', 1_000_000)
      const seen: string[] = []
      const state = { snapshot: [] as Buffer[] }
      for (let at = 0, i = 0; at < body.length; i++) {
        const length = lengths[i % lengths.length]!
        collector.push(body.subarray(at, at + length))
        at += length
        if (i % 3 !== 1) for (const delivery of collector.take()) note(delivery, seen, state)
      }
      for (const delivery of collector.take()) note(delivery, seen, state)
      expect(seen).toEqual(expected)
    }),
    { numRuns: 60 },
  )
})

function encode(step: Step, i: number, expected: string[]): Buffer {
  switch (step.kind) {
    case 'record':
    case 'snapshot': {
      const ltx = fakeLtx(step.kind === 'snapshot' ? 1 : i + 2, i + 2, step.payloadBytes)
      expected.push(`${step.kind} ${digest(ltx)}`)
      return ltxFrame('n.db', ltx, step.chunkBytes)
    }
    case 'hwm':
      return hwm('n.db') // passed over
    default: {
      expected.push(step.kind)
      return { ready: READY, end: END, dropped: dropDb('n.db'), heartbeat: heartbeat(5) }[step.kind]
    }
  }
}

function note(delivery: Delivery, seen: string[], state: { snapshot: Buffer[] }): void {
  switch (delivery.kind) {
    case 'records':
      for (const record of delivery.records) seen.push(`record ${digest(record)}`)
      break
    case 'snapshot-begin':
      state.snapshot = []
      break
    case 'snapshot-data':
      expect(delivery.bytes.length).toBeGreaterThan(0)
      state.snapshot.push(delivery.bytes) // kept without a copy: given-away blocks must not change any more
      break
    case 'snapshot-end':
      seen.push(`snapshot ${digest(Buffer.concat(state.snapshot))}`)
      break
    default:
      seen.push(delivery.kind)
  }
}

function digest(bytes: Buffer): string {
  let sum = 0
  for (let i = 0; i < bytes.length; i += 61) sum = (Math.imul(sum, 31) + bytes[i]!) | 0
  return `${bytes.length}:${sum}`
}
