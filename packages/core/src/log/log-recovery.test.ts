/**
 * I2: whatever happened to the files, a log that is opened is one gapless run of intact records that ends at the newest
 * one that can be trusted.
 */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { LtxRecord } from '../ltx/ltx-record.ts'
import { samePosition } from '../position/position.ts'
import { txid } from '../position/txid.ts'
import { bytesOf, entriesOf, FIRST_EPOCH, openLog, readAll } from './test-support/log-fixture.ts'
import { PowerCutDisk } from './test-support/power-cut-disk.ts'
import { RecordChain } from './test-support/record-chain.ts'
import { ENVELOPE_BYTES, encodeSegmentHeader, SEGMENT_HEADER_BYTES, writeCrc } from './segment-format.ts'

/** A record of one page of 512 bytes in its envelope. */
const RECORD_BYTES = ENVELOPE_BYTES + 100 + 4 + 512 + 4 + 16

/** That many records fit a segment of 4 KiB. */
const PER_SEGMENT = 6

let directory = ''
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-log-'))
})
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }))

/** Writes a log of records of one page and closes it. */
async function write(count: number): Promise<LtxRecord[]> {
  const records = new RecordChain().take(count)
  const log = openLog(directory)
  log.append(entriesOf(records))
  await log.close()
  return records
}

const segmentFiles = (): string[] =>
  fs
    .readdirSync(directory)
    .sort()
    .map((name) => path.join(directory, name))

function flip(file: string, offset: number, mask = 1): void {
  const bytes = fs.readFileSync(file)
  bytes[offset]! ^= mask
  fs.writeFileSync(file, bytes)
}

/** A log of records of one page in memory, where it can be damaged and opened many times. */
async function inMemory(count: number) {
  const disk = new PowerCutDisk()
  const records = new RecordChain().take(count)
  const log = openLog('/log', { disk })
  log.append(entriesOf(records))
  await log.close()
  const [name] = disk.list('test', '/log')
  const file = path.join('/log', name!)
  const whole = disk.readWhole('test', file)!
  return { disk, records, file, whole, lastAt: whole.length - RECORD_BYTES }
}

test('a tail torn at any byte of the last record: that record is cut off, all others stay', async () => {
  const { disk, records, file, whole, lastAt } = await inMemory(3)
  for (let length = lastAt; length < whole.length; length++) {
    disk.replaceDurably('test', file, whole.subarray(0, length))
    const log = openLog('/log', { disk })
    expect(log.tail.position).toEqual(records[1]!.postApply)
    expect(log.recovery).toMatchObject({ cutBytes: length - lastAt, cutRecords: length === lastAt ? 0 : 1 })
    expect(disk.readWhole('test', file)!.length).toBe(lastAt)
    await log.close()
  }
  const log = openLog('/log', { disk })
  log.append(entriesOf(records.slice(2)))
  expect(readAll(log)).toEqual(bytesOf(records))
  await log.close()
})

test('a flipped bit at any byte of the last record: that record is cut off', async () => {
  const { disk, records, file, whole, lastAt } = await inMemory(2)
  for (let offset = lastAt; offset < whole.length; offset++) {
    const bytes = Buffer.from(whole)
    bytes[offset]! ^= 1 << (offset % 8)
    disk.replaceDurably('test', file, bytes)
    const log = openLog('/log', { disk })
    expect(samePosition(log.tail.position, records[0]!.postApply), `byte ${offset}`).toBe(true)
    expect(log.recovery.cutBytes).toBe(RECORD_BYTES)
    await log.close()
  }
})

test('damage in the middle of the newest segment: everything from there on is cut off and counted', async () => {
  const records = await write(5)
  flip(segmentFiles()[0]!, SEGMENT_HEADER_BYTES + 2 * RECORD_BYTES + 300)
  const log = openLog(directory)
  expect(readAll(log)).toEqual(bytesOf(records.slice(0, 2)))
  expect(log.recovery).toMatchObject({ cutRecords: 3, cutBytes: 3 * RECORD_BYTES, droppedSegments: 0 })
  expect(log.lastRecordHeader()).toEqual(records[1]!.header)
  await log.close()
})

