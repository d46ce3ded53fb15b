import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { realDisk } from '../files/disk.ts'
import { compressLtxRecord, LtxRecordBuilder } from '../ltx/ltx-encoder.ts'
import { decodeLtxRecord } from '../ltx/ltx-record.ts'
import { type Checksum, CHECKSUM_FLAG, EMPTY_CHECKSUM, NO_CHECKSUM } from '../position/checksum.ts'
import { epoch, NO_EPOCH } from '../position/epoch.ts'
import { ZERO_POSITION } from '../position/position.ts'
import { txid } from '../position/txid.ts'
import { bytesOf, entriesOf, FIRST_EPOCH, openLog, readAll } from './test-support/log-fixture.ts'
import { interceptedDisk } from './test-support/intercepted-disk.ts'
import { RecordChain } from './test-support/record-chain.ts'
import type { TransactionLog } from './transaction-log.ts'

let directory = ''
const opened: TransactionLog[] = []
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-log-'))
})
afterEach(async () => {
  for (const log of opened.splice(0)) await log.close()
  fs.rmSync(directory, { recursive: true, force: true })
})

function open(options?: Parameters<typeof openLog>[1]): TransactionLog {
  const log = openLog(directory, options)
  opened.push(log)
  return log
}

const segments = (): string[] => fs.readdirSync(directory).filter((name) => name.endsWith('.seg'))

test('a new log is empty and stands at the zero position', () => {
  const log = open()
  expect(log.start).toEqual({ position: ZERO_POSITION, epoch: NO_EPOCH })
  expect(log.tail).toEqual(log.start)
  expect(log.readAfter(ZERO_POSITION, 1)).toEqual({ kind: 'at-end' })
  expect(log.lastRecordHeader()).toBeUndefined()
  expect([log.bytes, log.recordCount, log.epochTable()]).toEqual([0, 0, []])
})

test.for([0, 64 * 1024])(
  'with %i bytes of cache: what was appended is read back, across segments',
  (tailCacheBytes) => {
    const log = open({ tailCacheBytes })
    const chain = new RecordChain()
    const records = [chain.next(3), ...chain.take(20), chain.next(2)]
    log.append(entriesOf(records.slice(0, 1)))
    log.append(entriesOf(records.slice(1)))
    expect(segments().length).toBeGreaterThan(2)
    expect(readAll(log)).toEqual(bytesOf(records))
    expect(log.tail).toEqual({ position: chain.position, epoch: FIRST_EPOCH })
    expect(log.recordCount).toBe(22)
    expect(log.bytes).toBe(segments().reduce((sum, name) => sum + fs.statSync(path.join(directory, name)).size, 0))
  },
)

test('a log that is opened again holds the same records, epochs and last header', async () => {
  const chain = new RecordChain()
  const first = chain.take(9)
  const second = chain.take(5)
  const log = open()
  log.append(entriesOf(first))
  log.append(entriesOf(second, epoch(4)))
  await log.close()
  const again = open()
  expect(readAll(again)).toEqual(bytesOf([...first, ...second]))
  expect(again.tail).toEqual({ position: chain.position, epoch: epoch(4) })
  expect(again.syncedTail).toEqual(again.tail)
  expect(again.readRecord(txid(9n))?.epoch).toBe(FIRST_EPOCH)
  expect(again.readRecord(txid(10n))?.epoch).toBe(epoch(4))
  expect(again.lastRecordHeader()).toEqual(second.at(-1)?.header)
  expect(again.recovery).toEqual({
    cutBytes: 0,
    cutRecords: 0,
    droppedBytes: 0,
    droppedSegments: 0,
    finishedReset: false,
  })
  const more = chain.take(9)
  again.append(entriesOf(more, epoch(4)))
  expect(readAll(again)).toEqual(bytesOf([...first, ...second, ...more]))
})

test('a position that the log never had is diverged, one before its start is gone', () => {
  const log = open()
  const chain = new RecordChain()
  const records = chain.take(3)
  log.reset({ position: { txid: txid(1n), checksum: records[0]!.postApply.checksum }, epoch: FIRST_EPOCH })
  log.append(entriesOf(records.slice(1)))
  const other = (CHECKSUM_FLAG | 5n) as Checksum
  const kindAfter = (id: bigint, checksum: Checksum): string => log.readAfter({ txid: txid(id), checksum }, 1).kind
  expect(kindAfter(0n, NO_CHECKSUM)).toBe('gone')
  expect(kindAfter(1n, records[0]!.postApply.checksum)).toBe('records')
  expect(kindAfter(1n, other)).toBe('diverged')
  expect(kindAfter(2n, records[1]!.postApply.checksum)).toBe('records')
  expect(kindAfter(2n, other)).toBe('diverged')
  expect(kindAfter(3n, records[2]!.postApply.checksum)).toBe('at-end')
  expect(kindAfter(3n, other)).toBe('diverged')
  expect(kindAfter(4n, records[2]!.postApply.checksum)).toBe('diverged')
})

