import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { realDisk } from '../../packages/core/src/files/disk.ts'
import { crashMoments, FaultDisk } from './fault-disk.ts'

let directory: string
let file: string
let fd: number
let faults: FaultDisk

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'litefleet-fault-disk-'))
  file = path.join(directory, 'file')
  faults = new FaultDisk(realDisk)
  fd = faults.disk.open('test.open', file, 'w+')
})

afterEach(() => {
  realDisk.close('test.close', fd)
  rmSync(directory, { recursive: true })
})

function write(operation: string, text: string): void {
  faults.disk.write(operation, fd, Buffer.from(text), 0, text.length, 0)
}

test('a rule holds for the occurrence it names, so many times, and for no other operation', () => {
  faults.addRule({ operation: 'log.append', effect: { kind: 'fail', errno: 'EIO' }, occurrence: 2, times: 2 })
  write('log.append', 'a')
  write('log.other', 'a')
  for (let i = 0; i < 2; i++)
    expect(() => write('log.append', 'b')).toThrow(
      expect.objectContaining({ code: 'STORAGE_FAILED', details: { operation: 'log.append', errno: 'EIO' } }),
    )
  write('log.append', 'c')
  expect(readFileSync(file, 'utf8')).toBe('c')
})

test('a rule for the beginning of a name holds until it is taken back', () => {
  faults.addRule({ operation: 'log.*', effect: { kind: 'fail', errno: 'ENOSPC' }, times: 'always', methods: ['write'] })
  expect(() => write('log.append', 'a')).toThrow('ENOSPC')
  expect(() => write('log.new-segment', 'a')).toThrow('ENOSPC')
  write('state.save', 'a')
  faults.disk.dataSyncNow('log.sync', fd)
  faults.clearRules()
  write('log.append', 'a')
})

test('a short write leaves its first half, also under the temporary name of a replacement', async () => {
  const rule = { operation: '*', effect: { kind: 'short', errno: 'ENOSPC' }, times: 'always' } as const
  faults.addRule(rule)
  expect(() => write('log.append', 'abcd')).toThrow('ENOSPC')
  expect(readFileSync(file, 'utf8')).toBe('ab')
  await expect(faults.disk.writeAside('spool', fd, Buffer.from('wxyz'), 0, 4, 0)).rejects.toThrow('ENOSPC')
  expect(readFileSync(file, 'utf8')).toBe('wx')
  expect(() => faults.disk.replaceDurably('state.save', file, Buffer.from('1234'))).toThrow('ENOSPC')
  expect(readFileSync(file, 'utf8')).toBe('wx')
  expect(readFileSync(`${file}.tmp`, 'utf8')).toBe('12')
})

test('a failing flush fails as a flush does', async () => {
  faults.addRule({ operation: 'log.sync', effect: { kind: 'fail', errno: 'EIO' }, times: 'always' })
  await expect(faults.disk.dataSync('log.sync', fd)).rejects.toThrow('EIO')
  expect(() => faults.disk.dataSyncNow('log.sync', fd)).toThrow('EIO')
})

test('a delay only takes time', async () => {
  faults.addRule({ operation: '*', effect: { kind: 'delay', ms: 20 }, times: 2 })
  const startMs = performance.now()
  write('log.append', 'a')
  await faults.disk.dataSync('log.sync', fd)
  expect(performance.now() - startMs).toBeGreaterThan(35)
  expect(readFileSync(file, 'utf8')).toBe('a')
})

test('what was done is listed by name and kind', () => {
  write('log.append', 'a')
  write('log.append', 'b')
  faults.disk.dataSyncNow('log.append', fd)
  expect(faults.seen(true)).toEqual([
    { operation: 'test.open', method: 'open', count: 1 },
    { operation: 'log.append', method: 'write', count: 2 },
    { operation: 'log.append', method: 'dataSyncNow', count: 1 },
  ])
  expect(faults.seen(false)).toEqual([])
  expect(crashMoments('write')).toEqual(['before', 'midway', 'after'])
  expect(crashMoments('read')).toEqual(['before'])
})
