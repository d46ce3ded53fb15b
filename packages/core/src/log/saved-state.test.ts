import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { realDisk } from '../files/disk.ts'
import { PageChecksums } from '../ltx/page-checksums.ts'
import { EMPTY_CHECKSUM } from '../position/checksum.ts'
import { epoch } from '../position/epoch.ts'
import { ZERO_POSITION } from '../position/position.ts'
import { txid } from '../position/txid.ts'
import { loadState, removeState, type SavedState, saveState } from './saved-state.ts'

let file = ''
beforeEach(() => {
  file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-state-')), 'state')
})
afterEach(() => fs.rmSync(path.dirname(file), { recursive: true, force: true }))

function state(pages: number): SavedState {
  const checksums = new PageChecksums(4096)
  for (let pgno = 1; pgno <= pages; pgno++) checksums.set(pgno, (0x80000000 + pgno * 77) >>> 0, pgno * 12345)
  const identity = {
    inode: 2n ** 63n,
    sizeBytes: 4096n * BigInt(pages),
    modifiedNs: 1_700_000_000_123_456_789n,
    changedNs: -1n,
  }
  return {
    position: { txid: txid(2n ** 40n), checksum: checksums.checksum },
    epoch: epoch(2 ** 40),
    pageSize: 4096,
    checksums,
    identity,
  }
}

function plain(saved: SavedState | undefined): unknown {
  return saved && { ...saved, checksums: saved.checksums.toBuffer() }
}

test('what was saved is loaded, of any size', () => {
  for (const pages of [0, 1, 3000]) {
    saveState(realDisk, file, state(pages))
    expect(plain(loadState(realDisk, file))).toEqual(plain(state(pages)))
  }
})

test('a database before its first transaction has no checksum, though it may have a page', () => {
  const saved = { ...state(1), position: ZERO_POSITION }
  saveState(realDisk, file, saved)
  expect(plain(loadState(realDisk, file))).toEqual(plain(saved))
})

test('a state is not loaded with any bit flipped, cut at any byte, or with bytes behind it', () => {
  saveState(realDisk, file, state(3))
  const whole = fs.readFileSync(file)
  for (let i = 0; i < whole.length; i++) {
    const bytes = Buffer.from(whole)
    bytes[i]! ^= 1 << (i % 8)
    fs.writeFileSync(file, bytes)
    expect(loadState(realDisk, file)).toBeUndefined()
    fs.writeFileSync(file, whole.subarray(0, i))
    expect(loadState(realDisk, file)).toBeUndefined()
  }
  fs.writeFileSync(file, Buffer.concat([whole, Buffer.alloc(8)]))
  expect(loadState(realDisk, file)).toBeUndefined()
})

test('a state whose page checksums do not make its position is not loaded', () => {
  saveState(realDisk, file, { ...state(3), position: { txid: txid(5n), checksum: EMPTY_CHECKSUM } })
  expect(loadState(realDisk, file)).toBeUndefined()
  saveState(realDisk, file, { ...state(3), position: { txid: txid(0n), checksum: state(3).position.checksum } })
  expect(loadState(realDisk, file)).toBeUndefined()
})

test('a state that was removed, or never saved, is not loaded', () => {
  expect(loadState(realDisk, file)).toBeUndefined()
  saveState(realDisk, file, state(1))
  removeState(realDisk, file)
  removeState(realDisk, file)
  expect(loadState(realDisk, file)).toBeUndefined()
})
