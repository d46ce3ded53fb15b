import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { SqliteDatabase } from '../sqlite/sqlite-library.ts'
import { LOCK_BYTES_OFFSET } from '../sqlite-format/wal-index.ts'
import { tryLock, unlock } from './range-lock.ts'

let directory = ''
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-lock-'))
})
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }))

test('locks of two open files conflict byte by byte, also in one process', () => {
  const file = path.join(directory, 'file')
  fs.writeFileSync(file, '')
  const [a, b] = [fs.openSync(file, 'r+'), fs.openSync(file, 'r+')]
  expect(tryLock(a, 10, 2)).toBe(true)
  expect(tryLock(b, 11, 1)).toBe(false)
  expect(tryLock(b, 12, 1)).toBe(true)
  unlock(a, 10, 2)
  expect(tryLock(b, 11, 1)).toBe(true)
  fs.closeSync(a)
  // Closing another descriptor drops nothing: that is the difference to POSIX locks.
  const c = fs.openSync(file, 'r+')
  expect(tryLock(c, 11, 1)).toBe(false)
  fs.closeSync(b)
  expect(tryLock(c, 11, 1)).toBe(true)
  fs.closeSync(c)
})

test('a length of zero, which the system would read as "to the end of the file", is refused', () => {
  expect(() => tryLock(0, 5, 0)).toThrow(/lock of 0 bytes/)
})

test('the write lock byte of a wal-index, held here, keeps SQLite from writing, in this process and in others', () => {
  const file = path.join(directory, 'database')
  const writer = new SqliteDatabase(file, { timeout: 0 })
  writer.pragma('journal_mode = WAL')
  writer.exec('CREATE TABLE t(a)')
  const shm = fs.openSync(`${file}-shm`, 'r+')
  expect(tryLock(shm, LOCK_BYTES_OFFSET, 1)).toBe(true)
  expect(() => writer.exec('INSERT INTO t VALUES (1)')).toThrow(/locked/)
  expect(() => execFileSync('sqlite3', [file, 'INSERT INTO t VALUES (1)'], { stdio: 'ignore' })).toThrow()
  expect(writer.prepare('SELECT count(*) FROM t').pluck().get()).toBe(0)
  unlock(shm, LOCK_BYTES_OFFSET, 1)
  writer.exec('INSERT INTO t VALUES (1)')
  writer.close()
  fs.closeSync(shm)
})
