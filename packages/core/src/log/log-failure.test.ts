/** What fails, how it stays failed, and what a log that is opened again then holds. */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ClusterError } from '../errors/cluster-error.ts'
import { type Disk, realDisk } from '../files/disk.ts'
import type { LtxRecord } from '../ltx/ltx-record.ts'
import { type DiskCall, interceptedDisk, writeHalf } from './test-support/intercepted-disk.ts'
import { bytesOf, entriesOf, FIRST_EPOCH, openLog, readAll } from './test-support/log-fixture.ts'
import { PowerCutDisk } from './test-support/power-cut-disk.ts'
import { RecordChain } from './test-support/record-chain.ts'
import type { TransactionLog } from './transaction-log.ts'

let directory = ''
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-log-'))
})
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }))

const storageFailed = expect.objectContaining({ code: 'STORAGE_FAILED' })
const diskFull = new ClusterError('STORAGE_FAILED', 'disk full', { details: { errno: 'ENOSPC' } })

/** A disk that does as told by `rule` where that answers with something. */
function ruled(rule: (call: DiskCall) => (() => unknown) | undefined): Disk {
  return interceptedDisk(realDisk, (call) => (rule(call) ?? call.run)())
}

function fail(): never {
  throw diskFull
}

test('disk full in the middle of an append: nothing of the batch is in the log, and the log goes on', async () => {
  let isFull = false
  const disk = ruled((call) => {
    if (!isFull || call.operation !== 'log.append') return undefined
    return () => {
      writeHalf(realDisk, call)
      fail()
    }
  })
  const log = openLog(directory, { disk })
  const chain = new RecordChain()
  const first = chain.take(2)
  log.append(entriesOf(first))
  const second = chain.take(2)
  isFull = true
  expect(() => log.append(entriesOf(second))).toThrow(diskFull)
  expect(readAll(log)).toEqual(bytesOf(first))
  expect(log.lastRecordHeader()).toEqual(first[1]!.header)
  isFull = false
  log.append(entriesOf(second))
  expect(readAll(log)).toEqual(bytesOf([...first, ...second]))
  await log.close()
  const again = openLog(directory)
  expect(again.recovery.cutBytes).toBe(0)
  expect(readAll(again)).toEqual(bytesOf([...first, ...second]))
  await again.close()
})

test.for([1, 2, 3, 4])(
  'disk full at write %i of an append over several segments: the new segments are gone again',
  async (nth) => {
    let writes = Number.POSITIVE_INFINITY
    const disk = ruled((call) => (call.operation === 'log.append' && --writes === 0 ? fail : undefined))
    const log = openLog(directory, { disk })
    const chain = new RecordChain()
    const first = chain.take(4)
    log.append(entriesOf(first))
    const names = fs.readdirSync(directory)
    const many = chain.take(20)
    writes = nth
    expect(() => log.append(entriesOf(many))).toThrow(diskFull)
    expect(fs.readdirSync(directory)).toEqual(names)
    expect(readAll(log)).toEqual(bytesOf(first))
    expect(log.tail.position).toEqual(first.at(-1)!.postApply)
    expect(log.syncedTail.position.txid).toBeLessThanOrEqual(log.tail.position.txid)
    log.append(entriesOf(many))
    await log.close()
    const again = openLog(directory)
    expect(readAll(again)).toEqual(bytesOf([...first, ...many]))
    await again.close()
  },
)

test('a new segment that cannot be made leaves no file and does not stop the log', async () => {
  let isFull = false
  const disk = ruled((call) =>
    isFull && call.method === 'write' && call.operation === 'log.new-segment' ? fail : undefined,
  )
  const log = openLog(directory, { disk })
  const chain = new RecordChain()
  const records = chain.take(7)
  log.append(entriesOf(records.slice(0, 6)))
  isFull = true
  expect(() => log.append(entriesOf(records.slice(6)))).toThrow(diskFull)
  expect(fs.readdirSync(directory)).toEqual(['0000000000000001.seg'])
  isFull = false
  log.append(entriesOf(records.slice(6)))
  expect(readAll(log)).toEqual(bytesOf(records))
  await log.close()
})

