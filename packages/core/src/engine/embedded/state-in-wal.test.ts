/** Real SQLite writes the WAL; the oracle is SQLite's own `serialize`, taken after each commit. */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { headerNow } from '../../capture/wal-continuity.ts'
import { EMPTY_CHECKSUM } from '../../position/checksum.ts'
import { FRAME_HEADER_BYTES, frameOffset } from '../../sqlite-format/wal-frame.ts'
import { checksumsOf, LiveDatabase } from '../../snapshot/test-support/live-database.ts'
import { findStateInWal } from './state-in-wal.ts'

const MIB = 1024 * 1024

let directory = ''
let database: LiveDatabase
/** Page size of `database`. */
let pageSize = 4096
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-state-'))
  open(4096)
})
afterEach(() => {
  database.close()
  fs.rmSync(directory, { recursive: true, force: true })
})

function open(size: number): void {
  pageSize = size
  database = new LiveDatabase(path.join(directory, `database-${size}`), size)
  database.insert(100_000)
}

const lastFrame = (): number => headerNow(database.files).mxFrame

/** The state that a new reader sees. */
function stateNow() {
  return { checksums: checksumsOf(database.writer.serialize(), pageSize), frame: lastFrame() }
}

/** Copies all frames into the file; a reader of the WAL keeps them in the WAL until `unpin`. */
function copyBackAndHold(): void {
  database.pin()
  database.checkpoint()
}

function find(wanted: bigint) {
  const file = fs.readFileSync(database.files.databasePath)
  const inFile = checksumsOf(file.subarray(0, file.length - (file.length % pageSize)), pageSize)
  return findStateInWal(database.files, inFile, headerNow(database.files), wanted as typeof inFile.checksum)
}

/** Finds the state at its last frame, with the page checksums it has. */
async function expectFound(state: ReturnType<typeof stateNow>, frame = state.frame): Promise<void> {
  const found = await find(state.checksums.checksum)
  expect(found?.cursor).toMatchObject({ frame })
  expect(found?.checksums.toBuffer().equals(state.checksums.toBuffer())).toBe(true)
}

test.each([512, 4096, 65_536])(
  'each commit of a WAL of which nothing was copied back is found (pages of %i bytes)',
  async (size) => {
    if (size !== pageSize) {
      database.close()
      open(size)
    }
    const states = [stateNow()]
    for (let i = 1; i <= 4; i++) {
      if (i === 2) database.insert(50_000)
      else database.update(i)
      states.push(stateNow())
    }
    for (const state of states) await expectFound(state)
  },
)

test('the file alone is the state before the first frame, while nothing of a new WAL was copied back', async () => {
  const before = stateNow()
  database.checkpoint()
  database.update(1) // begins the WAL anew
  expect(lastFrame()).toBeLessThan(before.frame)
  await expectFound(before, 0)
})

test('frames that were copied back and kept are not taken for new ones', async () => {
  database.update(1)
  const copied = stateNow()
  copyBackAndHold()
  await expectFound(copied)
  database.update(2)
  const after = stateNow()
  // The file alone is in this state as well, and so it is after frame 0; what counts is the last place.
  await expectFound(copied)
  await expectFound(after)
  database.unpin()
})

test('when a part was copied back the states from there on are found, and none before is made up', async () => {
  database.checkpoint()
  database.update(1) // begins the WAL anew: it holds only the pages that follow
  const early = stateNow()
  database.update(2)
  const held = stateNow()
  copyBackAndHold()
  database.update(3)
  const late = stateNow()
  await expectFound(held)
  await expectFound(late)
  // Page by page the file is ahead of it.
  expect(await find(early.checksums.checksum)).toBeUndefined()
  database.unpin()
})

test('a state that comes back is found where it came last', async () => {
  database.writer.exec('CREATE TABLE flag (is_set INTEGER); INSERT INTO flag VALUES (0)')
  const unset = stateNow()
  database.writer.exec('UPDATE flag SET is_set = 1')
  database.writer.exec('UPDATE flag SET is_set = 0')
  const again = stateNow()
  expect(again.checksums.checksum).toBe(unset.checksums.checksum)
  database.writer.exec('UPDATE flag SET is_set = 2')
  await expectFound(unset, again.frame)
})

test('a database that shrank and grew again', async () => {
  database.insert(MIB)
  const large = stateNow()
  database.writer.exec('DELETE FROM t WHERE id > 10')
  database.writer.exec('VACUUM')
  const small = stateNow()
  expect(small.checksums.pageCount).toBeLessThan(large.checksums.pageCount)
  database.insert(MIB)
  for (const state of [large, small, stateNow()]) await expectFound(state)
})

test('a state that never was is not found, and a damaged frame is an error', async () => {
  database.update(1)
  expect(await find(EMPTY_CHECKSUM)).toBeUndefined()
  const at = frameOffset(lastFrame(), pageSize) + FRAME_HEADER_BYTES + 100
  fs.writeSync(database.files.walFd, Buffer.from('damage'), 0, 6, at)
  await expect(find(EMPTY_CHECKSUM)).rejects.toMatchObject({ code: 'CORRUPT_DATA' })
})
