/**
 * I8, I9 beyond 1 GiB, where SQLite leaves out the page that holds its lock bytes: growing across it, seeding, and shrinking back.
 *
 * Real: nodes as processes, with files, sockets and SQLite of their own, a database of more than 1 GiB with pages of 64 KiB. It is made
 * offline by plain SQLite, because filling it through a node would only take longer.
 * What may be lost: nothing.
 */
import { closeSync, existsSync, mkdirSync, openSync, readSync, statSync } from 'node:fs'
import path from 'node:path'
import Database from 'better-sqlite3'
import { expect, test } from 'vitest'
import { readLtxFile } from '../../packages/cli/src/ltx-source.ts'
import { lockPage } from '../../packages/core/src/sqlite-format/lock-page.ts'
import { ProcessCluster } from '../support/process-cluster.ts'

const NAME = 'app.db'
const PAGE_SIZE = 65_536
const LOCK_PAGE = lockPage(PAGE_SIZE)
const PIECE = 16 * 2 ** 20

/** Ends a little before the lock page. */
function makeLarge(file: string): void {
  mkdirSync(path.dirname(file), { recursive: true })
  const connection = new Database(file)
  connection.pragma(`page_size = ${PAGE_SIZE}`)
  connection.pragma('journal_mode = OFF')
  connection.pragma('synchronous = OFF')
  connection.exec('CREATE TABLE entry (id INTEGER PRIMARY KEY, body BLOB)')
  // Zeros make the copies cheap; a page of a chain holds all but four bytes of it.
  const blob = Math.floor((LOCK_PAGE - 20) / 2) * (PAGE_SIZE - 4)
  for (let id = 1; id <= 2; id++) connection.prepare('INSERT INTO entry VALUES (?, zeroblob(?))').run(id, blob)
  connection.close()
}

test('a database that grows across the lock page, is seeded, and shrinks again is equal everywhere; the page never travels', async () => {
  await using cluster = new ProcessCluster({ database: NAME })
  makeLarge(cluster.fileOf(0))
  await cluster.startNode(0)
  await cluster.startNode(1)
  await cluster.settle(1)
  expect((await cluster.node(1).facts(NAME)).pageCount).toBeLessThan(LOCK_PAGE)
  for (let i = 0; i < 8; i++) await cluster.node(1).run(NAME, 'INSERT INTO entry (body) VALUES (randomblob(400000))')
  expect((await cluster.node(1).facts(NAME)).pageCount).toBeGreaterThan(LOCK_PAGE)
  // Node 2 is seeded with the lock page in the middle of its file.
  await cluster.startNode(2)
  await cluster.settle(1, 2)
  await cluster.node(2).run(NAME, 'UPDATE entry SET body = randomblob(300000) WHERE id > 2')
  await cluster.settle(1, 2)
  await expectSameFiles(cluster)
  expect(statSync(cluster.fileOf(2)).size).toBeGreaterThan(LOCK_PAGE * PAGE_SIZE)
  for (const index of cluster.indexes) await cluster.startNode(index)
  await cluster.node(1).run(NAME, 'DELETE FROM entry WHERE id < 4', [], { timeoutMs: 60_000 })
  await cluster.node(1).run(NAME, 'VACUUM', [], { timeoutMs: 60_000 })
  await cluster.settle(1, 2)
  expect((await cluster.node(2).facts(NAME)).pageCount).toBeLessThan(200)
  await cluster.node(2).run(NAME, 'INSERT INTO entry (body) VALUES (randomblob(400000))')
  await cluster.expectEqual(1, 2)
  await expectSameFiles(cluster)
  const travelled = new Set<number>()
  for (const index of cluster.indexes) {
    for (const segment of cluster.segmentsOf(index)) {
      for await (const item of readLtxFile(segment, true)) {
        if (item.kind === 'ltx') for (const pgno of item.ltx.pages ?? []) travelled.add(pgno)
      }
    }
  }
  expect(travelled.has(LOCK_PAGE - 1) && travelled.has(LOCK_PAGE + 1)).toBe(true)
  expect(travelled.has(LOCK_PAGE)).toBe(false)
  expect(cluster.warningsOf()).toEqual([])
})

/** Closes all nodes; then the files are all there is. */
async function expectSameFiles(cluster: ProcessCluster): Promise<void> {
  for (const index of cluster.indexes.toReversed()) {
    await cluster.node(index).stop()
    expect(existsSync(`${cluster.fileOf(index)}-wal`)).toBe(false)
  }
  for (const index of [1, 2]) expect(firstDifference(cluster.fileOf(0), cluster.fileOf(index))).toBe(undefined)
}

/** The first page in which two files differ. Nobody has them open. */
function firstDifference(one: string, other: string): number | undefined {
  const fds = [openSync(one, 'r'), openSync(other, 'r')] as const
  const pieces = [Buffer.alloc(PIECE), Buffer.alloc(PIECE)] as const
  try {
    for (let at = 0; ; at += PIECE) {
      const [a, b] = fds.map((fd, i) =>
        pieces[i]?.subarray(0, readSync(fd, pieces[i] ?? Buffer.alloc(0), 0, PIECE, at)),
      )
      if (a === undefined || b === undefined || (a.length === 0 && b.length === 0)) return undefined
      if (!a.equals(b)) return Math.floor(at / PAGE_SIZE) + 1
    }
  } finally {
    for (const fd of fds) closeSync(fd)
  }
}
