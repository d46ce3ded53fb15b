/**
 * A difference carries only the pages that another state does not have, and leads from it to the newest state exactly. Real: SQLite, its
 * files, worker threads. The oracle is SQLite's own `serialize`.
 */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { realDisk } from '../files/disk.ts'
import { decodeLtxRecord } from '../ltx/ltx-record.ts'
import { PageChecksums } from '../ltx/page-checksums.ts'
import { EMPTY_CHECKSUM } from '../position/checksum.ts'
import { txid } from '../position/txid.ts'
import { type ReceivedSnapshot, SnapshotReceiver } from './snapshot-receiver.ts'
import { openDifferenceSpool, writeDifference } from './snapshot-writer.ts'
import { LiveDatabase } from './test-support/live-database.ts'

const MIB = 1024 * 1024
const PAGE = 4096

let directory = ''
let database: LiveDatabase
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-difference-'))
  database = new LiveDatabase(path.join(directory, 'database'), PAGE)
})
afterEach(() => {
  database.close()
  fs.rmSync(directory, { recursive: true, force: true })
})

type State = ReturnType<LiveDatabase['pin']>

/** The newest state, pinned for as long as `work` runs. */
async function pinned<T>(work: (state: State) => Promise<T>): Promise<T> {
  const state = database.pin()
  try {
    return await work(state)
  } finally {
    database.unpin()
  }
}

function stateNow(): State {
  const state = database.pin()
  database.unpin()
  return state
}

function spoolOf(to: State, from: PageChecksums) {
  const position = { txid: txid(77n), checksum: to.checksums.checksum }
  const spoolFile = path.join(directory, 'spool')
  const { pages, checksums } = to
  return openDifferenceSpool({
    disk: realDisk,
    pages,
    position,
    spoolFile,
    timestampMs: 5,
    nodeId: 9n,
    checksums,
    from,
  })
}

async function bytesOf(to: State, from: PageChecksums): Promise<Buffer> {
  const spool = spoolOf(to, from)
  const pieces: Buffer[] = []
  for await (const piece of spool.read()) pieces.push(piece)
  await spool.close()
  expect(spool.sizeBytes).toBe(Buffer.concat(pieces).length)
  return Buffer.concat(pieces)
}

async function receive(ltx: Buffer, base: PageChecksums | undefined, chunkBytes = 100_000): Promise<ReceivedSnapshot> {
  const receiver = new SnapshotReceiver(realDisk, path.join(directory, 'received'), base)
  for (let at = 0; at < ltx.length; at += chunkBytes) await receiver.data(ltx.subarray(at, at + chunkBytes))
  return receiver.finish()
}

/** What a copy in state `from` is after the pages received were put in place. */
function applied(from: State, received: ReceivedSnapshot): Buffer {
  const image = Buffer.alloc(received.checksums.pageCount * PAGE)
  from.image.copy(image)
  const spool = fs.readFileSync(received.databaseFile)
  for (const pgno of received.checksums.differingFrom(from.checksums))
    spool.copy(image, (pgno - 1) * PAGE, (pgno - 1) * PAGE, pgno * PAGE)
  return image
}

test.each([
  ['a few pages of a large database, in a worker', 30 * MIB, () => database.update(3)],
  ['growth', MIB, () => database.insert(MIB)],
  ['much growth, in a worker', MIB, () => database.insert(20 * MIB)],
  ['a shrunken file', 2 * MIB, () => database.writer.exec('DELETE FROM t WHERE id > 20; VACUUM')],
  ['nothing but what a commit always changes', MIB, () => database.writer.exec('PRAGMA user_version = 7')],
] as const)('%s: only what differs is sent, and leads to the other state', async (_, bytes, change) => {
  database.insert(bytes)
  const from = stateNow()
  change()
  database.update(5)
  const differing = stateNow().checksums.differingFrom(from.checksums).length
  const ltx = await pinned((to) => bytesOf(to, from.checksums))
  expect(ltx.length).toBe(100 + differing * (4 + PAGE) + 4 + 16)
  const received = await receive(ltx, from.checksums)
  expect(received).toMatchObject({ isDifference: true, position: { txid: 77n } })
  expect(applied(from, received).equals(stateNow().image)).toBe(true)
  expect(received.checksums.checksum).toBe(stateNow().checksums.checksum)
})

test('equal states have a difference without a page', async () => {
  database.insert(MIB)
  const state = stateNow()
  const ltx = await pinned((to) => bytesOf(to, state.checksums))
  expect(ltx.length).toBe(120)
  const received = await receive(ltx, state.checksums)
  expect(received.checksums.checksum).toBe(state.checksums.checksum)
})

test('pages that are not those of the position never become a difference', async () => {
  database.insert(MIB)
  const from = stateNow()
  database.update(1)
  const wrong = stateNow()
  database.writer.exec('UPDATE t SET v = zeroblob(4000)')
  await pinned(async (to) => {
    const spool = spoolOf({ ...to, checksums: wrong.checksums }, from.checksums)
    await expect(spool.done).rejects.toMatchObject({ code: 'CORRUPT_DATA' })
    await spool.close()
  })
})

describe('a receiver refuses a difference', () => {
  async function difference(): Promise<{ from: State; ltx: Buffer }> {
    database.insert(MIB)
    const from = stateNow()
    database.update(1)
    return { from, ltx: await pinned((to) => bytesOf(to, from.checksums)) }
  }

  test('to another database than the one that is here', async () => {
    const { from, ltx } = await difference()
    const other = from.checksums.clone()
    other.set(1, 0x80000001, 1)
    await expect(receive(ltx, other)).rejects.toMatchObject({ code: 'CORRUPT_DATA' })
    await expect(receive(ltx, undefined)).rejects.toMatchObject({ code: 'CORRUPT_DATA' })
    expect(fs.readdirSync(path.join(directory, 'received'))).toEqual([])
  })

  test('that is cut off anywhere, or has a byte changed', async () => {
    const { from, ltx } = await difference()
    for (let length = 0; length < ltx.length; length += 997)
      await expect(receive(ltx.subarray(0, length), from.checksums)).rejects.toMatchObject({ code: 'CORRUPT_DATA' })
    for (let at = 0; at < ltx.length; at += 1999) {
      const changed = Buffer.from(ltx)
      changed[at]! ^= 0x10
      await expect(receive(changed, from.checksums)).rejects.toMatchObject({ code: 'CORRUPT_DATA' })
    }
    expect(fs.readdirSync(path.join(directory, 'received'))).toEqual([])
  })

  test('whose page numbers jump, before they ask for memory', async () => {
    const { from, ltx } = await difference()
    const jump = Buffer.from(ltx)
    jump.writeUInt32BE(0xffff_fff0, 12) // commit
    jump.writeUInt32BE(0xffff_ff00, 100) // first page
    await expect(receive(jump, from.checksums)).rejects.toMatchObject({ code: 'CORRUPT_DATA' })
  })
})

test('a difference can be kept as a file, from an empty database too', async () => {
  database.insert(MIB)
  const empty = new PageChecksums(PAGE)
  expect(empty.checksum).toBe(EMPTY_CHECKSUM)
  const file = path.join(directory, 'kept.ltx')
  await pinned(({ pages, checksums }) => {
    const position = { txid: txid(3n), checksum: checksums.checksum }
    return writeDifference({ disk: realDisk, file, pages, position, checksums, from: empty, timestampMs: 1 })
  })
  const record = decodeLtxRecord(fs.readFileSync(file))
  expect(record.postApply.checksum).toBe(stateNow().checksums.checksum)
  expect(record.pageCount).toBe(stateNow().checksums.pageCount)
})