test('an append that failed and cannot be taken back stops the log until it is opened again', async () => {
  let isFull = false
  const disk = ruled((call) => {
    if (!isFull) return undefined
    if (call.operation === 'log.truncate') return fail
    if (call.operation !== 'log.append') return undefined
    return () => {
      writeHalf(realDisk, call)
      fail()
    }
  })
  const log = openLog(directory, { disk })
  const chain = new RecordChain()
  const first = chain.take(2)
  log.append(entriesOf(first))
  const second = chain.take(3)
  isFull = true
  expect(() => log.append(entriesOf(second))).toThrow(diskFull)
  isFull = false
  expect(() => log.append(entriesOf(second))).toThrow(storageFailed)
  expect(() => log.syncNow()).toThrow(storageFailed)
  expect(() => log.prune({ durableInDatabase: chain.position.txid })).toThrow(storageFailed)
  expect(() => log.reset(log.tail)).toThrow(storageFailed)
  await expect(log.sync()).rejects.toEqual(storageFailed)
  expect(readAll(log)).toEqual(bytesOf(first))
  await log.close()
  const again = openLog(directory)
  const read = readAll(again)
  expect(read).toEqual(bytesOf([...first, ...second]).slice(0, read.length))
  expect(read.length).toBeGreaterThanOrEqual(2)
  expect(again.recovery.cutBytes).toBeGreaterThan(0)
  again.append(entriesOf([...first, ...second].slice(read.length)))
  await again.close()
})

describe.for(['sync', 'syncNow'] as const)('a %s that fails is final', (way) => {
  /** Two records that are durable, then two whose sync fails once; `also` fails as well from then on. */
  async function failSync(
    also?: string,
  ): Promise<{ log: TransactionLog; records: LtxRecord[]; rewritten: () => number }> {
    let isBroken = false
    let rewritten = 0
    const disk = ruled((call) => {
      if (call.operation === 'log.rewrite') rewritten++
      if (!isBroken || (call.operation !== 'log.sync' && call.operation !== also)) return undefined
      return () => (call.method === 'dataSync' ? Promise.reject(diskFull) : fail())
    })
    const log = openLog(directory, { disk })
    const records = new RecordChain().take(4)
    log.append(entriesOf(records.slice(0, 2)))
    await log.sync()
    expect(log.syncedTail).toEqual(log.tail)
    log.append(entriesOf(records.slice(2)))
    isBroken = true
    if (way === 'sync') await expect(log.sync()).rejects.toBe(diskFull)
    else expect(() => log.syncNow()).toThrow(diskFull)
    isBroken = false
    return { log, records, rewritten: () => rewritten }
  }

  test('and what was not durable is written once more, to be durable when it is opened again', async () => {
    const { log, records, rewritten } = await failSync()
    await expect(log.sync()).rejects.toEqual(storageFailed)
    expect(() => log.syncNow()).toThrow(storageFailed)
    expect(() => log.append(entriesOf(records.slice(3)))).toThrow(storageFailed)
    expect(log.syncedTail.position).toEqual(records[1]!.postApply)
    expect(rewritten()).toBe(1)
    expect(readAll(log)).toEqual(bytesOf(records))
    await log.close()
    const again = openLog(directory)
    expect(readAll(again)).toEqual(bytesOf(records))
    expect(again.syncedTail).toEqual(again.tail)
    expect(again.recovery.cutBytes).toBe(0)
    await again.close()
  })

  test('and what was not durable and cannot be written again is forgotten, not trusted', async () => {
    const { log, records } = await failSync('log.rewrite')
    expect(log.syncedTail.position).toEqual(records[1]!.postApply)
    await log.close()
    const again = openLog(directory)
    expect(readAll(again)).toEqual(bytesOf(records.slice(0, 2)))
    expect(again.recovery.cutBytes).toBe(0)
    await again.close()
  })
})

test('a sync that fails while a log is opened is not taken for done by the next opening', async () => {
  const records = new RecordChain().take(2)
  const log = openLog(directory)
  log.append(entriesOf(records))
  await log.close()
  const written: string[] = []
  let isBroken = true
  const disk = ruled((call) => {
    written.push(`${call.operation} ${call.method}`)
    return isBroken && call.operation === 'log.sync' ? fail : undefined
  })
  expect(() => openLog(directory, { disk })).toThrow(diskFull)
  expect(written.slice(written.lastIndexOf('log.sync dataSyncNow'))).toContain('log.rewrite write')
  isBroken = false
  const again = openLog(directory, { disk })
  expect(readAll(again)).toEqual(bytesOf(records))
  await again.close()
})

test('after a failed sync of what cannot be written again the tail is read from memory, and never called gone or diverged', async () => {
  const disk = ruled((call) => {
    if (call.operation === 'log.rewrite') return fail
    return call.method === 'dataSync' ? () => Promise.reject(diskFull) : undefined
  })
  const records = new RecordChain().take(3)
  for (const tailCacheBytes of [0, 64 * 1024]) {
    const log = openLog(path.join(directory, String(tailCacheBytes)), { disk, tailCacheBytes })
    log.append(entriesOf(records))
    await expect(log.sync()).rejects.toBe(diskFull)
    if (tailCacheBytes > 0) expect(readAll(log)).toEqual(bytesOf(records))
    else expect(() => readAll(log)).toThrow(storageFailed)
    await log.close()
  }
})

