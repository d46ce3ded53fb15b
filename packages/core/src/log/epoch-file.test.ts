import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { realDisk } from '../files/disk.ts'
import { type Checksum, CHECKSUM_FLAG, NO_CHECKSUM } from '../position/checksum.ts'
import { type EpochStart, epoch } from '../position/epoch.ts'
import { nextTxid, txid } from '../position/txid.ts'
import { EpochFile } from './epoch-file.ts'
import { writeCrc } from './segment-format.ts'
import { entriesOf, openLog } from './test-support/log-fixture.ts'
import { RecordChain } from './test-support/record-chain.ts'

let directory = ''
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-epochs-'))
})
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }))

function open(logged: readonly EpochStart[] = []): EpochFile {
  const file = EpochFile.open(realDisk, directory)
  file.repair(() => logged)
  return file
}

function start(number: number, firstTxid: bigint): EpochStart {
  const checksumBefore = firstTxid === 1n ? NO_CHECKSUM : ((CHECKSUM_FLAG | firstTxid) as Checksum)
  return { epoch: epoch(number), firstTxid: txid(firstTxid), checksumBefore }
}

test('a table is kept over closing, with large epochs', () => {
  const table = [start(1, 1n), start(5, 9n), start(2 ** 50, 1n << 60n)]
  const file = open()
  expect(file.table).toEqual([])
  for (const entry of table) file.record(entry)
  expect(file.table).toEqual(table)
  expect(open().table).toEqual(table)
})

test('an epoch that wrote nothing gives its place to the next', () => {
  const file = open()
  file.record(start(1, 1n))
  file.record(start(2, 7n))
  file.record(start(3, 7n))
  expect(file.table).toEqual([start(1, 1n), start(3, 7n)])
})

test('an epoch that begins before others did replaces them: their history is no longer this one', () => {
  const file = open()
  for (const entry of [start(1, 1n), start(2, 7n), start(3, 12n), start(9, 5n)]) file.record(entry)
  expect(open().table).toEqual([start(1, 1n), start(9, 5n)])
})

test('an epoch that is not newer is a broken assumption', () => {
  const file = open()
  file.record(start(4, 1n))
  for (const number of [4, 3])
    expect(() => file.record(start(number, 9n))).toThrow(expect.objectContaining({ name: 'InvariantError' }))
})

test('a table of another node replaces this one; one that is not ascending is refused', () => {
  const file = open()
  file.record(start(4, 1n))
  file.adopt([start(2, 1n), start(6, 3n), start(7, 3n)])
  expect(open().table).toEqual([start(2, 1n), start(7, 3n)])
  for (const table of [[start(3, 1n), start(3, 2n)], [start(3, 5n), start(4, 2n)], [start(0, 1n)]])
    expect(() => file.adopt(table)).toThrow(expect.objectContaining({ code: 'CORRUPT_DATA' }))
  expect(open().table).toEqual([start(2, 1n), start(7, 3n)])
})

test('a table damaged at any byte, or cut off, is taken from its copy, and is durable again', () => {
  const file = open()
  file.record(start(1, 1n))
  file.record(start(2, 3n))
  const name = path.join(directory, 'epochs')
  const whole = fs.readFileSync(name)
  for (let i = 0; i < whole.length; i++) {
    const flipped = Buffer.from(whole)
    flipped[i]! ^= 0x10
    for (const bytes of [flipped, whole.subarray(0, i)]) {
      fs.writeFileSync(name, bytes)
      const damaged = EpochFile.open(realDisk, directory)
      expect(damaged.repair(() => [])).toBe('copy')
      expect(damaged.table).toEqual([start(1, 1n), start(2, 3n)])
      expect(fs.readFileSync(name)).toEqual(whole)
    }
  }
  fs.rmSync(name)
  expect(open().table).toEqual([start(1, 1n), start(2, 3n)])
})

test('a damaged table whose copy is one change behind takes the newer epochs from the records', () => {
  const file = open()
  file.record(start(1, 1n))
  file.record(start(2, 8n))
  const older = fs.readFileSync(path.join(directory, 'epochs.copy'))
  file.record(start(4, 5n))
  fs.writeFileSync(path.join(directory, 'epochs.copy'), older)
  fs.writeFileSync(path.join(directory, 'epochs'), 'x')
  expect(open([start(1, 3n), start(4, 5n)]).table).toEqual([start(1, 1n), start(4, 5n)])
  expect(open().table).toEqual([start(1, 1n), start(4, 5n)])
})

test('a table whose copy is damaged, too, is what the records tell, never an empty one', () => {
  open().record(start(1, 1n))
  for (const name of ['epochs', 'epochs.copy']) fs.writeFileSync(path.join(directory, name), '')
  const damaged = EpochFile.open(realDisk, directory)
  expect(damaged.repair(() => [start(1, 7n)])).toBe('log')
  expect(open().table).toEqual([start(1, 7n)])
})

test('a table of a first version directory gets its copy', () => {
  open().record(start(1, 1n))
  fs.rmSync(path.join(directory, 'epochs.copy'))
  open()
  fs.writeFileSync(path.join(directory, 'epochs'), '')
  expect(open().table).toEqual([start(1, 1n)])
})

test('a table of a newer version is refused by name; one whose version was hit by a flipped bit is damaged', () => {
  open().record(start(1, 1n))
  const name = path.join(directory, 'epochs')
  const bytes = fs.readFileSync(name)
  bytes.writeUInt32BE(2, 4)
  fs.writeFileSync(name, bytes)
  expect(open().table).toEqual([start(1, 1n)])
  writeCrc(bytes, 0, bytes.length - 8)
  fs.writeFileSync(name, bytes)
  expect(open).toThrow(
    expect.objectContaining({ code: 'UNSUPPORTED_FORMAT', details: { file: name, found: 2, newest: 1 } }),
  )
  expect(fs.readFileSync(name)).toEqual(bytes)
})

test('the records of a log give back every epoch that began within it, over segments, and never one that was not there', async () => {
  const chain = new RecordChain()
  const log = openLog(directory)
  const table: EpochStart[] = []
  for (const number of [2, 3, 7, 9]) {
    const entry = {
      epoch: epoch(number),
      firstTxid: nextTxid(chain.position.txid),
      checksumBefore: chain.position.checksum,
    }
    table.push(entry)
    log.recordEpochStart(entry)
    log.append(entriesOf(chain.take(number === 3 ? 1 : 8), entry.epoch))
  }
  await log.close()
  for (const name of ['epochs', 'epochs.copy']) fs.writeFileSync(path.join(directory, name), 'x')
  const whole = openLog(directory)
  expect(whole.epochRepair).toBe('log')
  expect(whole.epochTable()).toEqual(table)
  // Begun anew at its end: what is known of the epoch is that it was there.
  whole.reset(whole.tail)
  await whole.close()
  for (const name of ['epochs', 'epochs.copy']) fs.writeFileSync(path.join(directory, name), 'x')
  const reset = openLog(directory)
  const { position } = reset.tail
  expect(reset.epochTable()).toEqual([
    { epoch: 9, firstTxid: nextTxid(position.txid), checksumBefore: position.checksum },
  ])
  await reset.close()
  expect(openLog(directory).epochRepair).toBeUndefined()
})
