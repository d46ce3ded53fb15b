import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { InvariantError } from '../base/assert.ts'
import { realDisk } from '../files/disk.ts'
import { type Connection, openConnection } from './connection.ts'
import { prepareDatabaseFile } from './open-database-file.ts'
import { isBusy, isSqliteError, makeSqliteError, sqliteErrorCode } from './sqlite-error.ts'
import { SqliteDatabase, SqliteError } from './sqlite-library.ts'

let directory = ''
let file = ''
const open: Connection[] = []
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-connection-'))
  file = path.join(directory, 'database')
  prepareDatabaseFile(realDisk, file, { mayCreate: true })
})
afterEach(() => {
  for (const connection of open.splice(0)) connection.close()
  fs.rmSync(directory, { recursive: true, force: true })
})

function connect(options: Parameters<typeof openConnection>[1] = {}): Connection {
  const connection = openConnection(file, options)
  open.push(connection)
  return connection
}

const pragma = (connection: Connection, name: string): unknown => connection.pragma(name, { simple: true })

test('a writer syncs every commit, never checkpoints by itself, waits for nobody and keeps foreign keys', () => {
  const writer = connect()
  expect(pragma(writer, 'synchronous')).toBe(2)
  expect(pragma(writer, 'wal_autocheckpoint')).toBe(0)
  expect(pragma(writer, 'busy_timeout')).toBe(0)
  expect(pragma(writer, 'foreign_keys')).toBe(1)
  expect(pragma(writer, 'journal_mode')).toBe('wal')
})

test('opening makes -wal and -shm, which the live files need', () => {
  connect()
  expect(fs.readdirSync(directory)).toEqual(['database', 'database-shm', 'database-wal'])
})

test('a reader can neither write nor be talked into it', () => {
  const writer = connect()
  writer.exec('CREATE TABLE t(a)')
  const reader = connect({ readonly: true })
  reader.pragma('query_only = OFF')
  expect(() => reader.exec('INSERT INTO t VALUES (1)')).toThrow(expect.objectContaining({ code: 'SQLITE_READONLY' }))
  expect(pragma(connect({ readonly: true }), 'query_only')).toBe(1)
})

test('synchronous can be chosen where durability is somebody else’s', () => {
  expect(pragma(connect({ synchronous: 'off' }), 'synchronous')).toBe(0)
  expect(pragma(connect({ synchronous: 'normal' }), 'synchronous')).toBe(1)
})

test('setup() sees the connection as it is used, and cannot undo what a node relies on', () => {
  let seen: unknown
  const connection = connect({
    setup(given) {
      seen = pragma(given, 'foreign_keys')
      given.function('twice', (x: number) => x * 2)
      given.pragma('busy_timeout = 5000')
      given.pragma('wal_autocheckpoint = 10')
      given.pragma('synchronous = OFF')
    },
  })
  expect(seen).toBe(1)
  expect(connection.prepare('SELECT twice(21)').pluck().get()).toBe(42)
  expect(pragma(connection, 'busy_timeout')).toBe(0)
  expect(pragma(connection, 'wal_autocheckpoint')).toBe(0)
  expect(pragma(connection, 'synchronous')).toBe(2)
})

test('what setup() throws closes the connection', () => {
  let leaked: Connection | undefined
  const setup = (connection: Connection): never => {
    leaked = connection
    throw new Error('no such extension')
  }
  expect(() => connect({ setup })).toThrow('no such extension')
  expect(leaked?.open).toBe(false)
})

test('a transaction left open by setup() is a defect', () => {
  expect(() => connect({ setup: (connection) => void connection.exec('BEGIN') })).toThrow(InvariantError)
})

test('a database in another journal mode, and a missing one, are not opened', () => {
  const other = path.join(directory, 'rollback')
  new SqliteDatabase(other).exec('CREATE TABLE t(a)').close()
  expect(() => openConnection(other)).toThrow(InvariantError)
  expect(() => openConnection(path.join(directory, 'missing'))).toThrow(
    expect.objectContaining({ code: 'SQLITE_CANTOPEN' }),
  )
})

test('errors of SQLite are known by their code, and made again elsewhere from code and message', () => {
  const writer = connect()
  writer.exec('CREATE TABLE t(a UNIQUE); INSERT INTO t VALUES (1)')
  let error: unknown
  try {
    writer.exec('INSERT INTO t VALUES (1)')
  } catch (caught) {
    error = caught
  }
  expect(isSqliteError(error)).toBe(true)
  expect(sqliteErrorCode(error)).toBe('SQLITE_CONSTRAINT_UNIQUE')
  const copy = makeSqliteError('SQLITE_CONSTRAINT_UNIQUE', error instanceof Error ? error.message : '')
  expect(copy).toBeInstanceOf(SqliteError)
  expect(copy).toMatchObject({ name: 'SqliteError', code: 'SQLITE_CONSTRAINT_UNIQUE' })
  expect(copy).toEqual(error)
  expect(sqliteErrorCode(new Error('SQLITE_BUSY'))).toBeUndefined()
})

test('a lock held by another connection is busy at once', () => {
  const first = connect()
  const second = connect()
  first.exec('BEGIN IMMEDIATE')
  let error: unknown
  try {
    second.exec('BEGIN IMMEDIATE')
  } catch (caught) {
    error = caught
  }
  expect(isBusy(error)).toBe(true)
  expect(isBusy(makeSqliteError('SQLITE_FULL', 'disk full'))).toBe(false)
})
