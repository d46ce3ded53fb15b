/** A reset that is cut off at any operation leaves the old log or the new one, never a mixture. */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Random } from '../../../../test/support/random.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import { realDisk } from '../files/disk.ts'
import type { LtxRecord } from '../ltx/ltx-record.ts'
import { epoch } from '../position/epoch.ts'
import { txid } from '../position/txid.ts'
import { interceptedDisk } from './test-support/intercepted-disk.ts'
import { bytesOf, entriesOf, openLog, readAll } from './test-support/log-fixture.ts'
import { PowerCutDisk } from './test-support/power-cut-disk.ts'
import { RecordChain } from './test-support/record-chain.ts'
import type { LogTail } from './transaction-log.ts'

let directory = ''
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-log-'))
})
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }))

const crashed = new ClusterError('STORAGE_FAILED', 'crashed')

/** Resets a log of 14 records in three segments and dies at the n-th operation; true when it did not come that far. */
function resetWithCrash(own: string, records: readonly LtxRecord[], start: LogTail, nth: number): boolean {
  let left = Number.POSITIVE_INFINITY
  const disk = interceptedDisk(realDisk, (call) => {
    if (left-- <= 0) throw crashed
    return call.run()
  })
  const log = openLog(own, { disk })
  log.append(entriesOf(records))
  log.syncNow()
  left = nth
  try {
    log.reset(start)
    return true
  } catch (error) {
    expect(error).toBe(crashed)
    return false
  }
}

test.for([
  { where: 'further on', id: 40n },
  { where: 'back at a TXID inside a segment', id: 7n },
  { where: 'where an old segment begins', id: 6n },
  { where: 'where it is', id: 14n },
])('a reset to a position $where survives a crash at every operation', async ({ id }) => {
  const chain = new RecordChain()
  const records = chain.take(14)
  const start = { position: { txid: txid(id), checksum: chain.position.checksum }, epoch: epoch(6) }
  const seen = new Set<string>()
  for (let nth = 0; ; nth++) {
    const own = path.join(directory, String(nth))
    const isWhole = resetWithCrash(own, records, start, nth)
    const log = openLog(own)
    if (log.recordCount === 0) {
      expect(log.start).toEqual(start)
      expect(log.tail).toEqual(start)
      expect(fs.readdirSync(own).length).toBe(1)
      seen.add(log.recovery.finishedReset ? 'finished' : 'new')
    } else {
      expect(readAll(log)).toEqual(bytesOf(records))
      expect(isWhole).toBe(false)
      seen.add('old')
    }
    const next = new RecordChain({ position: log.tail.position, checksums: chain.checksums }).take(8)
    log.append(entriesOf(next, epoch(6)))
    expect(readAll(log).slice(-8)).toEqual(bytesOf(next))
    await log.close()
    if (isWhole) break
  }
  expect(seen).toEqual(new Set(['old', 'finished', 'new']))
})

test.for([40n, 7n, 14n])(
  'a reset to TXID %i survives a power cut at every change of the disk, whatever is lost',
  (id) => {
    const chain = new RecordChain()
    const records = chain.take(14)
    const start = { position: { txid: txid(id), checksum: chain.position.checksum }, epoch: epoch(6) }
    const seen = new Set<string>()
    for (let changes = 0; changes < 20; changes++) {
      for (let seed = 0; seed < 20; seed++) {
        const disk = new PowerCutDisk()
        const log = openLog('/log', { disk: disk.forProcess() })
        log.append(entriesOf(records))
        log.syncNow()
        disk.setBomb(changes)
        let isWhole = true
        try {
          log.reset(start)
        } catch {
          isWhole = false
        }
        const random = new Random(seed)
        disk.cutPower(() => random.next())
        const again = openLog('/log', { disk: disk.forProcess() })
        if (again.recordCount === 0) expect([again.start, again.tail]).toEqual([start, start])
        else expect([readAll(again), isWhole]).toEqual([bytesOf(records), false])
        seen.add(again.recordCount === 0 ? 'new' : 'old')
      }
    }
    expect(seen).toEqual(new Set(['old', 'new']))
  },
)

test('a reset that fails before it is committed leaves the log as it was and usable', async () => {
  let isFull = false
  const disk = interceptedDisk(realDisk, (call) => {
    if (isFull && call.operation === 'log.reset' && call.method === 'write') throw crashed
    return call.run()
  })
  const chain = new RecordChain()
  const log = openLog(directory, { disk })
  log.append(entriesOf(chain.take(3)))
  isFull = true
  expect(() => log.reset({ position: { ...chain.position, txid: txid(9n) }, epoch: epoch(2) })).toThrow(crashed)
  isFull = false
  log.append(entriesOf(chain.take(1)))
  expect(log.recordCount).toBe(4)
  log.reset(log.tail)
  expect(log.recordCount).toBe(0)
  await log.close()
})

test('a reset that fails after it was committed stops the log until it is opened again', async () => {
  let isFull = false
  const disk = interceptedDisk(realDisk, (call) => {
    if (isFull && call.operation === 'log.reset' && call.method === 'syncDirectory') throw crashed
    return call.run()
  })
  const chain = new RecordChain()
  const log = openLog(directory, { disk })
  log.append(entriesOf(chain.take(3)))
  const start = { position: { ...chain.position, txid: txid(9n) }, epoch: epoch(2) }
  isFull = true
  expect(() => log.reset(start)).toThrow(crashed)
  isFull = false
  expect(() => log.append(entriesOf(chain.take(1)))).toThrow(expect.objectContaining({ code: 'STORAGE_FAILED' }))
  await log.close()
  const again = openLog(directory)
  expect(again.tail).toEqual(start)
  await again.close()
})

test('a damaged mark of a committed reset is removed and counted: what is left of the old log stands', async () => {
  const chain = new RecordChain()
  const log = openLog(directory)
  log.append(entriesOf(chain.take(8)))
  await log.close()
  fs.writeFileSync(path.join(directory, 'reset.seg'), Buffer.alloc(48))
  const again = openLog(directory)
  expect(again.tail.position).toEqual(chain.position)
  expect(again.recovery).toMatchObject({ cutBytes: 48, finishedReset: false })
  expect(fs.existsSync(path.join(directory, 'reset.seg'))).toBe(false)
  await again.close()
})

test('the epoch table stays over a reset', async () => {
  const chain = new RecordChain()
  const log = openLog(directory)
  log.recordEpochStart({ epoch: epoch(3), firstTxid: txid(1n), checksumBefore: chain.position.checksum })
  log.append(entriesOf(chain.take(3), epoch(3)))
  log.reset({ position: { txid: txid(30n), checksum: chain.position.checksum }, epoch: epoch(3) })
  await log.close()
  const again = openLog(directory)
  expect(again.epochTable()).toMatchObject([{ epoch: 3, firstTxid: 1n }])
  await again.close()
})