test.for([0, 9, 20, 25, 44, 47])(
  'a newest segment with a damaged header (byte %i) is removed, the one before it is the newest',
  async (offset) => {
    const records = await write(14)
    const newest = segmentFiles().at(-1)!
    flip(newest, offset)
    const log = openLog(directory)
    const left = readAll(log)
    expect(left).toEqual(bytesOf(records).slice(0, left.length))
    expect(left.length).toBe(2 * PER_SEGMENT)
    expect(fs.existsSync(newest)).toBe(false)
    expect(log.recovery.cutBytes).toBeGreaterThan(0)
    log.append(entriesOf(records.slice(2 * PER_SEGMENT)))
    expect(readAll(log)).toEqual(bytesOf(records))
    await log.close()
  },
)

test('a newest segment whose header was never written is removed', async () => {
  const records = await write(6)
  fs.writeFileSync(path.join(directory, '0000000000000007.seg'), Buffer.alloc(20))
  const log = openLog(directory)
  expect(readAll(log)).toEqual(bytesOf(records))
  expect(log.recovery).toMatchObject({ cutBytes: 20, droppedSegments: 0 })
  await log.close()
})

test('an empty newest segment that does not follow the records before it is removed, not they', async () => {
  const records = await write(5)
  const elsewhere = new RecordChain({ seed: 9 }).take(7).at(-1)!.postApply
  fs.writeFileSync(
    path.join(directory, '0000000000000008.seg'),
    encodeSegmentHeader({ position: elsewhere, epoch: FIRST_EPOCH }),
  )
  const log = openLog(directory)
  expect(readAll(log)).toEqual(bytesOf(records))
  expect(log.recovery).toMatchObject({ cutBytes: SEGMENT_HEADER_BYTES, droppedSegments: 0 })
  await log.close()
})

test('an empty newest segment that follows the records before it stays', async () => {
  const records = await write(6)
  const base = { position: records[5]!.postApply, epoch: FIRST_EPOCH }
  fs.writeFileSync(path.join(directory, '0000000000000007.seg'), encodeSegmentHeader(base))
  const log = openLog(directory)
  expect(readAll(log)).toEqual(bytesOf(records))
  expect(log.lastRecordHeader()).toEqual(records[5]!.header)
  expect(log.recovery).toMatchObject({ cutBytes: 0, droppedSegments: 0 })
  await log.close()
})

test.for([
  { what: 'header', offset: 12 },
  { what: 'envelope of a record', offset: SEGMENT_HEADER_BYTES + 2 * RECORD_BYTES + 5 },
  { what: 'TXID of a record', offset: SEGMENT_HEADER_BYTES + 2 * RECORD_BYTES + ENVELOPE_BYTES + 23 },
  { what: 'pre-apply checksum of a record', offset: SEGMENT_HEADER_BYTES + 3 * RECORD_BYTES + ENVELOPE_BYTES + 44 },
  { what: 'post-apply checksum of a record', offset: SEGMENT_HEADER_BYTES + 3 * RECORD_BYTES - 12 },
  { what: 'post-apply checksum of the last record', offset: SEGMENT_HEADER_BYTES + PER_SEGMENT * RECORD_BYTES - 12 },
])('damage in an earlier segment ($what): the run from the next one to the tail stays', async ({ offset }) => {
  const records = await write(22)
  const files = segmentFiles()
  flip(files[2]!, offset)
  const log = openLog(directory)
  expect(log.tail.position).toEqual(records.at(-1)!.postApply)
  expect(log.start.position).toEqual(records[3 * PER_SEGMENT - 1]!.postApply)
  expect(readAll(log)).toEqual(bytesOf(records.slice(3 * PER_SEGMENT)))
  expect(log.readAfter(records[0]!.postApply, 1)).toEqual({ kind: 'gone' })
  expect(log.recovery).toMatchObject({ droppedSegments: 3, cutBytes: 0 })
  expect(segmentFiles()).toEqual(files.slice(3))
  await log.close()
})

test.for(['cut short', 'missing'])(
  'an earlier segment that is %s: the run from the next one to the tail stays',
  async (how) => {
    const records = await write(22)
    const file = segmentFiles()[1]!
    if (how === 'missing') fs.rmSync(file)
    else fs.truncateSync(file, SEGMENT_HEADER_BYTES + 2 * RECORD_BYTES + 40)
    const log = openLog(directory)
    expect(readAll(log)).toEqual(bytesOf(records.slice(2 * PER_SEGMENT)))
    await log.close()
  },
)

