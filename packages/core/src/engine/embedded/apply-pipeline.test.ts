/**
 * I1, I3 and I12 on a replica: a record is on disk before it is applied, applied before it is announced, and a queue that is full
 * makes the stream wait. The parts are stand-ins that write down what was asked of them, in order.
 */
import { expect, test } from 'vitest'
import type { WalApplier } from '../../apply/wal-applier.ts'
import { systemClock } from '../../base/clock.ts'
import { RecordChain } from '../../log/test-support/record-chain.ts'
import type { LogEntry, TransactionLog } from '../../log/transaction-log.ts'
import type { LtxRecord } from '../../ltx/ltx-record.ts'
import { epoch } from '../../position/epoch.ts'
import { ZERO_POSITION } from '../../position/position.ts'
import type { PositionTracker, TrackedPosition } from '../../position/position-tracker.ts'
import { ApplyPipeline, type ApplyParts } from './apply-pipeline.ts'

interface Failing {
  readonly sync?: Error
  readonly apply?: Error
}

function scenario(failing: Failing = {}, queueBytesMax?: number) {
  const steps: string[] = []
  const failures: unknown[] = []
  const step = (name: string, txids: readonly bigint[]): void => void steps.push(`${name} ${txids.join(' ')}`)
  const end = { position: ZERO_POSITION, epoch: epoch(1) }
  let appended: readonly bigint[] = []
  const parts: ApplyParts = {
    database: 'app.db',
    clock: systemClock,
    log: {
      start: end,
      tail: end,
      append: (entries: readonly LogEntry[]) => {
        appended = entries.map((entry) => entry.record.txid)
        step('log', appended)
      },
      sync: async () => {
        const txids = appended
        await new Promise((resolve) => setImmediate(resolve))
        if (failing.sync !== undefined) throw failing.sync
        step('on disk', txids)
      },
    } as unknown as TransactionLog,
    applier: {
      position: ZERO_POSITION,
      walBytes: 0,
      needsPause: false,
      apply: (records: readonly LtxRecord[]) => {
        if (failing.apply !== undefined) throw failing.apply
        step(
          'apply',
          records.map((record) => record.txid),
        )
      },
      checkpoint: () => ({ kind: 'nothing' }),
      settled: () => Promise.resolve(),
    } as unknown as WalApplier,
    tracker: {
      advance: (positions: readonly TrackedPosition[]) =>
        step(
          'announce',
          positions.map(({ position }) => position.txid),
        ),
    } as unknown as PositionTracker,
    epochOf: () => epoch(1),
    onVisible: () => undefined,
    onProgress: () => undefined,
    fail: (error) => void failures.push(error),
  }
  const pipeline = new ApplyPipeline(parts, queueBytesMax)
  return { pipeline, steps, failures }
}

const encoded = (count: number): Buffer[] => new RecordChain().take(count).map((record) => record.bytes)

test('I1, I3: a record is on disk before it is applied, and applied before it is announced', async () => {
  const { pipeline, steps } = scenario()
  await pipeline.accept(encoded(2))
  await pipeline.settled()
  expect(steps).toEqual(['log 1 2', 'on disk 1 2', 'apply 1 2', 'announce 1 2'])
})

test('I1: what could not be made durable is neither applied nor announced', async () => {
  const sync = new Error('the disk is gone')
  const { pipeline, steps, failures } = scenario({ sync })
  await pipeline.accept(encoded(1))
  await pipeline.settled()
  expect(steps).toEqual(['log 1'])
  expect(failures).toEqual([sync])
})

test('I3: what could not be applied is not announced', async () => {
  const apply = new Error('the disk is full')
  const { pipeline, steps, failures } = scenario({ apply })
  await pipeline.accept(encoded(1))
  await pipeline.settled()
  expect(steps).toEqual(['log 1', 'on disk 1'])
  expect(failures).toEqual([apply])
})

test('I2: a record that does not continue what was accepted is refused', () => {
  const { pipeline } = scenario()
  expect(() => pipeline.accept(encoded(2).slice(1))).toThrow(expect.objectContaining({ code: 'POSITION_DIVERGED' }))
})

test('I12: above its bound the queue makes the stream wait until it has room', async () => {
  const records = encoded(4)
  const { pipeline, steps } = scenario({}, records[0]!.length * 2)
  expect(pipeline.accept(records.slice(0, 2))).toBeUndefined()
  const waiting = pipeline.accept(records.slice(2))
  expect(waiting).toBeInstanceOf(Promise)
  expect(steps).toEqual([])
  await waiting
  expect(steps.length).toBeGreaterThan(0)
  await pipeline.stop()
  expect(steps.at(-1)).toBe('announce 1 2 3 4')
})
