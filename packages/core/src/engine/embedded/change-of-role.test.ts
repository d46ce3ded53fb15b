/**
 * I1, I2, I3, I9 while nodes change roles without closing their files: two engines take office from each other, under readers.
 *
 * Real: the engine, SQLite, files, another connection that commits in between. Modelled: the network (records are handed over by hand) and the
 * lease (a test knows who is in office).
 * What may be lost: nothing; a write that waited is refused.
 */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { systemClock } from '../../base/clock.ts'
import { ClusterError } from '../../errors/cluster-error.ts'
import { DataDirectory } from '../../files/data-directory.ts'
import { type Disk, realDisk } from '../../files/disk.ts'
import { interceptedDisk } from '../../log/test-support/intercepted-disk.ts'
import { resolveLogOptions } from '../../log/log-options.ts'
import { epoch, NO_EPOCH } from '../../position/epoch.ts'
import { databaseName } from '../../request/database-name.ts'
import { RequestIdSource } from '../../request/request-id.ts'
import type { Connection } from '../../sqlite/connection.ts'
import { SqliteDatabase } from '../../sqlite/sqlite-library.ts'
import { resolveLedgerOptions } from '../../write/ledger-options.ts'
import type { EmbeddedDatabase } from './embedded-database.ts'
import { EmbeddedEngine } from './embedded-engine.ts'

const NAME = databaseName('app.db')
const COUNT = 'SELECT count(*) FROM entry'
const INSERT = 'INSERT INTO entry (text) VALUES (?)'
const REFUSAL = new ClusterError('NOT_PRIMARY', 'the office was lost')

/** One node without a network. */
class TestEngine {
  readonly engine: EmbeddedEngine
  readonly warnings: string[] = []
  readonly #directory: DataDirectory
  /** Operations of the disk, since they were last asked for. */
  readonly #seen: string[] = []
  isInOffice = false
  onOperation: (operation: string) => void = () => undefined
  database!: EmbeddedDatabase

  constructor(directory: string, lastOffice = NO_EPOCH) {
    const disk: Disk = interceptedDisk(realDisk, (call) => {
      this.#seen.push(call.operation)
      this.onOperation(call.operation)
      return call.run()
    })
    this.#directory = DataDirectory.open(disk, directory)
    this.engine = new EmbeddedEngine({
      disk,
      clock: systemClock,
      directory: this.#directory,
      log: resolveLogOptions(),
      ledger: resolveLedgerOptions(),
      setup: undefined,
      nodeId: 7n,
      requestIds: new RequestIdSource(() => Date.now(), Buffer.from('abcdef')),
      requirePrimary: () => {
        if (!this.isInOffice) throw REFUSAL
      },
      onProgress: () => undefined,
      onRestartStream: () => undefined,
      onEpochs: () => undefined,
      lastOffice: () => lastOffice,
      warn: (name) => this.warnings.push(name),
    })
  }

  async takeOffice(number: number): Promise<void> {
    this.isInOffice = true
    try {
      await this.engine.takeOffice(epoch(number))
    } catch (error) {
      this.isInOffice = false
      throw error
    }
  }

  async leaveOffice(): Promise<void> {
    this.isInOffice = false
    await this.engine.leaveOffice(REFUSAL)
  }

  async open(): Promise<void> {
    this.database = await this.engine.open(NAME)
  }

  async write(sql: string, ...params: readonly string[]): Promise<void> {
    const deadlineMs = systemClock.monotonicMs() + 10_000
    const operation = { kind: 'batch', statements: [{ sql, params }] } as const
    await this.database.write({ operation, requestId: undefined, idempotencyKey: undefined, deadlineMs })
  }

  count(): unknown {
    const reader = this.database.openReader()
    try {
      return reader.prepare(COUNT).pluck().get()
    } finally {
      reader.close()
    }
  }

  image(): Buffer {
    const reader = this.database.openReader()
    try {
      return reader.serialize()
    } finally {
      reader.close()
    }
  }

  forgetOperations(): readonly string[] {
    return this.#seen.splice(0)
  }

  async close(): Promise<void> {
    await this.engine.close()
    this.#directory.close()
  }
}

