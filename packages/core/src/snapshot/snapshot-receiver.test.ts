import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Random, seedOfRun } from '../../../../test/support/random.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import { type Disk, realDisk } from '../files/disk.ts'
import { openDescriptors } from '../files/test-support/open-descriptors.ts'
import { compressLtxRecord, LtxRecordBuilder } from '../ltx/ltx-encoder.ts'
import { decodeLtxRecord } from '../ltx/ltx-record.ts'
import { LtxSnapshotWriter } from '../ltx/ltx-snapshot-writer.ts'
import { type Checksum, CHECKSUM_FLAG, EMPTY_CHECKSUM } from '../position/checksum.ts'
import { txid } from '../position/txid.ts'
import { SnapshotReceiver } from './snapshot-receiver.ts'
import { checksumsOf } from './test-support/live-database.ts'

const MIB = 1024 * 1024

let directory = ''
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-receive-'))
})
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }))

const corrupt = expect.objectContaining({ code: 'CORRUPT_DATA' })
const closed = expect.objectContaining({ code: 'CLOSED' })
const spool = (): string => path.join(directory, 'spool')
const left = (): string[] => fs.readdirSync(spool())
const descriptors = (): number => openDescriptors(directory)

function imageOf(pages: number, pageSize: number, seed = 1): Buffer {
  const random = new Random(seed)
  const image = Buffer.alloc(pages * pageSize)
  for (let pgno = 0; pgno < pages; pgno++) random.bytes(40).copy(image, pgno * pageSize + random.below(pageSize - 40))
  return image
}

function snapshotOf(image: Buffer, pageSize: number): Buffer {
  const writer = new LtxSnapshotWriter({
    pageSize,
    commit: image.length / pageSize,
    maxTxid: txid(5n),
    timestampMs: 1,
    nodeId: 3n,
  })
  const { checksum } = checksumsOf(image, pageSize)
  return Buffer.concat([
    writer.header(),
    writer.pages(1, image),
    writer.end(image.length === 0 ? EMPTY_CHECKSUM : checksum),
  ])
}

async function receive(ltx: Buffer, chunkBytes = 65_536, disk: Disk = realDisk) {
  const receiver = new SnapshotReceiver(disk, spool())
  for (let at = 0; at < ltx.length; at += chunkBytes) await receiver.data(ltx.subarray(at, at + chunkBytes))
  return receiver.finish()
}

test('in chunks of any length: the file is the image, with its page checksums and position', async () => {
  const seed = seedOfRun('snapshot receiver')
  const sizes = fc.constantFrom(
    { pageSize: 512, pages: 4500 },
    { pageSize: 4096, pages: 700 },
    { pageSize: 65536, pages: 3 },
    { pageSize: 4096, pages: 1 },
  )
  const lengths = fc.array(fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 3 * MIB })), {
    minLength: 1,
    maxLength: 20,
  })
  await fc.assert(
    fc.asyncProperty(sizes, lengths, fc.boolean(), async ({ pageSize, pages }, cuts, isCompressed) => {
      const image = imageOf(pages, pageSize, cuts.length)
      const plain = snapshotOf(image, pageSize)
      const ltx = isCompressed ? compressLtxRecord(decodeLtxRecord(plain)) : plain
      const receiver = new SnapshotReceiver(realDisk, spool())
      let at = 0
      for (const cut of cuts) {
        await receiver.data(ltx.subarray(at, at + cut))
        at = Math.min(ltx.length, at + cut)
      }
      await receiver.data(ltx.subarray(at))
      const { databaseFile, checksums, position, header } = await receiver.finish()
      const expected = checksumsOf(image, pageSize)
      expect(left()).toEqual([path.basename(databaseFile)])
      expect(fs.readFileSync(databaseFile).equals(image)).toBe(true)
      expect(checksums.toBuffer().equals(expected.toBuffer())).toBe(true)
      expect(position).toEqual({ txid: 5n, checksum: expected.checksum })
      expect(header).toMatchObject({ pageSize, commit: pages, nodeId: 3n })
      fs.rmSync(databaseFile)
    }),
    { seed: seed | 0, numRuns: 25 },
  )
})

test('a snapshot of a dropped database is an empty file', async () => {
  const { databaseFile, checksums, position } = await receive(snapshotOf(Buffer.alloc(0), 4096))
  expect(fs.statSync(databaseFile).size).toBe(0)
  expect([checksums.pageCount, position.checksum]).toEqual([0, EMPTY_CHECKSUM])
})

test('a bit flipped anywhere: refused, and nothing is left', async () => {
  const ltx = snapshotOf(imageOf(3, 512), 512)
  const before = descriptors()
  for (let i = 0; i < ltx.length; i += i < 110 || i > ltx.length - 30 ? 1 : 23) {
    const bytes = Buffer.from(ltx)
    bytes[i]! ^= 1 << (i % 8)
    await expect(receive(bytes)).rejects.toEqual(corrupt)
    expect(left()).toEqual([])
  }
  expect(descriptors()).toBe(before)
})

test('a snapshot that ends too early, or goes on after its end: refused, and nothing is left', async () => {
  const ltx = snapshotOf(imageOf(3, 512), 512)
  for (const length of [0, 50, 100, 700, ltx.length - 1]) {
    await expect(receive(ltx.subarray(0, length))).rejects.toEqual(corrupt)
    expect(left()).toEqual([])
  }
  await expect(receive(Buffer.concat([ltx, Buffer.alloc(1)]))).rejects.toEqual(corrupt)
  expect(left()).toEqual([])
})

