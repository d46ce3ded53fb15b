import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { InvariantError } from '../base/assert.ts'
import { openConnection } from '../sqlite/connection.ts'
import { prepareDatabaseFile } from '../sqlite/open-database-file.ts'
import { type Disk, realDisk } from './disk.ts'
import { LiveFiles } from './live-files.ts'

let directory = ''
let file = ''
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-live-'))
  file = path.join(directory, 'database')
  prepareDatabaseFile(realDisk, file, { mayCreate: true })
})
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }))

test('the descriptors show what SQLite writes, and are good for writing', () => {
  const connection = openConnection(file)
  const files = LiveFiles.open(realDisk, file)
  connection.exec('CREATE TABLE t(a)')
  const bytes = Buffer.alloc(16)
  fs.readSync(files.databaseFd, bytes, 0, 16, 0)
  expect(bytes.toString('latin1')).toBe('SQLite format 3\0')
  expect(fs.fstatSync(files.walFd).size).toBeGreaterThan(4096)
  expect(fs.fstatSync(files.shmFd).size).toBeGreaterThanOrEqual(32768)
  fs.readSync(files.walFd, bytes, 0, 1, 0)
  expect(fs.writeSync(files.walFd, bytes, 0, 1, 0)).toBe(1)
  connection.close()
  files.close()
})

test('the files are not closed while a connection is open, because that would drop its locks', () => {
  const connection = openConnection(file)
  const files = LiveFiles.open(realDisk, file)
  files.track(connection)
  expect(() => files.close()).toThrow(InvariantError)
  // Still open: the refused close has closed nothing.
  expect(fs.fstatSync(files.databaseFd).isFile()).toBe(true)
  connection.close()
  files.close()
  files.close()
  expect(() => fs.fstatSync(files.walFd)).toThrow(/EBADF/)
})

test('a process that closes the database meanwhile does not delete the WAL under us', () => {
  const connection = openConnection(file)
  const files = LiveFiles.open(realDisk, file)
  connection.exec('CREATE TABLE t(a); INSERT INTO t VALUES (1)')
  execFileSync('sqlite3', [file, 'INSERT INTO t VALUES (2)'])
  expect(files.areLinked).toBe(true)
  connection.exec('INSERT INTO t VALUES (3)')
  expect(execFileSync('sqlite3', [file, 'SELECT sum(a) FROM t'], { encoding: 'utf8' }).trim()).toBe('6')
  connection.close()
  files.close()
})

test('a WAL that was taken away shows', () => {
  const connection = openConnection(file)
  const files = LiveFiles.open(realDisk, file)
  expect(files.areLinked).toBe(true)
  fs.renameSync(files.walPath, `${files.walPath}.gone`)
  expect(files.areLinked).toBe(false)
  fs.writeFileSync(files.walPath, '')
  expect(files.areLinked).toBe(false)
  connection.close()
  files.close()
})

test('when opening fails half-way, nothing that carries locks is closed', () => {
  const connection = openConnection(file)
  connection.exec('CREATE TABLE t(a)')
  const closed: number[] = []
  const disk: Disk = {
    ...realDisk,
    open(operation, name, flags) {
      if (operation === 'live-files.open-database') throw new Error('too many open files')
      return realDisk.open(operation, name, flags)
    },
    close: (_operation, fd) => void closed.push(fd),
  }
  expect(() => LiveFiles.open(disk, file)).toThrow('too many open files')
  expect(closed).toEqual([])
  connection.exec('BEGIN IMMEDIATE; INSERT INTO t VALUES (1)')
  expect(() => execFileSync('sqlite3', [file, 'INSERT INTO t VALUES (2)'], { stdio: 'ignore' })).toThrow()
  connection.exec('COMMIT')
  connection.close()
})

test('without -wal and -shm there is no live database, and nothing is opened', () => {
  const opened: string[] = []
  const disk: Disk = { ...realDisk, open: (operation) => opened.push(operation) }
  expect(() => LiveFiles.open(disk, file)).toThrow(expect.objectContaining({ code: 'STORAGE_FAILED' }))
  expect(opened).toEqual([])
})
