import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { txid } from '../position/txid.ts'
import { type LogOptions, resolveLogOptions } from './log-options.ts'
import { type PrunableSegment, prunableCount, type RetentionState } from './retention.ts'
import { bytesOf, entriesOf, openLog, readAll } from './test-support/log-fixture.ts'
import { RecordChain } from './test-support/record-chain.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import { interceptedDisk } from './test-support/intercepted-disk.ts'
import { realDisk } from '../files/disk.ts'

/** Three segments of 100 bytes that end at TXIDs 10, 20, 30, written at 1000, 2000, 3000 ms; 50 bytes follow. */
const SEGMENTS: readonly PrunableSegment[] = [10n, 20n, 30n].map((lastTxid, i) => ({
  bytes: 100,
  lastTxid: txid(lastTxid),
  newestMs: 1_000 * (i + 1),
}))

function count(options: LogOptions, state: Partial<RetentionState> = {}): number {
  const everything = { logBytes: 350, nowMs: 3_500, keepAfter: undefined, durableInDatabase: txid(99n) }
  return prunableCount(SEGMENTS, resolveLogOptions({ retentionMs: 1e9, ...options }), { ...everything, ...state })
}

describe('what is removed', () => {
  test('nothing while it is young and small', () => {
    expect(count({ retentionBytes: 350 })).toBe(0)
  })
  test('segments whose newest record is older than the age', () => {
    expect(count({ retentionMs: 1_000 })).toBe(2)
    expect(count({ retentionMs: 1_500 })).toBe(1)
    expect(count({ retentionMs: 0 })).toBe(3)
  })
  test('the oldest segments while the log is larger than its bytes', () => {
    expect(count({ retentionBytes: 349 })).toBe(1)
    expect(count({ retentionBytes: 200 })).toBe(2)
    expect(count({ retentionBytes: 0 })).toBe(3)
  })
  test('nothing that a connected replica needs, however old', () => {
    expect(count({ retentionMs: 0 }, { keepAfter: txid(20n) })).toBe(2)
    expect(count({ retentionMs: 0 }, { keepAfter: txid(19n) })).toBe(1)
    expect(count({ retentionMs: 0 }, { keepAfter: txid(0n) })).toBe(0)
  })
  test('even what a connected replica needs above the stated limit, and no more than that', () => {
    const options = { retentionBytes: 60, retentionBytesMax: 260 }
    expect(count(options, { keepAfter: txid(0n) })).toBe(1)
    expect(count({ ...options, retentionBytesMax: 350 }, { keepAfter: txid(0n) })).toBe(0)
    expect(count({ retentionBytes: 60 }, { keepAfter: txid(0n) })).toBe(2)
  })
  test('nothing that the database file does not hold yet, whatever the limits say', () => {
    const options = { retentionMs: 0, retentionBytes: 0, retentionBytesMax: 0 }
    expect(count(options, { durableInDatabase: txid(20n) })).toBe(2)
    expect(count(options, { durableInDatabase: txid(9n), keepAfter: txid(0n) })).toBe(0)
  })
})

describe('a log', () => {
  let directory = ''
  beforeEach(() => {
    directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-log-'))
  })
  afterEach(() => fs.rmSync(directory, { recursive: true, force: true }))

  test('prunes whole segments, begins after them, and is the same when it is opened again', async () => {
    const chain = new RecordChain()
    const old = chain.take(12, 1, 1_000)
    const young = chain.take(4, 1, 9_000)
    const log = openLog(directory, { nowMs: 10_000, retentionMs: 5_000 })
    log.append(entriesOf([...old, ...young]))
    const before = log.bytes
    const pruned = log.prune({ durableInDatabase: chain.position.txid })
    expect(pruned).toEqual({ removedBytes: before - log.bytes, removedRecords: 12 })
    expect(log.start.position).toEqual(old[11]!.postApply)
    expect(log.readAfter(old[3]!.postApply, 1)).toEqual({ kind: 'gone' })
    expect(readAll(log)).toEqual(bytesOf(young))
    expect(log.prune({ durableInDatabase: chain.position.txid })).toEqual({ removedBytes: 0, removedRecords: 0 })
    await log.close()
    const again = openLog(directory)
    expect(again.start.position).toEqual(old[11]!.postApply)
    expect(again.recovery.droppedSegments).toBe(0)
    await again.close()
  })

  test('keeps the newest record, whatever the limits say', async () => {
    const chain = new RecordChain()
    const log = openLog(directory, { nowMs: 1e9, retentionMs: 0, retentionBytes: 0 })
    log.append(entriesOf(chain.take(13)))
    log.prune({ durableInDatabase: chain.position.txid })
    expect(log.readRecord(chain.position.txid)).toBeDefined()
    expect(log.lastRecordHeader()?.maxTxid).toBe(13n)
    await log.close()
  })

  test('a pruning that is cut off half-way brings nothing back that has a gap behind it', async () => {
    let isDead = false
    const disk = interceptedDisk(realDisk, (call) => {
      // The first removal is lost, as a power cut may lose it; the second one happens.
      if (call.operation === 'log.prune' && call.method === 'remove' && !isDead) {
        isDead = true
        return undefined
      }
      if (call.operation === 'log.prune' && call.method === 'syncDirectory')
        throw new ClusterError('STORAGE_FAILED', 'crash')
      return call.run()
    })
    const chain = new RecordChain()
    const records = chain.take(22)
    const log = openLog(directory, { disk, nowMs: 1e9, retentionMs: 0, retentionBytes: 1e9 })
    log.append(entriesOf(records))
    log.syncNow()
    expect(() => log.prune({ durableInDatabase: txid(13n) })).toThrow()
    const again = openLog(directory)
    expect(again.start.position).toEqual(records[11]!.postApply)
    expect(again.recovery).toMatchObject({ droppedSegments: 1, cutBytes: 0 })
    await again.close()
    await log.close()
  })
})