test('readAfter gives as many records as fit the limit, at least one, with their epochs', () => {
  const log = open()
  const records = new RecordChain().take(4)
  const size = records[0]!.bytes.length
  log.append(entriesOf(records.slice(0, 2)))
  log.append(entriesOf(records.slice(2), epoch(2)))
  expect(log.readAfter(ZERO_POSITION, 1)).toMatchObject({ kind: 'records', records: [records[0]!.bytes], epochs: [1] })
  expect(log.readAfter(ZERO_POSITION, 2 * size - 1)).toMatchObject({ records: [records[0]!.bytes] })
  expect(log.readAfter(ZERO_POSITION, 3 * size)).toMatchObject({ epochs: [1, 1, 2], end: records[2]!.postApply })
  expect(log.readAfter(records[2]!.postApply, 9 * size)).toMatchObject({ epochs: [2], end: records[3]!.postApply })
})

test('bytes that were read stay as they are while the log goes on and forgets them', () => {
  const log = open({ tailCacheBytes: 1_000, retentionBytes: 0 })
  const chain = new RecordChain()
  const first = chain.next()
  log.append(entriesOf([first]))
  const answer = log.readAfter(ZERO_POSITION, 1)
  for (let i = 0; i < 30; i++) log.append(entriesOf(chain.take(1)))
  log.prune({ durableInDatabase: chain.position.txid })
  log.reset(log.tail)
  expect(answer).toMatchObject({ records: [first.bytes] })
})

test('one call of append is one write', () => {
  const writes: unknown[] = []
  const disk = interceptedDisk(realDisk, (call) => {
    if (call.method === 'write') writes.push(call.operation)
    return call.run()
  })
  const log = open({ disk, segmentBytes: 1024 * 1024 })
  const chain = new RecordChain()
  log.append(entriesOf(chain.take(1)))
  log.append(entriesOf(chain.take(50)))
  expect(writes).toEqual(['log.new-segment', 'log.append', 'log.append'])
})

test('a record larger than a segment has a segment of its own', () => {
  const log = open()
  const chain = new RecordChain({ pageSize: 4096 })
  const records = [chain.next(), chain.next(4), chain.next()]
  for (const record of records) log.append(entriesOf([record]))
  expect(segments()).toEqual(['0000000000000001.seg', '0000000000000002.seg', '0000000000000003.seg'])
  expect(readAll(log)).toEqual(bytesOf(records))
})

test('a record larger than a segment begins a new one also when much is unsynced before it', () => {
  const log = open({ segmentBytes: 2 * 1024 * 1024 })
  const chain = new RecordChain({ pageSize: 65536 })
  const records = [chain.next(24), chain.next(35)]
  for (const record of records) log.append(entriesOf([record]))
  expect(segments().length).toBe(2)
  expect(readAll(log)).toEqual(bytesOf(records))
})

test('a full segment grows while its bytes are being synced, and the next one begins when they are', async () => {
  const log = open({ segmentBytes: 2 * 1024 * 1024 })
  const chain = new RecordChain({ pageSize: 65536 })
  const records = [chain.next(30), chain.next(3), chain.next(3)]
  log.append(entriesOf(records.slice(0, 1)))
  log.append(entriesOf(records.slice(1, 2)))
  expect(segments().length).toBe(1)
  await log.sync()
  log.append(entriesOf(records.slice(2)))
  expect(segments().length).toBe(2)
  expect(readAll(log)).toEqual(bytesOf(records))
})

test('a segment does not grow beyond twice its size, however much is unsynced', () => {
  const log = open({ segmentBytes: 2 * 1024 * 1024 })
  const chain = new RecordChain({ pageSize: 65536 })
  const records = chain.take(12, 10)
  for (const record of records) log.append(entriesOf([record]))
  const sizes = segments().map((name) => fs.statSync(path.join(directory, name)).size)
  expect(Math.max(...sizes)).toBeLessThanOrEqual(4 * 1024 * 1024)
  expect(readAll(log)).toEqual(bytesOf(records))
})

test('records of more than a MiB pass through one batch with small ones', () => {
  const log = open({ segmentBytes: 8 * 1024 * 1024 })
  const chain = new RecordChain({ pageSize: 65536 })
  const records = [chain.next(), chain.next(20), chain.next(), chain.next(8), chain.next(9)]
  log.append(entriesOf(records))
  expect(readAll(log)).toEqual(bytesOf(records))
  expect(readAll(log, 4_000_000)).toEqual(bytesOf(records))
})

