import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type Clock, systemClock } from '../base/clock.ts'
import { type Connection, openConnection } from '../sqlite/connection.ts'
import { SqliteDatabase } from '../sqlite/sqlite-library.ts'
import type { ApplyOptions } from './apply-options.ts'
import { APPLY_DEFAULTS, resolveApplyOptions } from './apply-options.ts'
import type { CheckpointOutcome } from './checkpoint-outcome.ts'
import { createBank, transfer } from './test-support/bank.ts'
import { RecordSource } from './test-support/record-source.ts'
import { TestReplica } from './test-support/test-replica.ts'

const PAGE_SIZE = 4096

let directory: string
let source: RecordSource
let replica: TestReplica
const readers: Connection[] = []
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'apply-'))
  source = new RecordSource(path.join(directory, 'primary.db'), { pageSize: PAGE_SIZE })
})
afterEach(() => {
  for (const reader of readers.splice(0)) reader.close()
  replica.close()
  source.close()
  fs.rmSync(directory, { recursive: true })
})

function openReplica(options: ApplyOptions, clock?: Clock): void {
  replica = TestReplica.createEmpty({ path: path.join(directory, 'replica.db'), pageSize: PAGE_SIZE, options, clock })
  source.commit(createBank)
  replica.applier.apply(source.records)
}

function applyTransfers(count: number): void {
  const first = source.records.length
  for (let i = 0; i < count; i++) source.commit((database) => transfer(database, first + i))
  for (const record of source.records.slice(first)) replica.applier.apply([record])
}

/** A reader in the middle of a transaction. */
function reader(): Connection {
  const connection = new SqliteDatabase(replica.path)
  readers.push(connection)
  connection.exec('BEGIN; SELECT count(*) FROM account')
  return connection
}

/** Calls `checkpoint` until one of these outcomes; gives back all outcomes. */
async function checkpointUntil(...kinds: readonly CheckpointOutcome['kind'][]): Promise<CheckpointOutcome['kind'][]> {
  const seen: CheckpointOutcome['kind'][] = []
  for (let i = 0; i < 10_000; i++) {
    const { kind } = replica.applier.checkpoint()
    if (seen.at(-1) !== kind) seen.push(kind)
    if (kinds.includes(kind)) return seen
    await replica.applier.settled()
    await new Promise((resolve) => setImmediate(resolve))
  }
  throw new Error(`never ${kinds.join(', ')}: ${seen.join(', ')}`)
}

test('below the soft limit nothing is done; above it everything is copied and the WAL begins anew', async () => {
  openReplica({ walSoftLimitBytes: 60 * PAGE_SIZE, checkpointStepBytes: 40 * PAGE_SIZE })
  expect(replica.applier.checkpoint().kind).toBe('not-due')
  applyTransfers(40)
  expect(replica.applier.walBytes).toBeGreaterThan(60 * PAGE_SIZE)
  expect(await checkpointUntil('restarted')).toEqual(['syncing', 'partial', 'restarted'])
  expect(replica.applier.walFrames).toBe(0)
  expect(replica.applier.walBytes).toBe(0)
  expect(replica.image().equals(source.image)).toBe(true)
  applyTransfers(5)
  expect(replica.applier.walFrames).toBeGreaterThan(0)
  expect(replica.image().equals(source.image)).toBe(true)
})

test('forced, one call in the same turn copies everything, however small the WAL', () => {
  openReplica({})
  applyTransfers(3)
  expect(replica.applier.checkpoint({ force: true })).toEqual({
    kind: 'restarted',
    copiedFrames: expect.any(Number),
    pendingFrames: 0,
  })
  expect(replica.applier.checkpoint({ force: true }).kind).toBe('not-due')
  // The main file alone is the database now.
  const bytes = Buffer.alloc(source.image.length)
  fs.readSync(replica.files.databaseFd, bytes, 0, bytes.length, 0)
  expect(bytes.equals(source.image)).toBe(true)
})

test('a long backlog is copied in steps, and readers of every kind see their version after each', async () => {
  openReplica({ walSoftLimitBytes: 0, checkpointStepBytes: 70 * PAGE_SIZE })
  const old = reader()
  const oldImage = Buffer.from(old.serialize())
  applyTransfers(150)
  expect(await checkpointUntil('busy')).toContain('busy')
  const recent = reader()
  applyTransfers(100)
  expect(old.serialize().equals(oldImage)).toBe(true)
  old.exec('COMMIT')
  const recentImage = Buffer.from(recent.serialize())
  let steps = 0
  for (let kind = ''; kind !== 'busy'; steps++) {
    const outcome = replica.applier.checkpoint({ force: true })
    kind = outcome.kind
    expect(outcome.copiedFrames).toBeLessThanOrEqual(70)
    expect(recent.serialize().equals(recentImage)).toBe(true)
    expect(replica.image().equals(source.image)).toBe(true)
  }
  expect(steps).toBeGreaterThan(3)
  recent.exec('COMMIT')
  for (const kind of await checkpointUntil('restarted')) expect(kind).not.toBe('busy')
  expect(replica.image().equals(source.image)).toBe(true)
})

test('when readers have all four read marks, steps go on without their limit, as far as the readers allow', () => {
  openReplica({ walSoftLimitBytes: 0, checkpointStepBytes: 8 * PAGE_SIZE })
  const held = [1, 2, 3, 4].map(() => {
    applyTransfers(10)
    return reader()
  })
  const images = held.map((connection) => Buffer.from(connection.serialize()))
  applyTransfers(40)
  let stuck = ''
  while (stuck !== 'busy') stuck = replica.applier.checkpoint({ force: true }).kind
  for (const [i, connection] of held.entries()) expect(connection.serialize().equals(images[i]!)).toBe(true)
  for (const connection of held) connection.exec('COMMIT')
  let kind = ''
  while (kind !== 'restarted') kind = replica.applier.checkpoint({ force: true }).kind
  expect(replica.image().equals(source.image)).toBe(true)
})