let directory = ''
let a: TestEngine
let b: TestEngine
beforeEach(async () => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-role-'))
  a = new TestEngine(path.join(directory, 'a'))
  b = new TestEngine(path.join(directory, 'b'))
  await a.takeOffice(1)
  await a.open()
  await a.write('CREATE TABLE entry (id INTEGER PRIMARY KEY, text TEXT)')
  await a.write(INSERT, 'first')
  await b.open()
  await seed(a, b)
})
afterEach(async () => {
  for (const node of [a, b]) await node.close()
  fs.rmSync(directory, { recursive: true, force: true })
})

async function greet(from: TestEngine, to: TestEngine): Promise<void> {
  const { position } = from.database.tail()
  await to.database.receiver?.connected?.({
    nodeId: '',
    clusterId: undefined,
    kind: 'litefleet',
    term: NO_EPOCH,
    epochs: from.database.epochTable(),
    position,
    seed: undefined,
  })
}

async function seed(from: TestEngine, to: TestEngine): Promise<void> {
  await greet(from, to)
  const spool = await from.database.openSnapshot(new AbortController().signal)
  const intake = to.database.receiver!.beginSnapshot()
  for await (const piece of spool.read()) await intake.data(piece)
  await spool.close()
  await intake.finish()
}

/** Hands over what `to` lacks, and waits until it shows it. */
async function deliver(from: TestEngine, to: TestEngine): Promise<void> {
  await greet(from, to)
  const receiver = to.database.receiver!
  for (;;) {
    const read = from.database.readAfter(receiver.position(), 1 << 20)
    if (read.kind !== 'records') break
    await receiver.records(read.records)
  }
  const { position, epoch: inEpoch } = from.database.tail()
  await to.database.tracker.waitFor(position, systemClock.monotonicMs() + 10_000, inEpoch)
}

/** Commits as another program does. */
function commitElsewhere(node: TestEngine, text: string): void {
  const connection = new SqliteDatabase(node.database.path)
  try {
    connection.prepare(INSERT).run(text)
  } finally {
    connection.close()
  }
}

function expectEqual(): void {
  expect(b.database.tail()).toEqual(a.database.tail())
  expect(b.image().equals(a.image())).toBe(true)
}

test('two nodes take office from each other again and again: every write is there once, and no reader is cut off', async () => {
  const readers: readonly Connection[] = [a, b].map(({ database }) => database.openReader())
  let nodes: [TestEngine, TestEngine] = [a, b]
  for (let round = 1; round <= 12; round++) {
    const [old, next] = nodes
    for (let i = 0; i < round; i++) await old.write(INSERT, `round ${round}`)
    await deliver(old, next)
    await old.leaveOffice()
    await expect(old.write(INSERT, 'by nobody')).rejects.toMatchObject({ code: 'NOT_PRIMARY' })
    await next.takeOffice(1 + round)
    await next.write(INSERT, `the first of epoch ${1 + round}`)
    await deliver(next, old)
    expectEqual()
    nodes = [next, old]
  }
  const expected = 1 + (12 * 13) / 2 + 12
  for (const reader of readers) {
    expect(reader.prepare(COUNT).pluck().get()).toBe(expected)
    reader.close()
  }
  expect(a.database.tail()).toMatchObject({ position: { txid: BigInt(expected + 2) }, epoch: 13 })
  expect([...a.warnings, ...b.warnings]).toEqual([])
})

test('a change of role does not read the database', async () => {
  await a.write(INSERT, 'x'.repeat(100_000))
  await deliver(a, b)
  for (const node of [a, b]) node.forgetOperations()
  await a.leaveOffice()
  await b.takeOffice(2)
  for (const node of [a, b]) expect(node.forgetOperations()).not.toContain('store.size')
  await b.write(INSERT, 'after')
  await deliver(b, a)
  expectEqual()
})

test('what another program commits in the middle of a change of role is found', async () => {
  await a.leaveOffice()
  let commits = 0
  b.onOperation = (operation) => {
    // The replica has given its write lock back, the primary has not taken it yet.
    if (operation === 'live-files.look' && commits++ === 0) commitElsewhere(b, 'in the middle')
  }
  await b.takeOffice(2)
  expect(commits).toBeGreaterThan(0)
  expect(b.forgetOperations()).toContain('store.size') // all pages were read
  expect(b.count()).toBe(2)
  await deliver(b, a)
  expect(a.count()).toBe(2)
  expectEqual()
})