test('a record that does not follow the tail is a broken assumption, and nothing of its batch is appended', () => {
  const log = open()
  const chain = new RecordChain()
  const [first, second, third] = chain.take(3)
  const stranger = chain.fork(2).next()
  log.append(entriesOf([first!], epoch(3)))
  const refusals = [
    entriesOf([third!], epoch(3)),
    entriesOf([first!], epoch(3)),
    entriesOf([second!], epoch(2)),
    [...entriesOf([second!], epoch(5)), ...entriesOf([third!], epoch(4))],
    entriesOf([second!, stranger], epoch(3)),
    entriesOf([snapshotOfTwo()], epoch(3)),
  ]
  for (const entries of refusals)
    expect(() => log.append(entries)).toThrow(expect.objectContaining({ name: 'InvariantError' }))
  expect(readAll(log)).toEqual(bytesOf([first!]))
  log.append(entriesOf([second!, third!], epoch(3)))
  expect(log.recordCount).toBe(3)
})

test('a record that came compressed is stored uncompressed', () => {
  const log = open({ tailCacheBytes: 0 })
  const record = new RecordChain().next(2)
  log.append(entriesOf([decodeLtxRecord(compressLtxRecord(record))]))
  expect(log.readRecord(txid(1n))?.record.bytes).toEqual(record.bytes)
})

test('readRecord gives the record whole, and nothing outside the log', () => {
  const log = open()
  const records = new RecordChain().take(12)
  log.append(entriesOf(records, epoch(2)))
  const entry = log.readRecord(txid(7n))
  expect(entry?.epoch).toBe(2)
  expect(entry?.record.bytes).toEqual(records[6]!.bytes)
  expect(entry?.record.postApply).toEqual(records[6]!.postApply)
  expect(log.readRecord(txid(0n))).toBeUndefined()
  expect(log.readRecord(txid(13n))).toBeUndefined()
})

test('findChecksum finds the newest position with a checksum, the start included', () => {
  const log = open()
  const chain = new RecordChain()
  const records = chain.take(14)
  log.append(entriesOf(records))
  for (const { postApply } of records) expect(log.findChecksum(postApply.checksum)).toEqual(postApply)
  expect(log.findChecksum((CHECKSUM_FLAG | 1n) as Checksum)).toBeUndefined()
  expect(log.findChecksum(NO_CHECKSUM)).toEqual(ZERO_POSITION)
  const start = { txid: txid(20n), checksum: chain.position.checksum }
  log.reset({ position: start, epoch: FIRST_EPOCH })
  expect(log.findChecksum(start.checksum)).toEqual(start)
  expect(log.findChecksum(records[3]!.postApply.checksum)).toBeUndefined()
})

test('findChecksum prefers the newest of two equal states', () => {
  const log = open()
  log.append(entriesOf(new RecordChain().dropped(3)))
  expect(log.findChecksum(EMPTY_CHECKSUM)?.txid).toBe(3n)
})

test('checksumAt knows every position of the log', () => {
  const log = open()
  const records = new RecordChain().take(10)
  log.append(entriesOf(records))
  expect(log.checksumAt(txid(0n))).toBe(NO_CHECKSUM)
  expect(log.checksumAt(txid(8n))).toBe(records[7]!.postApply.checksum)
  expect(log.checksumAt(txid(11n))).toBeUndefined()
})

test('a closed log refuses everything', async () => {
  const log = open()
  const record = new RecordChain().next()
  await log.close()
  await log.close()
  const closed = expect.objectContaining({ code: 'CLOSED' })
  expect(() => log.append(entriesOf([record]))).toThrow(closed)
  expect(() => log.readAfter(ZERO_POSITION, 1)).toThrow(closed)
  expect(() => log.reset(log.tail)).toThrow(closed)
  await expect(log.sync()).rejects.toEqual(closed)
})

/** An LTX of two TXIDs. */
function snapshotOfTwo(): ReturnType<LtxRecordBuilder['finish']> {
  const builder = new LtxRecordBuilder({ ...header(1n, 2n, NO_CHECKSUM), commit: 1, pageCount: 1 })
  builder.addPage(1, Buffer.alloc(512), 0)
  return builder.finish(((BigInt(builder.checksumHigh) << 32n) | BigInt(builder.checksumLow)) as Checksum)
}

function header(min: bigint, max: bigint, preApplyChecksum: Checksum) {
  const wal = { walOffset: 0, walBytes: 0, walSalt1: 0, walSalt2: 0 }
  return { pageSize: 512, minTxid: txid(min), maxTxid: txid(max), timestampMs: 1, preApplyChecksum, ...wal, nodeId: 1n }
}
