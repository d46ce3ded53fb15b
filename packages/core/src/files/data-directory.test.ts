import { spawn } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { ClusterError, isClusterError } from '../errors/cluster-error.ts'
import { databaseName } from '../request/database-name.ts'
import { DataDirectory } from './data-directory.ts'
import { realDisk } from './disk.ts'

let parent = ''
let directory = ''
beforeEach(() => {
  parent = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-data-'))
  directory = path.join(parent, 'node', 'data')
})
afterEach(() => fs.rmSync(parent, { recursive: true, force: true }))

function errorOfOpen(): ClusterError {
  try {
    DataDirectory.open(realDisk, directory).close()
  } catch (error) {
    if (error instanceof ClusterError) return error
    throw error
  }
  throw new Error('the directory could be opened')
}

test('a directory that does not exist is made', () => {
  const data = DataDirectory.open(realDisk, directory)
  expect(fs.readFileSync(path.join(directory, 'lock'), 'utf8')).toBe(`${process.pid}\n`)
  data.close()
})

test('while another process owns the directory, opening it names that process; when it is killed the directory is free', async () => {
  const source = `
    import { DataDirectory } from ${JSON.stringify(new URL('data-directory.ts', import.meta.url).href)}
    import { realDisk } from ${JSON.stringify(new URL('disk.ts', import.meta.url).href)}
    DataDirectory.open(realDisk, process.argv[1])
    console.log('open')
    setInterval(() => {}, 1000)
  `
  const owner = spawn(process.execPath, ['--input-type=module-typescript', '-e', source, directory], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await once(owner.stdout, 'data')
  const error = errorOfOpen()
  expect(isClusterError(error, 'DATA_DIR_IN_USE')).toBe(true)
  expect(error.details).toMatchObject({ pid: owner.pid })
  expect(error.message).toContain(`process ${owner.pid}`)
  expect(error.message).toContain(directory)
  const gone = once(owner, 'exit')
  owner.kill('SIGKILL')
  await gone
  DataDirectory.open(realDisk, directory).close()
})

test('the same process cannot open it twice, and a refused open does not disturb the first', () => {
  const first = DataDirectory.open(realDisk, directory)
  expect(errorOfOpen().code).toBe('DATA_DIR_IN_USE')
  expect(errorOfOpen().code).toBe('DATA_DIR_IN_USE')
  expect(fs.readFileSync(path.join(directory, 'lock'), 'utf8')).toBe(`${process.pid}\n`)
  first.close()
  first.close()
  DataDirectory.open(realDisk, directory).close()
})

test('databases are found where they belong', () => {
  const data = DataDirectory.open(realDisk, directory)
  expect(data.databaseNames('main')).toEqual([])
  const name = databaseName('app.db')
  expect(data.databaseDirectory('main', name)).toBe(path.join(directory, 'main', 'dbs', 'app.db'))
  expect(data.databaseFile('main', name)).toBe(path.join(directory, 'main', 'dbs', 'app.db', 'database'))
  expect(data.epochFile('main', 'epoch')).toBe(path.join(directory, 'main', 'epoch'))
  for (const entry of ['b.db', 'app.db', '.DS_Store']) {
    fs.mkdirSync(path.join(directory, 'main', 'dbs', entry), { recursive: true })
  }
  expect(data.databaseNames('main')).toEqual(['app.db', 'b.db'])
  data.close()
})

test('the cluster id is kept in the form LiteFS writes', () => {
  const data = DataDirectory.open(realDisk, directory)
  expect(data.readClusterId()).toEqual({ kind: 'none' })
  data.writeClusterId('LFSC0123456789ABCDEF')
  expect(fs.readFileSync(data.clusterIdFile, 'latin1')).toBe('LFSC0123456789ABCDEF\n')
  expect(data.readClusterId()).toEqual({ kind: 'known', id: 'LFSC0123456789ABCDEF', isFromCopy: false })
  expect(() => data.writeClusterId('LFSC0123456789abcdef')).toThrow(RangeError)
  for (const damage of ['something else', '', 'LFSC0123456789ABCDE']) {
    fs.writeFileSync(data.clusterIdFile, damage)
    expect(data.readClusterId()).toEqual({ kind: 'known', id: 'LFSC0123456789ABCDEF', isFromCopy: true })
  }
  fs.writeFileSync(`${data.clusterIdFile}.copy`, '')
  expect(data.readClusterId()).toEqual({ kind: 'damaged' })
  data.close()
})