test('what another program committed last on a node that leaves office is in its log, not announced', async () => {
  const before = a.database.tail().position
  a.isInOffice = false
  commitElsewhere(a, 'by another program')
  await a.engine.leaveOffice(REFUSAL)
  // The watcher may have met the commit first; then it was refused the announcement, and the record stayed in the log.
  expect(a.database.facts().durable.txid).toBe(before.txid + 1n)
  await a.takeOffice(2)
  await deliver(a, b)
  expect(b.count()).toBe(2)
  expectEqual()
})

test('writes that wait when the office is lost are refused, and have no effect', async () => {
  const blocker = new SqliteDatabase(a.database.path)
  blocker.exec('BEGIN IMMEDIATE')
  const waiting = Promise.allSettled(Array.from({ length: 5 }, () => a.write(INSERT, 'waits')))
  await new Promise((resolve) => setTimeout(resolve, 20))
  const leaving = a.leaveOffice()
  blocker.exec('COMMIT')
  blocker.close()
  await leaving
  for (const result of await waiting)
    expect(result).toMatchObject({ status: 'rejected', reason: { code: 'NOT_PRIMARY', outcome: 'not-applied' } })
  expect(a.count()).toBe(1)
  await b.takeOffice(2)
  await b.write(INSERT, 'goes on')
  await deliver(b, a)
  expectEqual()
})

test('a node that never had the database takes office with an empty one, which was being waited for', async () => {
  const c = new TestEngine(path.join(directory, 'c'))
  try {
    await c.open()
    const ready = c.database.whenReady(systemClock.monotonicMs() + 10_000)
    await c.takeOffice(2)
    await ready
    await c.write('CREATE TABLE entry (id INTEGER PRIMARY KEY, text TEXT)')
    expect(c.count()).toBe(0)
  } finally {
    await c.close()
  }
})

test('a node without a whole copy of what it had does not take office, and stays the replica it was', async () => {
  await b.close()
  fs.rmSync(path.join(directory, 'b/main/dbs', NAME, 'database'))
  b = new TestEngine(path.join(directory, 'b'))
  await b.open()
  await expect(b.takeOffice(2)).rejects.toMatchObject({ code: 'COPY_NOT_WHOLE' })
  expect(b.database.isPrimary).toBe(false)
  await seed(a, b)
  await a.leaveOffice()
  await b.takeOffice(3)
  await b.write(INSERT, 'by b')
  await deliver(b, a)
  expect(a.count()).toBe(2)
})

test('a node that stopped in office and begins as a replica logs what it committed and could not log', async () => {
  const before = a.database.tail().position
  a.onOperation = (operation) => {
    if (operation === 'log.append') throw new ClusterError('STORAGE_FAILED', 'the disk is full')
  }
  await expect(a.write(INSERT, 'committed, not logged')).rejects.toMatchObject({ outcome: 'unknown' })
  await a.close()
  a = new TestEngine(path.join(directory, 'a'), epoch(1))
  await a.open()
  const { epoch: inEpoch, durable, isWhole } = a.database.standing()
  expect([inEpoch, durable.txid, isWhole]).toEqual([1, before.txid + 1n, true])
  expect(a.database.isPrimary).toBe(false)
  await b.takeOffice(2)
  await b.leaveOffice()
  await a.takeOffice(3)
  await deliver(a, b)
  expectEqual()
  expect(b.count()).toBe(2)
  expect(b.warnings).toEqual([])
})

test('a node that took office and wrote alone is led back: what only it had is in a report', async () => {
  await a.leaveOffice()
  await b.takeOffice(2)
  await b.write(INSERT, 'only on b')
  await a.takeOffice(3)
  await a.write(INSERT, 'on a')
  await b.leaveOffice()
  await greet(a, b)
  expect(b.database.facts()).toMatchObject({ state: { kind: 'seeding' }, divergences: 1 })
  await seed(a, b)
  expectEqual()
  expect(b.warnings).toContain('diverged')
})
