/**
 * I9: a replica that knows nothing but the records has the primary's database, byte for byte.
 * Real: SQLite, files, guards, capture, checkpoints. Generated: the order and content of the statements.
 */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { LtxRecord } from '../ltx/ltx-record.ts'
import { CapturedDatabase } from './test-support/captured-database.ts'

let directory = ''
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-capture-'))
})
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }))

/** A generator of numbers in [0, 1) that repeats with its seed. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/** Small, so that some transactions need the second pass. */
const windowBytes = (pageSize: number): number => (pageSize === 65536 ? 8 : 40) * (pageSize + 24)

const fresh = Math.floor(Math.random() * 2 ** 31)

test.for([512, 4096, 65536].flatMap((pageSize) => [0, 1, 2].map((autoVacuum) => ({ pageSize, autoVacuum }))))(
  'page size $pageSize, auto_vacuum $autoVacuum: the records rebuild the database under a random workload',
  ({ pageSize, autoVacuum }) => {
    const run = (seed: number): readonly LtxRecord[] => {
      const own = fs.mkdtempSync(path.join(directory, 'run-'))
      try {
        return runWorkload(own, pageSize, autoVacuum as 0 | 1 | 2, seed)
      } catch (error) {
        throw new Error(`failed with seed ${seed}`, { cause: error })
      }
    }
    run(fresh)
    // The known seeds reach what is hard: restarts of the WAL, transactions of two passes, databases that shrink.
    const records = run(pageSize + autoVacuum)
    expect(new Set(records.map((record) => record.header.walSalt1)).size).toBeGreaterThan(2)
    expect(records.some((record) => record.header.walBytes > 1.5 * windowBytes(pageSize))).toBe(true)
    expect(records.some((record, i) => record.commit < (records[i - 1]?.commit ?? 0))).toBe(true)
  },
)

function runWorkload(own: string, pageSize: number, autoVacuum: 0 | 1 | 2, seed: number): readonly LtxRecord[] {
  const random = randomOf(seed)
  const below = (n: number): number => Math.floor(random() * n)
  const database = CapturedDatabase.open(own, {
    pageSize,
    autoVacuum,
    checkpoint: { thresholdFrames: 300 },
    scanner: { windowBytesMax: windowBytes(pageSize) },
  })
  const { writer } = database
  writer.pragma('cache_size = 8')
  writer.exec('CREATE TABLE t(id INTEGER PRIMARY KEY, a, b); CREATE INDEX t_a ON t(a)')
  const scale = pageSize === 65536 ? 20 : pageSize === 512 ? 1 : 4
  const insert = writer.prepare('INSERT INTO t(a, b) VALUES (?, zeroblob(?) || hex(?))')
  const blob = (bytes: number): Buffer => Buffer.alloc(bytes, below(256))
  const operations: (() => void)[] = [
    () => insert.run(below(100), below(600 * scale), below(1e9)),
    () => insert.run(String(below(1e6)), below(3000 * scale), 0),
    () => writer.prepare('UPDATE t SET b = ? WHERE id % ? = 0').run(blob(below(500 * scale)), 5 + below(20)),
    () => writer.prepare('DELETE FROM t WHERE id % ? = 1').run(2 + below(9)),
    () => writer.prepare('INSERT INTO t(b) VALUES (?)').run(blob(below(60_000 * scale))),
    () =>
      writer.exec(
        'SAVEPOINT s; INSERT INTO t(a) SELECT a FROM t LIMIT 40; ROLLBACK TO s; INSERT INTO t(a) VALUES (7); RELEASE s',
      ),
    // Larger than the page cache: its frames are in the WAL when it is rolled back.
    () => writer.exec(`BEGIN; INSERT INTO t(b) SELECT zeroblob(${900 * scale}) FROM t LIMIT 60; ROLLBACK`),
    () =>
      writer.exec(
        `BEGIN; INSERT INTO t(b) SELECT zeroblob(${900 * scale}) FROM t LIMIT 60; DELETE FROM t WHERE id % 3 = 0; COMMIT`,
      ),
    () => {
      const name = `x${below(4)}`
      writer.exec(`DROP TABLE IF EXISTS ${name}; CREATE TABLE ${name} AS SELECT * FROM t LIMIT 30`)
    },
    () => writer.exec(`CREATE TABLE IF NOT EXISTS x1(id); ALTER TABLE x1 ADD COLUMN c${below(1e9)} DEFAULT 3`),
    () => writer.pragma('incremental_vacuum(9)'),
    () => writer.exec('DELETE FROM t WHERE id % 4 <> 0; VACUUM'),
    () => database.checkpoint(),
    () => database.guards.rotate(() => database.take()),
  ]
  for (let step = 0; step < 150; step++) {
    operations[below(operations.length)]?.()
    if (below(3) === 0) database.take(below(4) === 0)
    if (below(12) === 0) database.expectSame()
  }
  database.expectSame()
  expect(writer.pragma('integrity_check', { simple: true })).toBe('ok')
  const { records } = database
  database.close()
  return records
}