test('a page damaged in an earlier segment is found when it is read: never sent, the log begins after it', async () => {
  const records = await write(22)
  flip(segmentFiles()[1]!, SEGMENT_HEADER_BYTES + 2 * RECORD_BYTES + 300)
  const log = openLog(directory)
  expect(log.start.position.txid).toBe(0n)
  expect(() => log.readRecord(txid(9n))).toThrow(expect.objectContaining({ code: 'CORRUPT_DATA' }))
  const answer = log.readAfter(records[6]!.postApply, 10_000)
  expect(answer).toMatchObject({ kind: 'records', end: records[7]!.postApply })
  expect(log.readAfter(records[7]!.postApply, 10_000)).toEqual({ kind: 'gone' })
  expect(log.start.position).toEqual(records[8]!.postApply)
  expect(log.recordCount).toBe(13)
  expect(log.findChecksum(records[3]!.postApply.checksum)).toBeUndefined()
  expect(readAll(log)).toEqual(bytesOf(records.slice(9)))
  await log.close()
})

test('the very first record to read is damaged: gone', async () => {
  const records = await write(22)
  flip(segmentFiles()[0]!, SEGMENT_HEADER_BYTES + RECORD_BYTES + 300)
  const log = openLog(directory)
  expect(log.readAfter(records[0]!.postApply, 1)).toEqual({ kind: 'gone' })
  expect(readAll(log)).toEqual(bytesOf(records.slice(2)))
  await log.close()
})

test('a missing record is not papered over where its neighbours have the same checksum', async () => {
  const log = openLog(directory)
  log.append(entriesOf(new RecordChain().dropped(3)))
  await log.close()
  const [file] = segmentFiles()
  const whole = fs.readFileSync(file!)
  const size = (whole.length - SEGMENT_HEADER_BYTES) / 3
  const second = SEGMENT_HEADER_BYTES + size
  fs.writeFileSync(file!, Buffer.concat([whole.subarray(0, second), whole.subarray(second + size)]))
  const again = openLog(directory)
  expect(again.tail.position.txid).toBe(1n)
  await again.close()
})

test('a log that loses power after everything older was pruned still stands where it was durable', () => {
  const disk = new PowerCutDisk()
  const chain = new RecordChain()
  const log = openLog('/log', { disk: disk.forProcess(), nowMs: 1e9, retentionMs: 0 })
  log.append(entriesOf(chain.take(PER_SEGMENT)))
  log.syncNow()
  const durable = log.tail
  log.append(entriesOf(chain.take(1)))
  expect(log.prune({ durableInDatabase: chain.position.txid }).removedRecords).toBe(PER_SEGMENT)
  disk.cutPower(() => 0)
  const again = openLog('/log', { disk: disk.forProcess() })
  expect(again.tail).toEqual(durable)
  expect(again.recordCount).toBe(0)
})

test('temporary files are swept away, and other files are left alone', async () => {
  const records = await write(2)
  for (const name of ['reset.tmp', 'epochs.tmp', 'note.txt']) fs.writeFileSync(path.join(directory, name), 'x')
  const log = openLog(directory)
  expect(readAll(log)).toEqual(bytesOf(records))
  expect(fs.readdirSync(directory).sort()).toEqual(['0000000000000001.seg', 'note.txt'])
  await log.close()
})

test('a log of which nothing is left comes up empty and says so', async () => {
  await write(2)
  fs.truncateSync(segmentFiles()[0]!, 10)
  const log = openLog(directory)
  expect(log.tail.position.txid).toBe(0n)
  expect(log.recovery.cutBytes).toBe(10)
  expect(segmentFiles()).toEqual([])
  await log.close()
})

test('a segment of a newer version, wherever it stands, is refused by name, and nothing is cut off, dropped or removed', async () => {
  await write(3 * PER_SEGMENT)
  const files = segmentFiles().filter((file) => file.endsWith('.seg'))
  const contents = () => segmentFiles().map((file) => [file, fs.readFileSync(file)])
  for (const file of [...files, path.join(directory, 'reset.seg')]) {
    const whole = fs.existsSync(file) ? fs.readFileSync(file) : undefined
    const bytes = Buffer.from(whole ?? fs.readFileSync(files[0]!).subarray(0, SEGMENT_HEADER_BYTES))
    bytes.writeUInt32BE(7, 4)
    writeCrc(bytes, 0, SEGMENT_HEADER_BYTES - 8)
    fs.writeFileSync(file, bytes)
    const before = contents()
    expect(() => openLog(directory)).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED_FORMAT', details: expect.objectContaining({ file, found: 7 }) }),
    )
    expect(contents()).toEqual(before)
    if (whole === undefined) fs.rmSync(file)
    else fs.writeFileSync(file, whole)
  }
  const log = openLog(directory)
  expect(log.recordCount).toBe(3 * PER_SEGMENT)
  await log.close()
})
