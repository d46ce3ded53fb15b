/**
 * Real: SQLite, its files, worker threads. The oracle is SQLite's own `serialize` of the pinned state, and the LTX decoder.
 */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { ClusterError } from '../errors/cluster-error.ts'
import { realDisk } from '../files/disk.ts'
import { openDescriptors } from '../files/test-support/open-descriptors.ts'
import { decodeLtxRecord } from '../ltx/ltx-record.ts'
import type { PageChecksums } from '../ltx/page-checksums.ts'
import { type Checksum, CHECKSUM_FLAG } from '../position/checksum.ts'
import type { Position } from '../position/position.ts'
import { txid } from '../position/txid.ts'
import { SnapshotReceiver } from './snapshot-receiver.ts'
import { openImageSpool, openSnapshotSpool, type SnapshotRequest, type SnapshotSpool } from './snapshot-writer.ts'
import { LiveDatabase } from './test-support/live-database.ts'

const MIB = 1024 * 1024

let directory = ''
let database: LiveDatabase
const spools: SnapshotSpool[] = []
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-snapshot-'))
})
afterEach(async () => {
  for (const spool of spools.splice(0)) await spool.close()
  database.close()
  fs.rmSync(directory, { recursive: true, force: true })
})

function open(bytes: number, pageSize = 4096): LiveDatabase {
  database = new LiveDatabase(path.join(directory, 'database'), pageSize)
  database.insert(bytes)
  return database
}

const positionOf = (checksums: PageChecksums): Position => ({ txid: txid(77n), checksum: checksums.checksum })

function request(pinned: ReturnType<LiveDatabase['pin']>): SnapshotRequest {
  const position = positionOf(pinned.checksums)
  const spoolFile = path.join(directory, 'spool')
  return { disk: realDisk, pages: pinned.pages, position, spoolFile, timestampMs: 1234, nodeId: 9n }
}

function track(spool: SnapshotSpool): SnapshotSpool {
  spools.push(spool)
  return spool
}

async function readAll(spool: SnapshotSpool): Promise<Buffer> {
  const pieces: Buffer[] = []
  for await (const piece of spool.read()) pieces.push(piece)
  return Buffer.concat(pieces)
}

const turn = (): Promise<unknown> => new Promise((resolve) => setImmediate(resolve))

test.for([
  { size: 'small', bytes: 40_000, pageSize: 512 },
  { size: 'small', bytes: 300_000, pageSize: 65536 },
  { size: 'large', bytes: 10 * MIB, pageSize: 4096 },
])(
  'a $size database of page size $pageSize: the snapshot is an LTX of the pinned state and becomes its image again',
  async ({ bytes, pageSize }) => {
    open(bytes, pageSize).checkpoint()
    database.update(1)
    const pinned = database.pin()
    const spool = track(openSnapshotSpool(request(pinned)))
    expect(fs.readdirSync(directory)).not.toContain('spool')
    // Two readers follow the copy while it grows.
    const [ltx, again] = await Promise.all([readAll(spool), readAll(spool)])
    expect(ltx.equals(again)).toBe(true)
    await spool.done
    database.unpin()
    expect(ltx.length).toBe(spool.sizeBytes)
    const record = decodeLtxRecord(ltx)
    expect(record.header).toMatchObject({
      minTxid: 1n,
      maxTxid: 77n,
      timestampMs: 1234,
      nodeId: 9n,
      commit: pinned.pages.pageCount,
    })
    expect(record.postApply).toEqual(spool.position)
    const receiver = new SnapshotReceiver(realDisk, path.join(directory, 'received'))
    await receiver.data(ltx)
    const received = await receiver.finish()
    expect(fs.readFileSync(received.databaseFile).equals(pinned.image)).toBe(true)
    expect(received.checksums.toBuffer().equals(pinned.checksums.toBuffer())).toBe(true)
    expect(received.position).toEqual(spool.position)
  },
)

test('a writer and checkpoints go on while the pinned state is copied and read', async () => {
  open(10 * MIB)
  for (let i = 0; i < 20; i++) database.update(i)
  const pinned = database.pin()
  const spool = track(openSnapshotSpool(request(pinned)))
  const ended = new AbortController()
  const done = spool.done.finally(() => ended.abort())
  const reading = readAll(spool)
  for (let commits = 1; !ended.signal.aborted; commits++) {
    database.update(1000 + commits)
    if (commits % 20 === 0) database.insert(100_000)
    if (commits % 30 === 0) database.checkpoint()
    await turn()
  }
  await done
  database.unpin()
  const record = decodeLtxRecord(await reading)
  expect(record.postApply.checksum).toBe(pinned.checksums.checksum)
  for (let i = 0; i < record.pageCount; i++)
    expect(record.page(i).equals(pinned.image.subarray(i * 4096, (i + 1) * 4096))).toBe(true)
})

