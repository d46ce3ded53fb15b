import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { realDisk } from '../files/disk.ts'
import { type Checksum, CHECKSUM_FLAG, NO_CHECKSUM } from '../position/checksum.ts'
import { type EpochStart, epoch } from '../position/epoch.ts'
import { txid } from '../position/txid.ts'
import { EpochFile } from './epoch-file.ts'

let directory = ''
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-epochs-'))
})
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }))

const open = (): EpochFile => EpochFile.open(realDisk, directory)

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

test('a damaged table is an error at every byte, never another table', () => {
  const file = open()
  file.record(start(1, 1n))
  file.record(start(2, 3n))
  const name = path.join(directory, 'epochs')
  const whole = fs.readFileSync(name)
  const damaged = expect.objectContaining({ code: 'CORRUPT_DATA' })
  for (let i = 0; i < whole.length; i++) {
    const bytes = Buffer.from(whole)
    bytes[i]! ^= 0x10
    fs.writeFileSync(name, bytes)
    expect(open).toThrow(damaged)
    fs.writeFileSync(name, whole.subarray(0, i))
    expect(open).toThrow(damaged)
  }
})