test('concurrent syncs share one fdatasync, and a later append is covered by the next one', async () => {
  const release: (() => void)[] = []
  let syncs = 0
  const disk = ruled((call) => {
    if (call.method !== 'dataSync') return undefined
    return async () => {
      syncs++
      await new Promise<void>((resolve) => release.push(resolve))
      await call.run()
    }
  })
  const log = openLog(directory, { disk })
  const chain = new RecordChain()
  log.append(entriesOf(chain.take(1)))
  const first = Promise.all([log.sync(), log.sync(), log.sync()])
  log.append(entriesOf(chain.take(1)))
  let isSecondDone = false
  const second = Promise.all([log.sync(), log.sync()]).then(() => (isSecondDone = true))
  expect(syncs).toBe(1)
  release.shift()!()
  await first
  while (release.length === 0) await new Promise((resolve) => setImmediate(resolve))
  expect([syncs, isSecondDone]).toEqual([2, false])
  expect(log.syncedTail.position.txid).toBe(1n)
  release.shift()!()
  await second
  expect(syncs).toBe(2)
  expect(log.syncedTail).toEqual(log.tail)
  await log.sync()
  expect(syncs).toBe(2)
  await log.close()
})

test('a sync that runs while an append is taken back does not vouch for what is written in its place', async () => {
  let release: (() => void) | undefined
  let isFull = false
  let syncs = 0
  const disk = ruled((call) => {
    if (isFull && call.operation === 'log.append') return fail
    if (call.method !== 'dataSync' || syncs++ > 0) return undefined
    return async () => {
      await new Promise<void>((resolve) => (release = resolve))
      await call.run()
    }
  })
  const log = openLog(directory, { disk })
  const chain = new RecordChain()
  log.append(entriesOf(chain.take(1)))
  const syncing = log.sync()
  const second = chain.take(1)
  isFull = true
  expect(() => log.append(entriesOf(second))).toThrow(diskFull)
  isFull = false
  log.append(entriesOf(second))
  release?.()
  await syncing
  expect(log.syncedTail).toEqual(log.tail)
  expect(syncs).toBe(2)
  await log.close()
})

test('a large record that takes the place of one that could not be appended is read back, not its predecessor', async () => {
  let isFull = false
  const disk = ruled((call) => (isFull && call.operation === 'log.append' ? fail : undefined))
  const log = openLog(directory, { disk, segmentBytes: 8 * 1024 * 1024 })
  const chain = new RecordChain({ pageSize: 65536 })
  const first = chain.next(1)
  const other = chain.fork(2).next(1)
  const large = chain.next(20)
  log.append(entriesOf([first]))
  isFull = true
  expect(() => log.append(entriesOf([other]))).toThrow(diskFull)
  isFull = false
  log.append(entriesOf([large]))
  expect(readAll(log)).toEqual(bytesOf([first, large]))
  await log.close()
})

test('segments that were taken back do not come back with a power cut, in front of what was appended instead', () => {
  const powerCut = new PowerCutDisk()
  let writes = Number.POSITIVE_INFINITY
  const disk = interceptedDisk(powerCut, (call) => {
    if (call.operation === 'log.append' && --writes === 0) fail()
    return call.run()
  })
  const log = openLog('/log', { disk })
  const chain = new RecordChain()
  const first = chain.take(3)
  log.append(entriesOf(first))
  const other = chain.fork(2).take(20)
  const instead = chain.take(2)
  writes = 3
  expect(() => log.append(entriesOf(other))).toThrow(diskFull)
  log.append(entriesOf(instead))
  log.syncNow()
  // All names that are not durable are lost, all bytes are kept.
  powerCut.cutPower(() => 0.8)
  expect(readAll(openLog('/log', { disk: powerCut }))).toEqual(bytesOf([...first, ...instead]))
})

test('a reset while a sync runs: the sync resolves, says nothing about the new log, and keeps its descriptor meanwhile', async () => {
  let release: (() => void) | undefined
  const events: string[] = []
  const disk = ruled((call) => {
    if (call.method === 'close') events.push(`close ${String(call.args[1])}`)
    if (call.method !== 'dataSync') return undefined
    return async () => {
      const fd = String(call.args[1])
      events.length = 0
      await new Promise<void>((resolve) => (release = resolve))
      await call.run()
      events.push(`synced ${fd}`)
    }
  })
  const log = openLog(directory, { disk })
  const chain = new RecordChain()
  const records = chain.take(5)
  log.append(entriesOf(records))
  const syncing = log.sync()
  const start = { position: records[1]!.postApply, epoch: FIRST_EPOCH }
  log.reset(start)
  expect(log.syncedTail).toEqual(start)
  release?.()
  await syncing
  expect(log.syncedTail).toEqual(start)
  const synced = events.findIndex((event) => event.startsWith('synced'))
  const fd = events[synced]!.slice('synced '.length)
  expect(events.indexOf(`close ${fd}`)).toBeGreaterThan(synced)
  await log.close()
})