test('the plain image is the pinned state, byte for byte', async () => {
  const pinned = open(50_000).pin()
  const spool = track(openImageSpool(request(pinned)))
  const image = await readAll(spool)
  expect(image.length).toBe(spool.sizeBytes)
  expect(image.equals(pinned.image)).toBe(true)
  database.unpin()
})

test.for([
  { form: 'LTX', bytes: 50_000 },
  { form: 'LTX', bytes: 9 * MIB },
  { form: 'image', bytes: 50_000 },
])(
  '$form of $bytes bytes: pages that do not make the checksum of the position never pass for a snapshot',
  async ({ form, bytes }) => {
    const pinned = open(bytes).pin()
    const wrong = { ...request(pinned), position: { txid: txid(77n), checksum: (CHECKSUM_FLAG | 5n) as Checksum } }
    const spool = track(form === 'LTX' ? openSnapshotSpool(wrong) : openImageSpool(wrong))
    let given = 0
    const reading = (async () => {
      for await (const piece of spool.read()) given += piece.length
    })()
    await expect(reading).rejects.toMatchObject({ code: 'CORRUPT_DATA' })
    await expect(spool.done).rejects.toMatchObject({ code: 'CORRUPT_DATA' })
    expect(given).toBeLessThan(spool.sizeBytes)
    database.unpin()
  },
)

test.for([50_000, 9 * MIB])(
  '%i bytes: closing ends the copy and its readers, and frees the descriptor',
  async (bytes) => {
    const pinned = open(bytes).pin()
    const before = openDescriptors(directory)
    const spool = track(openSnapshotSpool(request(pinned)))
    const reading = readAll(spool)
    const closed = expect.objectContaining({ code: 'CLOSED' })
    const outcomes = Promise.all([expect(reading).rejects.toEqual(closed), expect(spool.done).rejects.toEqual(closed)])
    await Promise.all([spool.close(), spool.close()])
    await outcomes
    await expect(readAll(spool)).rejects.toEqual(closed)
    expect(openDescriptors(directory)).toBe(before)
    expect(fs.fstatSync(pinned.pages.databaseFd).isFile()).toBe(true)
    database.unpin()
  },
)

test.for([50_000, 9 * MIB])(
  '%i bytes: aborting fails copy and readers with the reason of the signal',
  async (bytes) => {
    const pinned = open(bytes).pin()
    const abort = new AbortController()
    const reason = new Error('the replica left')
    const spool = track(openSnapshotSpool({ ...request(pinned), signal: abort.signal }))
    const outcomes = Promise.all([expect(readAll(spool)).rejects.toBe(reason), expect(spool.done).rejects.toBe(reason)])
    abort.abort(reason)
    await outcomes
    expect(() => openSnapshotSpool({ ...request(pinned), signal: abort.signal })).toThrow(reason)
    database.unpin()
  },
)

test.for([50_000, 9 * MIB])('%i bytes: a disk that takes no bytes fails the copy and its readers', async (bytes) => {
  const pinned = open(bytes).pin()
  const readOnly: typeof realDisk.open = (operation, file, flags) => {
    realDisk.close(operation, realDisk.open(operation, file, flags))
    return realDisk.open(operation, file, 'r')
  }
  const spool = track(openSnapshotSpool({ ...request(pinned), disk: { ...realDisk, open: readOnly } }))
  await expect(readAll(spool)).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
  await expect(spool.done).rejects.toBeInstanceOf(ClusterError)
  database.unpin()
})

test('a spool that cannot be made is an error at once', () => {
  const pinned = open(50_000).pin()
  fs.writeFileSync(path.join(directory, 'no-directory'), '')
  const spoolFile = path.join(directory, 'no-directory', 'spool')
  expect(() => openSnapshotSpool({ ...request(pinned), spoolFile })).toThrow(
    expect.objectContaining({ code: 'STORAGE_FAILED' }),
  )
  database.unpin()
})