test('an LTX that is no snapshot is refused', async () => {
  const wal = { walOffset: 0, walBytes: 0, walSalt1: 0, walSalt2: 0 }
  const preApplyChecksum = (CHECKSUM_FLAG | 1n) as Checksum
  const builder = new LtxRecordBuilder({
    pageSize: 512,
    commit: 0,
    minTxid: txid(2n),
    maxTxid: txid(2n),
    timestampMs: 1,
    preApplyChecksum,
    ...wal,
    nodeId: 1n,
    pageCount: 0,
  })
  await expect(receive(builder.finish(EMPTY_CHECKSUM).bytes)).rejects.toEqual(corrupt)
  expect(left()).toEqual([])
})

test('after an error, an abort or the end the receiver takes nothing more', async () => {
  const ltx = snapshotOf(imageOf(3, 512), 512)
  const failed = new SnapshotReceiver(realDisk, spool())
  expect(() => failed.data(Buffer.alloc(200))).toThrow(corrupt)
  expect(() => failed.data(ltx)).toThrow(closed)
  await expect(failed.finish()).rejects.toEqual(closed)
  const aborted = new SnapshotReceiver(realDisk, spool())
  await aborted.data(ltx)
  aborted.abort()
  aborted.abort()
  await expect(aborted.finish()).rejects.toEqual(closed)
  expect(left()).toEqual([])
  const ended = new SnapshotReceiver(realDisk, spool())
  await ended.data(ltx)
  const { databaseFile } = await ended.finish()
  ended.abort()
  expect(() => ended.data(ltx)).toThrow(closed)
  expect(fs.existsSync(databaseFile)).toBe(true)
})

test('two receivers in one directory do not disturb each other', async () => {
  const images = [imageOf(5, 512, 1), imageOf(5, 512, 2)]
  const [first, second] = await Promise.all(images.map((image) => receive(snapshotOf(image, 512), 100)))
  expect(fs.readFileSync(first!.databaseFile).equals(images[0]!)).toBe(true)
  expect(fs.readFileSync(second!.databaseFile).equals(images[1]!)).toBe(true)
})

test('a large chunk is worked on in turns, between which others have theirs', async () => {
  const ltx = snapshotOf(imageOf(1500, 4096), 4096)
  const receiver = new SnapshotReceiver(realDisk, spool())
  let turns = 0
  let isDone = false
  const count = (): void => {
    turns++
    if (!isDone) setImmediate(count)
  }
  setImmediate(count)
  await receiver.data(ltx)
  isDone = true
  expect(turns).toBeGreaterThanOrEqual(5)
  await receiver.finish()
})

test('compressed zeros do not make one turn long: few bytes in, many out', async () => {
  const image = Buffer.alloc(16 * MIB)
  const ltx = compressLtxRecord(decodeLtxRecord(snapshotOf(image, 4096)))
  expect(ltx.length).toBeLessThan(MIB)
  const receiver = new SnapshotReceiver(realDisk, spool())
  const taking = receiver.data(ltx)
  expect(taking).toBeInstanceOf(Promise)
  receiver.abort()
  await expect(taking).rejects.toEqual(closed)
})

test.for(['snapshot.receive-write', 'snapshot.receive-sync'])(
  'a disk that fails at %s: the error is told, and nothing is left',
  async (operation) => {
    const full = new ClusterError('STORAGE_FAILED', 'disk full')
    const disk: Disk = {
      ...realDisk,
      writeAside: (...args) => (args[0] === operation ? Promise.reject(full) : realDisk.writeAside(...args)),
      dataSync: (...args) => (args[0] === operation ? Promise.reject(full) : realDisk.dataSync(...args)),
    }
    const before = descriptors()
    await expect(receive(snapshotOf(imageOf(600, 4096), 4096), 100_000, disk)).rejects.toBe(full)
    expect(left()).toEqual([])
    expect(descriptors()).toBe(before)
  },
)

test('an abort on a disk that cannot remove the file is no error of its own', async () => {
  const disk: Disk = {
    ...realDisk,
    remove() {
      throw new ClusterError('STORAGE_FAILED', 'EIO')
    },
  }
  const receiver = new SnapshotReceiver(disk, spool())
  await receiver.data(snapshotOf(imageOf(2, 512), 512).subarray(0, 300))
  expect(() => receiver.abort()).not.toThrow()
})

test('an abort while the file is being synced closes it only when the sync has ended', async () => {
  const releases: (() => void)[] = []
  const closedDescriptors: number[] = []
  const disk: Disk = {
    ...realDisk,
    dataSync: () => new Promise((resolve) => releases.push(resolve)),
    close(operation, fd) {
      closedDescriptors.push(fd)
      realDisk.close(operation, fd)
    },
  }
  const receiver = new SnapshotReceiver(disk, spool())
  await receiver.data(snapshotOf(imageOf(3, 512), 512))
  const finished = expect(receiver.finish()).rejects.toEqual(closed)
  while (releases.length === 0) await new Promise((resolve) => setImmediate(resolve))
  receiver.abort()
  expect(closedDescriptors).toEqual([])
  releases[0]!()
  await finished
  expect(closedDescriptors.length).toBe(1)
  expect(left()).toEqual([])
})
