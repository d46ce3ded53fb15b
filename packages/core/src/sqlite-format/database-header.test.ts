import Database from 'better-sqlite3'
import { describe, expect, it } from 'vitest'
import { isClusterError } from '../errors/cluster-error.ts'
import { isValidPageSize, isWalMode, parseDatabaseHeader } from './database-header.ts'
import { lockPage } from './lock-page.ts'

function imageOf(pageSize: number): Buffer {
  const db = new Database(':memory:')
  db.pragma(`page_size=${pageSize}`)
  db.exec('CREATE TABLE t(a); CREATE TABLE u(a); INSERT INTO t VALUES (1)')
  const image = db.serialize()
  db.close()
  return image
}

function refusal(bytes: Uint8Array): unknown {
  try {
    parseDatabaseHeader(bytes, 'database "app.db"')
    return undefined
  } catch (error) {
    return error
  }
}

describe('the database header', () => {
  it.each([512, 1024, 2048, 4096, 8192, 16384, 32768, 65536])('reads what SQLite wrote, page size %i', (pageSize) => {
    const image = imageOf(pageSize)
    const header = parseDatabaseHeader(image.subarray(0, 100), 'image')
    expect(header.pageSize).toBe(pageSize)
    expect(header.pageCount).toBe(image.length / pageSize)
    expect(header.versionValidFor).toBe(header.changeCounter)
    expect(header.schemaCookie).toBe(2)
    expect(isWalMode(header)).toBe(false)
  })

  it('tells WAL mode by both version bytes', () => {
    const image = imageOf(4096)
    image[18] = 2
    expect(isWalMode(parseDatabaseHeader(image, 'image'))).toBe(false)
    image[19] = 2
    expect(isWalMode(parseDatabaseHeader(image, 'image'))).toBe(true)
  })

  it('reads from a view that is not aligned', () => {
    const shifted = Buffer.concat([Buffer.alloc(3), imageOf(8192)]).subarray(3)
    expect(parseDatabaseHeader(shifted, 'image').pageSize).toBe(8192)
  })

  it('refuses a short file, another magic and an impossible page size, naming the file', () => {
    const badSize = imageOf(4096)
    badSize.writeUInt16BE(1000, 16)
    const badMagic = imageOf(4096)
    badMagic[3] = 0
    for (const bytes of [imageOf(4096).subarray(0, 99), badMagic, badSize]) {
      const error = refusal(bytes)
      expect(isClusterError(error, 'NOT_A_DATABASE')).toBe(true)
      expect(String(error)).toContain('database "app.db"')
    }
  })

  it('accepts exactly the powers of two from 512 to 65536 as page size', () => {
    const valid = Array.from({ length: 140_000 }, (_, size) => size).filter(isValidPageSize)
    expect(valid).toEqual([512, 1024, 2048, 4096, 8192, 16384, 32768, 65536])
    expect(isValidPageSize(Number.NaN)).toBe(false)
    expect(isValidPageSize(4096.5)).toBe(false)
  })
})

describe('the lock page', () => {
  it.each([
    [512, 2097153],
    [1024, 1048577],
    [2048, 524289],
    [4096, 262145],
    [8192, 131073],
    [16384, 65537],
    [32768, 32769],
    [65536, 16385],
  ])('for page size %i is %i, as LiteFS says', (pageSize, pgno) => {
    expect(lockPage(pageSize)).toBe(pgno)
  })
})
