import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Disk, realDisk } from '../files/disk.ts'
import { isWalMode, parseDatabaseHeader } from '../sqlite-format/database-header.ts'
import { openConnection } from './connection.ts'
import { prepareDatabaseFile } from './open-database-file.ts'

let directory = ''
let file = ''
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-prepare-'))
  file = path.join(directory, 'app.db', 'database')
  fs.mkdirSync(path.dirname(file))
})
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }))

const shell = (sql: string): string => execFileSync('sqlite3', [file, sql], { encoding: 'utf8' })
const prepare = (mayCreate = false) => prepareDatabaseFile(realDisk, file, { mayCreate })
const headerOf = () => parseDatabaseHeader(fs.readFileSync(file), file)

test.for(['missing', 'empty'])('a %s file becomes a WAL database with a first page', (state) => {
  if (state === 'empty') fs.writeFileSync(file, '')
  expect(prepare(true)).toEqual({ pageSize: 4096, isNew: true })
  expect(fs.statSync(file).size).toBe(4096)
  expect(isWalMode(headerOf())).toBe(true)
  const connection = openConnection(file)
  expect(connection.pragma('page_count', { simple: true })).toBe(1)
  connection.close()
})

test('directories on the way to a new file are made', () => {
  fs.rmSync(path.dirname(file), { recursive: true })
  expect(prepare(true).isNew).toBe(true)
})

test.for(['missing', 'empty'])('a %s file that may not be created is refused and stays as it was', (state) => {
  if (state === 'empty') fs.writeFileSync(file, '')
  expect(() => prepare()).toThrow(expect.objectContaining({ code: 'NOT_A_DATABASE' }))
  expect(fs.existsSync(file)).toBe(state === 'empty')
  expect(() => prepare()).toThrow(file)
})

test.for([
  { what: 'a text', content: 'hello, this is not a database '.repeat(40) },
  { what: 'an encrypted database', content: 'A'.repeat(4096) },
  { what: 'a file shorter than a header', content: 'SQLite format 3\0' },
])('$what is refused with its name and what to do, and not changed', ({ content }) => {
  fs.writeFileSync(file, content)
  let message = ''
  try {
    prepare(true)
  } catch (error) {
    message = String(error)
  }
  expect(message).toContain('NOT_A_DATABASE')
  expect(message).toContain(file)
  expect(message).toContain('\n')
  expect(fs.readFileSync(file, 'latin1')).toBe(content)
})

test.for([
  { what: 'a page size that is no power of two', at: 16, bytes: [0x03, 0x00] },
  { what: 'a format newer than SQLite knows', at: 18, bytes: [3, 3] },
])('$what is refused before SQLite sees the file', ({ at, bytes }) => {
  shell('CREATE TABLE t(a)')
  const content = fs.readFileSync(file)
  content.set(bytes, at)
  fs.writeFileSync(file, content)
  expect(() => prepare(true)).toThrow(expect.objectContaining({ code: 'NOT_A_DATABASE' }))
  expect(fs.readFileSync(file).equals(content)).toBe(true)
  expect(fs.readdirSync(path.dirname(file))).toEqual(['database'])
})

test.for([512, 65536])('a rollback-mode database of page size %i is adopted and switched to WAL', (pageSize) => {
  shell(`PRAGMA page_size = ${pageSize}; CREATE TABLE t(a); INSERT INTO t VALUES (7)`)
  expect(isWalMode(headerOf())).toBe(false)
  expect(prepare()).toEqual({ pageSize, isNew: false })
  expect(isWalMode(headerOf())).toBe(true)
  expect(shell('SELECT a FROM t').trim()).toBe('7')
})

test('a hot journal is rolled back by SQLite on the way', async () => {
  shell('CREATE TABLE t(a); INSERT INTO t VALUES (1)')
  const writer = spawn('sqlite3', [file], { stdio: ['pipe', 'pipe', 'inherit'] })
  // A cache this small writes changed pages into the file before the commit, so the journal is hot.
  writer.stdin.write(
    'PRAGMA cache_size = 2; BEGIN; INSERT INTO t SELECT zeroblob(90000) FROM t; DELETE FROM t WHERE a = 1;\n' +
      'INSERT INTO t VALUES (zeroblob(90000)); SELECT 42;\n',
  )
  await once(writer.stdout, 'data')
  const gone = once(writer, 'exit')
  writer.kill('SIGKILL')
  await gone
  expect(fs.statSync(`${file}-journal`).size).toBeGreaterThan(0)
  expect(prepare().isNew).toBe(false)
  expect(fs.existsSync(`${file}-journal`)).toBe(false)
  expect(shell('SELECT a FROM t').trim()).toBe('1')
  expect(shell('PRAGMA integrity_check').trim()).toBe('ok')
})

test('a WAL database is not opened, so a WAL left by a crash is still there for the proof of continuity', () => {
  prepare(true)
  const live = openConnection(file)
  live.exec('CREATE TABLE t(a)')
  const crashed = path.join(directory, 'crashed')
  execFileSync('cp', ['-r', path.dirname(file), crashed])
  live.close()
  fs.rmSync(path.join(crashed, 'database-shm'))
  const walBytes = fs.readFileSync(path.join(crashed, 'database-wal'))
  file = path.join(crashed, 'database')
  expect(prepare()).toEqual({ pageSize: 4096, isNew: false })
  expect(fs.readFileSync(path.join(crashed, 'database-wal')).equals(walBytes)).toBe(true)
  expect(fs.readdirSync(crashed)).toEqual(['database', 'database-wal'])
})

test('a main file that was lost beside its WAL is not taken for a new database', () => {
  fs.writeFileSync(`${file}-wal`, 'x'.repeat(5000))
  expect(() => prepare(true)).toThrow(expect.objectContaining({ code: 'NOT_A_DATABASE' }))
  expect(fs.statSync(`${file}-wal`).size).toBe(5000)
})

test('a rollback-mode database that another program has locked is DATABASE_BUSY, not a wait', async () => {
  shell('CREATE TABLE t(a)')
  const other = spawn('sqlite3', [file], { stdio: ['pipe', 'pipe', 'inherit'] })
  other.stdin.write('BEGIN IMMEDIATE; SELECT 1;\n')
  await once(other.stdout, 'data')
  expect(() => prepare()).toThrow(expect.objectContaining({ code: 'DATABASE_BUSY' }))
  const gone = once(other, 'exit')
  other.stdin.end('ROLLBACK;\n')
  await gone
  expect(prepare().pageSize).toBe(4096)
})

test('the header is read by name of its operation, so that a failing disk is told', () => {
  shell('CREATE TABLE t(a)')
  const disk: Disk = {
    ...realDisk,
    read: () => {
      throw new Error('bad sector')
    },
  }
  expect(() => prepareDatabaseFile(disk, file, { mayCreate: false })).toThrow('bad sector')
})