test('a reader that stays through hundreds of versions keeps its version and stops nothing but the copying', async () => {
  openReplica({ walSoftLimitBytes: 50 * PAGE_SIZE })
  const long = reader()
  const image = Buffer.from(long.serialize())
  applyTransfers(250)
  expect(replica.applier.walFrames).toBeGreaterThan(700)
  expect(await checkpointUntil('busy')).not.toContain('restarted')
  expect(long.serialize().equals(image)).toBe(true)
  expect(replica.image().equals(source.image)).toBe(true)
  long.exec('COMMIT')
  await checkpointUntil('restarted')
  // The file was far larger than what is worth keeping.
  expect(fs.statSync(`${replica.path}-wal`).size).toBe(0)
  expect(replica.image().equals(source.image)).toBe(true)
})

test('a reader of the newest version stops the restart alone, one of the database file not even that', async () => {
  openReplica({ walSoftLimitBytes: 0 })
  applyTransfers(5)
  const newest = reader()
  expect(replica.applier.checkpoint({ force: true })).toMatchObject({ kind: 'backfilled', pendingFrames: 0 })
  const fileReader = reader()
  const image = Buffer.from(fileReader.serialize())
  newest.exec('COMMIT')
  expect(replica.applier.checkpoint({ force: true }).kind).toBe('restarted')
  applyTransfers(5)
  // Nothing may be copied over what it reads.
  expect(replica.applier.checkpoint({ force: true })).toMatchObject({ kind: 'busy', copiedFrames: 0 })
  expect(fileReader.serialize().equals(image)).toBe(true)
  fileReader.exec('COMMIT')
  expect(await checkpointUntil('restarted')).toContain('restarted')
})

test('above the hard limit applying must pause until the WAL is empty', async () => {
  openReplica({ walSoftLimitBytes: 50 * PAGE_SIZE, walHardLimitBytes: 100 * PAGE_SIZE })
  const long = reader()
  expect(replica.applier.needsPause).toBe(false)
  applyTransfers(60)
  expect(replica.applier.needsPause).toBe(true)
  await checkpointUntil('busy')
  expect(replica.applier.needsPause).toBe(true)
  long.exec('COMMIT')
  await checkpointUntil('restarted')
  expect(replica.applier.needsPause).toBe(false)
})

test('after it met readers it leaves them alone for a while, longer each time', async () => {
  let nowMs = 0
  openReplica({ walSoftLimitBytes: 0 }, { ...systemClock, monotonicMs: () => nowMs })
  const long = reader()
  applyTransfers(5)
  for (const waitMs of [2, 4, 8, 16, 32, 64, 128, 250, 250]) {
    expect(replica.applier.checkpoint().kind).toBe('syncing')
    await replica.applier.settled()
    expect(replica.applier.checkpoint().kind).toBe('busy')
    nowMs += waitMs - 1
    expect(replica.applier.checkpoint().kind).toBe('not-due')
    nowMs += 1
  }
  long.exec('COMMIT')
  expect(replica.applier.checkpoint().kind).toBe('syncing')
  await replica.applier.settled()
  expect(replica.applier.checkpoint().kind).toBe('restarted')
  expect(replica.image().equals(source.image)).toBe(true)
})

test('a WAL whose generation begins anew has other salts and the next sequence number', () => {
  openReplica({})
  const header = (): readonly number[] => {
    const bytes = Buffer.alloc(32)
    fs.readSync(replica.files.walFd, bytes, 0, 32, 0)
    return [bytes.readUInt32BE(12), bytes.readUInt32BE(16), bytes.readUInt32BE(20)]
  }
  const [sequence = 0, salt1 = 0, salt2 = 0] = header()
  expect(replica.applier.checkpoint({ force: true }).kind).toBe('restarted')
  applyTransfers(1)
  const [nextSequence, nextSalt1, nextSalt2] = header()
  expect(nextSequence).toBe(sequence + 1)
  expect(nextSalt1).toBe((salt1 + 1) >>> 0)
  expect(nextSalt2).not.toBe(salt2)
})

test('a connection that does not sync may not checkpoint', () => {
  openReplica({})
  const careless = openConnection(replica.path, { synchronous: 'off' })
  const { connection } = replica
  Object.assign(replica, { connection: careless })
  expect(() => replica.reopenApplier()).toThrow('must sync')
  Object.assign(replica, { connection })
  careless.close()
  // The failed opening gave the write lock back.
  replica.reopenApplier()
  applyTransfers(1)
  expect(replica.image().equals(source.image)).toBe(true)
})

test('options: defaults, and what is refused', () => {
  openReplica({})
  expect(resolveApplyOptions()).toEqual(APPLY_DEFAULTS)
  expect(resolveApplyOptions({ walSoftLimitBytes: 1 }).walSoftLimitBytes).toBe(1)
  expect(() => resolveApplyOptions({ walSoftLimitBytes: -1 })).toThrow('walSoftLimitBytes')
  expect(() => resolveApplyOptions({ walSoftLimitBytes: 2, walHardLimitBytes: 1 })).toThrow('walHardLimitBytes')
  expect(() => resolveApplyOptions({ walSoftLimitByte: 1 } as ApplyOptions)).toThrow(
    'Did you mean "walSoftLimitBytes"?',
  )
})
