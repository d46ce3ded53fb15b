/** What a transaction was asked for stands behind its record, survives with it, and is in nobody's way. */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { LtxRecord } from '../ltx/ltx-record.ts'
import { bytesOf, FIRST_EPOCH, openLog, readAll } from './test-support/log-fixture.ts'
import { RecordChain } from './test-support/record-chain.ts'
import { writeCrc } from './segment-format.ts'
import type { LogEntry, TransactionLog } from './transaction-log.ts'

let directory = ''
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-log-'))
})
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }))

/** Every third record has none. */
function requestsOf(record: LtxRecord): Buffer | undefined {
  return record.txid % 3n === 0n ? undefined : Buffer.from(`asked for ${record.txid} `.repeat(Number(record.txid)))
}

function entriesWithRequests(records: readonly LtxRecord[]): LogEntry[] {
  return records.map((record) => ({ epoch: FIRST_EPOCH, record, requests: requestsOf(record) }))
}

function expectRequests(log: TransactionLog, records: readonly LtxRecord[]): void {
  for (const record of records) expect(log.readRequests(record.txid)).toEqual(requestsOf(record))
}

const segmentFiles = (): string[] =>
  fs
    .readdirSync(directory)
    .filter((name) => name.endsWith('.seg'))
    .sort()
    .map((name) => path.join(directory, name))

test.each([0, 1 << 20])(
  'requests are read back, over segments and a restart (tail cache of %i bytes)',
  async (bytes) => {
    const records = new RecordChain().take(20)
    const log = openLog(directory, { tailCacheBytes: bytes })
    for (const entry of entriesWithRequests(records)) log.append([entry])
    expect(segmentFiles().length).toBeGreaterThan(2)
    expectRequests(log, records)
    expect(readAll(log)).toEqual(bytesOf(records))
    await log.close()
    const again = openLog(directory, { tailCacheBytes: bytes })
    expectRequests(again, records)
    expect(readAll(again)).toEqual(bytesOf(records))
    expect(again.recovery).toMatchObject({ cutBytes: 0, droppedBytes: 0 })
    await again.close()
  },
)

test('a record that is written from its own buffers has its requests behind it, too', async () => {
  const records = new RecordChain({ pageSize: 65536 }).take(3, 20)
  const log = openLog(directory)
  log.append(entriesWithRequests(records))
  await log.close()
  const again = openLog(directory)
  expectRequests(again, records)
  expect(readAll(again)).toEqual(bytesOf(records))
  await again.close()
})

test('wherever a crash cuts the requests of the last record off, the record itself stays', async () => {
  const records = new RecordChain().take(2)
  const log = openLog(directory)
  log.append(entriesWithRequests(records.slice(0, 1)))
  const before = fs.statSync(segmentFiles()[0]!).size
  log.append(entriesWithRequests(records.slice(1)))
  await log.close()
  const [file] = segmentFiles()
  const whole = fs.readFileSync(file!)
  const recordEnd = before + 32 + records[1]!.bytes.length
  for (let size = recordEnd; size < whole.length; size++) {
    fs.writeFileSync(file!, whole.subarray(0, size))
    const again = openLog(directory)
    expect(readAll(again)).toEqual(bytesOf(records))
    expect(again.readRequests(records[1]!.txid)).toBeUndefined()
    expect(again.readRequests(records[0]!.txid)).toEqual(requestsOf(records[0]!))
    expect(again.recovery.cutBytes).toBe(size - recordEnd)
    await again.close()
  }
})

test('requests damaged on disk are not handed out; the records around them are', async () => {
  const records = new RecordChain().take(3)
  const log = openLog(directory, { tailCacheBytes: 0 })
  log.append(entriesWithRequests(records))
  const [file] = segmentFiles()
  const bytes = fs.readFileSync(file!)
  bytes[bytes.indexOf('asked for 2')]! ^= 1
  fs.writeFileSync(file!, bytes)
  expect(log.readRequests(records[1]!.txid)).toBeUndefined()
  expect(log.readRequests(records[0]!.txid)).toEqual(requestsOf(records[0]!))
  expect(readAll(log)).toEqual(bytesOf(records))
  await log.close()
})

test('a segment of version 1 goes on without requests; the next one has them', async () => {
  const records = new RecordChain().take(12)
  const first = openLog(directory)
  first.append(records.slice(0, 2).map((record) => ({ epoch: FIRST_EPOCH, record })))
  await first.close()
  const [file] = segmentFiles()
  const bytes = fs.readFileSync(file!)
  bytes.writeUInt32BE(1, 4)
  writeCrc(bytes, 0, 40)
  fs.writeFileSync(file!, bytes)
  const log = openLog(directory)
  for (const entry of entriesWithRequests(records.slice(2))) log.append([entry])
  expect(log.readRequests(records[3]!.txid)).toBeUndefined()
  expect(log.readRequests(records[10]!.txid)).toEqual(requestsOf(records[10]!))
  await log.close()
  const again = openLog(directory)
  expect(readAll(again)).toEqual(bytesOf(records))
  expect(fs.readFileSync(file!).readUInt32BE(4)).toBe(1)
  expect(fs.readFileSync(file!).includes('asked for')).toBe(false)
  await again.close()
})
