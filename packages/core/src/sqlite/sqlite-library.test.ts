import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { assertUsableSqlite, type SqliteEnvironment } from './sqlite-library.ts'

const usable: SqliteEnvironment = {
  platform: 'linux',
  sqliteVersion: '3.51.3',
  sharedObjects: ['linux-vdso.so.1', '/usr/lib/libc.so.6', '/app/node_modules/better-sqlite3/prebuilds/linux-x64.node'],
}

const codeFor = (changes: Partial<SqliteEnvironment>): string | undefined => {
  try {
    assertUsableSqlite({ ...usable, ...changes })
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error)
  }
  return undefined
}

test('this process can run a node', () => {
  expect(() => assertUsableSqlite()).not.toThrow()
})

test.for(['3.53.2', '3.51.3', '3.52.0', '4.0.0'])('SQLite %s is accepted', (sqliteVersion) => {
  expect(codeFor({ sqliteVersion })).toBeUndefined()
})

test.for(['3.51.2', '3.50.99', '3.7.17', '2.99.99'])('SQLite %s is refused', (sqliteVersion) => {
  expect(codeFor({ sqliteVersion })).toBe('UNSUPPORTED_PLATFORM')
})

test('Windows is refused', () => {
  expect(codeFor({ platform: 'win32' })).toBe('UNSUPPORTED_PLATFORM')
})

test('a second copy of SQLite is refused, and both are named', () => {
  const second = '/app/node_modules/other/node_modules/better-sqlite3/build/Release/better_sqlite3.node'
  const sharedObjects = [...usable.sharedObjects, second]
  expect(codeFor({ sharedObjects })).toBe('SECOND_SQLITE_COPY')
  expect(() => assertUsableSqlite({ ...usable, sharedObjects })).toThrow(second)
  expect(() => assertUsableSqlite({ ...usable, sharedObjects })).toThrow('prebuilds/linux-x64.node')
})

test('one copy that is listed twice, and packages with similar names, are no second copy', () => {
  const others = ['/app/node_modules/lz4-napi/better.node', '/better-sqlite3-demo/node_modules/lz4-napi/lz4.node']
  const sharedObjects = [...usable.sharedObjects, ...usable.sharedObjects, ...others]
  expect(codeFor({ sharedObjects })).toBeUndefined()
})

test('a second copy that is really loaded is found', () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-copies-'))
  const core = fileURLToPath(new URL('../../', import.meta.url))
  const copy = path.join(directory, 'node_modules', 'better-sqlite3')
  fs.cpSync(fs.realpathSync(path.join(core, 'node_modules', 'better-sqlite3')), copy, { recursive: true })
  const source = `
    import { createRequire } from 'node:module'
    const Copy = createRequire(${JSON.stringify(path.join(directory, 'app.js'))})('better-sqlite3')
    new Copy(':memory:').close()
    const { assertUsableSqlite } = await import(${JSON.stringify(new URL('sqlite-library.ts', import.meta.url).href)})
    try { assertUsableSqlite() } catch (error) { console.log(error.code) }
  `
  try {
    const output = execFileSync(process.execPath, ['--input-type=module', '-e', source], {
      cwd: core,
      encoding: 'utf8',
    })
    expect(output.trim()).toBe('SECOND_SQLITE_COPY')
  } finally {
    fs.rmSync(directory, { recursive: true, force: true })
  }
})
