import { spawnSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { ClusterError } from '../errors/cluster-error.ts'
import { hashPages } from './page-hasher.ts'
import { packPageMap, type PinnedPages } from './page-source.ts'
import { checksumsOf, frameOf } from './test-support/live-database.ts'

const MIB = 1024 * 1024

let directory = ''
const descriptors: number[] = []
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-hash-'))
})
afterEach(() => {
  for (const fd of descriptors.splice(0)) fs.closeSync(fd)
  fs.rmSync(directory, { recursive: true, force: true })
})

function open(name: string, content: Buffer): number {
  const file = path.join(directory, name)
  fs.writeFileSync(file, content)
  const fd = fs.openSync(file, 'r+')
  descriptors.push(fd)
  return fd
}

/** A database file of which the WAL has two pages anew, the last one beyond its end. */
function database(bytes: number): { pages: PinnedPages; image: Buffer } {
  const pageSize = 4096
  const image = Buffer.alloc(bytes)
  for (let at = 0; at < bytes; at += 512) image.writeUInt32LE(Math.imul(at, 2654435761) >>> 0, at)
  const main = Buffer.from(image.subarray(0, bytes - pageSize))
  main.fill(0xee, 0, pageSize)
  const walFd = open(
    'wal',
    Buffer.concat([Buffer.alloc(32), frameOf(image.subarray(bytes - pageSize)), frameOf(image.subarray(0, pageSize))]),
  )
  const pageCount = bytes / pageSize
  const wal = packPageMap(
    new Map([
      [pageCount, 1],
      [1, 2],
    ]),
  )
  return { pages: { databaseFd: open('main', main), walFd, pageSize, pageCount, wal }, image }
}

test.for([
  { how: 'here', bytes: 3 * MIB },
  { how: 'in one worker', bytes: 9 * MIB },
  { how: 'in two workers', bytes: 65 * MIB - 8192 },
])('$bytes bytes, hashed $how: every page has its checksum', async ({ bytes }) => {
  const { pages, image } = database(bytes)
  const checksums = await hashPages(pages)
  const expected = checksumsOf(image, pages.pageSize)
  expect(checksums.pageCount).toBe(pages.pageCount)
  expect(checksums.checksum).toBe(expected.checksum)
  expect(checksums.toBuffer().equals(expected.toBuffer())).toBe(true)
  // The map of the caller was not moved away, and the descriptors are still open.
  expect(pages.wal.pgnos.length).toBe(2)
  expect(fs.fstatSync(pages.databaseFd).size).toBe(bytes - 4096)
})

test('a database without pages has the empty checksum', async () => {
  const { pages } = database(8192)
  const checksums = await hashPages({ ...pages, pageCount: 0 })
  expect([checksums.pageCount, checksums.checksum]).toEqual([0, 1n << 63n])
})

test.for([3 * MIB, 9 * MIB, 65 * MIB])(
  '%i bytes: damage is reported with its code, from whichever thread',
  async (bytes) => {
    const { pages } = database(bytes)
    fs.ftruncateSync(pages.databaseFd, bytes - 9000)
    const error: unknown = await hashPages(pages).catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(ClusterError)
    expect(error).toMatchObject({ code: 'CORRUPT_DATA', details: {} })
    expect(String(error)).toContain(`CORRUPT_DATA: snapshot: page ${pages.pageCount - 2} is neither`)
  },
)

test('a failing descriptor is reported with its details from a worker', async () => {
  const { pages } = database(9 * MIB)
  const fd = fs.openSync(path.join(directory, 'write-only'), 'w')
  descriptors.push(fd)
  await expect(hashPages({ ...pages, databaseFd: fd })).rejects.toMatchObject({
    code: 'STORAGE_FAILED',
    details: { operation: 'snapshot.read-database', errno: 'EBADF' },
  })
})

test.for([3 * MIB, 9 * MIB])('%i bytes: aborting rejects with the reason of the signal', async (bytes) => {
  const { pages } = database(bytes)
  const abort = new AbortController()
  const reason = new Error('no longer needed')
  const hashing = hashPages({ ...pages, signal: abort.signal })
  abort.abort(reason)
  await expect(hashing).rejects.toBe(reason)
  await expect(hashPages({ ...pages, signal: abort.signal })).rejects.toBe(reason)
})

test('a process with nothing else to do stays until its database is hashed', () => {
  database(9 * MIB)
  const script = `
    import fs from 'node:fs'
    import { hashPages } from ${JSON.stringify(new URL('./page-hasher.ts', import.meta.url).href)}
    const fd = fs.openSync(${JSON.stringify(path.join(directory, 'main'))}, 'r')
    const wal = { pgnos: new Uint32Array(), frames: new Uint32Array() }
    const checksums = await hashPages({ databaseFd: fd, walFd: fd, pageSize: 4096, pageCount: 2300, wal })
    console.log(checksums.pageCount)
  `
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
  })
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: '2300\n', stderr: '' })
})
