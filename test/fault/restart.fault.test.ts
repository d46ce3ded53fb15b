/**
 * I2, I9, I10 over restarts: what a node finds on its disk is trusted where it can be proved, and reported and replaced where it cannot.
 *
 * Real: nodes as processes, with files, sockets and SQLite of their own; the `sqlite3` shell and plain better-sqlite3 as other programs.
 * What may be lost: what somebody wrote to a replica's file while the node was down; the warning says that it was given up.
 */
import { existsSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { formatPosition } from '@litefleet/core'
import { describe, expect, test } from 'vitest'
import { commitAndDie, ForeignLoop } from '../support/foreign-program.ts'
import { shell } from '../support/foreign-shell.ts'
import { imageOf } from '../support/images.ts'
import { ProcessCluster } from '../support/process-cluster.ts'

const NAME = 'app.db'
const SCHEMA = [{ sql: 'CREATE TABLE entry (id INTEGER PRIMARY KEY, body BLOB)' }]
const INSERT = 'INSERT INTO entry (body) VALUES (randomblob(?))'
/** Databases above a few MiB are hashed in threads, which can be counted. */
const LARGE_BYTES = 12 * 2 ** 20

/** A cluster with a table and some rows, settled. */
async function startWithRows(
  replicas: readonly number[],
  options: { readonly log?: object } = {},
): Promise<ProcessCluster> {
  const cluster = await ProcessCluster.start(replicas.length + 1, { database: NAME, ...options })
  await cluster.primary.batch(NAME, SCHEMA)
  for (let i = 0; i < 10; i++) await cluster.primary.run(NAME, INSERT, [3000])
  await cluster.settle(...replicas)
  return cluster
}

function stateFile(cluster: ProcessCluster, index: number): string {
  return path.join(cluster.directoryOf(index), 'state')
}

describe('a clean stop', () => {
  test('is followed by a start that trusts the saved checksums, on the primary and on a replica; a kill is not', async () => {
    await using cluster = await startWithRows([1])
    await cluster.primary.run(NAME, INSERT, [LARGE_BYTES])
    await cluster.settle(1)
    const before = formatPosition((await cluster.primary.facts(NAME)).position)
    for (const index of [1, 0]) {
      expect(existsSync(stateFile(cluster, index))).toBe(false)
      await cluster.node(index).stop()
      expect(existsSync(stateFile(cluster, index))).toBe(true)
      expect(existsSync(`${cluster.fileOf(index)}-wal`)).toBe(false)
    }
    for (const index of [0, 1]) {
      const node = await cluster.startNode(index)
      // It speaks of a file that may change from now on.
      expect(existsSync(stateFile(cluster, index))).toBe(false)
      expect((await node.ready()).threads).toBe(0)
      expect(formatPosition((await node.facts(NAME)).position)).toBe(before)
    }
    await cluster.node(1).run(NAME, INSERT, [10])
    await cluster.expectEqual(1)
    for (const index of [1, 0]) await cluster.node(index).kill()
    for (const index of [0, 1]) {
      const node = await cluster.startNode(index)
      expect((await node.ready()).threads).toBeGreaterThan(0)
    }
    await cluster.expectEqual(1)
    expect(cluster.warningsOf()).toEqual([])
  })

  test('on which another program commits afterwards is not trusted', async () => {
    await using cluster = await startWithRows([1])
    await cluster.node(1).stop()
    await shell(cluster.fileOf(1), 'UPDATE entry SET body = 1 WHERE id = 1')
    expect(existsSync(stateFile(cluster, 1))).toBe(true)
    await cluster.startNode(1)
    await cluster.expectEqual(1)
    expect(cluster.warningsOf('diverged')).toHaveLength(1)
  })

  test('of a replica under a program that waits to write to it never leaves a state that is not the file', async () => {
    await using cluster = await startWithRows([1])
    await using intruder = await ForeignLoop.start(cluster.fileOf(1), 'UPDATE entry SET body = 1 WHERE id = 1', 0)
    for (let restart = 1; restart <= 3; restart++) {
      await cluster.node(1).stop()
      await cluster.startNode(1)
      await cluster.primary.run(NAME, INSERT, [1000])
      await cluster.expectEqual(1)
    }
    await intruder.stop()
    await cluster.expectEqual(1)
  })
})

describe('a replica that returns', () => {
  test('after the primary has removed what it needs from its log gets a snapshot', async () => {
    await using cluster = await startWithRows([1, 2], {
      log: { retentionMs: 0, retentionBytes: 0, segmentBytes: 4096 },
    })
    await cluster.node(1).kill()
    for (let i = 0; i < 20; i++) await cluster.primary.run(NAME, INSERT, [3000])
    await cluster.settle(2)
    const missing = (await cluster.primary.facts(NAME)).position.txid - 20n
    // Removed by age, once the connected replica has it.
    await expect.poll(() => cluster.logStart(0), { timeout: 20_000 }).toBeGreaterThan(Number(missing))
    await cluster.startNode(1)
    await cluster.expectEqual(1, 2)
    expect(cluster.warningsOf().map(({ name, node }) => `${name} on node ${node}`)).toEqual(['seeded-again on node 1'])
    expect(await cluster.logStart(1)).toBeGreaterThan(Number(missing))
  })

  test.each([
    ['a row was changed', (file: string) => shell(file, 'UPDATE entry SET body = 1 WHERE id = 1')],
    [
      'a row was changed, in a WAL that was left',
      (file: string) => commitAndDie(file, ['UPDATE entry SET body = 1 WHERE id = 1']),
    ],
    ['it was rewritten by VACUUM', (file: string) => shell(file, 'DELETE FROM entry WHERE id < 5; VACUUM')],
    ['its journal mode was changed', (file: string) => shell(file, 'PRAGMA journal_mode = DELETE; DELETE FROM entry')],
  ])('and finds that in its file %s says so and is seeded again', async (_, tamper) => {
    await using cluster = await startWithRows([1])
    await cluster.node(1).kill()
    await tamper(cluster.fileOf(1))
    await cluster.startNode(1)
    await cluster.expectEqual(1)
    const [warning, ...more] = cluster.warningsOf()
    // What stood in the file is not lost with it.
    expect(more).toMatchObject([{ name: 'copy-kept', node: 1 }])
    expect(warning).toMatchObject({ name: 'diverged', node: 1 })
    expect(warning?.message).toContain(`database "${NAME}"`)
    await cluster.node(1).run(NAME, INSERT, [10])
    await cluster.expectEqual(1)
  })

  test('into a program that hammers its file with writes becomes equal all the same', async () => {
    await using cluster = await startWithRows([1])
    await cluster.node(1).kill()
    await using intruder = await ForeignLoop.start(
      cluster.fileOf(1),
      'UPDATE entry SET body = randomblob(50) WHERE id = 1',
      0,
    )
    await cluster.startNode(1)
    await cluster.primary.run(NAME, INSERT, [1000])
    await cluster.expectEqual(1)
    expect(await intruder.stop()).toBeGreaterThan(0)
    await cluster.expectEqual(1)
    expect(cluster.warningsOf('diverged')).toHaveLength(1)
  })

  test("to another cluster's primary is refused by name and keeps its data", async () => {
    await using cluster = await startWithRows([1])
    await using other = await startWithRows([])
    await other.primary.run(NAME, 'DELETE FROM entry')
    await cluster.node(1).stop()
    const before = imageOf(cluster.fileOf(1))
    const lost = await cluster.startNode(1, { lease: { kind: 'static', primary: { url: other.primaryUrl } } })
    await expect.poll(() => cluster.warnings.some(({ message }) => message.includes('CLUSTER_MISMATCH'))).toBe(true)
    await expect(lost.run(NAME, INSERT, [10], { timeoutMs: 1_000 })).rejects.toMatchObject({ outcome: 'not-applied' })
    expect(await lost.read(NAME, 'SELECT count(*) FROM entry')).toEqual([[10]])
    expect(imageOf(cluster.fileOf(1)).equals(before)).toBe(true)
    expect(await other.primary.read(NAME, 'SELECT count(*) FROM entry')).toEqual([[0]])
    await lost.stop()
    await cluster.startNode(1)
    await cluster.primary.run(NAME, INSERT, [10])
    await cluster.expectEqual(1)
    expect(cluster.warningsOf()).toEqual([])
  })
})

describe('a primary that returns', () => {
  test('to a file of another page size sends it to its replicas, whose handles go on', async () => {
    await using cluster = await startWithRows([1])
    await cluster.primary.stop()
    await shell(cluster.fileOf(0), 'PRAGMA journal_mode = DELETE; PRAGMA page_size = 8192; VACUUM')
    await cluster.startNode(0)
    await expect.poll(async () => (await cluster.node(1).facts(NAME)).pageSize, { timeout: 20_000 }).toBe(8192)
    await cluster.expectEqual(1)
    // The same handle, and the same prepared statement, as before.
    expect(await cluster.node(1).read(NAME, 'SELECT count(*) FROM entry')).toEqual([[10]])
    await cluster.node(1).run(NAME, INSERT, [20_000])
    expect(await cluster.node(1).read(NAME, 'SELECT count(*) FROM entry')).toEqual([[11]])
    await cluster.expectEqual(1)
    await cluster.node(1).stop()
    await cluster.startNode(1)
    await cluster.expectEqual(1)
  })

  test('to an older copy of its file goes on to the end of its log, and nobody needs a snapshot', async () => {
    await using cluster = await startWithRows([1])
    await cluster.primary.stop()
    const older = imageOf(cluster.fileOf(0))
    await cluster.startNode(0)
    for (let i = 0; i < 5; i++) await cluster.node(1).run(NAME, INSERT, [3000])
    await cluster.settle(1)
    const { position } = await cluster.primary.facts(NAME)
    await cluster.primary.stop()
    writeFileSync(cluster.fileOf(0), older)
    await cluster.startNode(0)
    expect(formatPosition((await cluster.primary.facts(NAME)).position)).toBe(formatPosition(position))
    await cluster.node(1).run(NAME, INSERT, [10])
    await cluster.expectEqual(1)
    expect(cluster.warningsOf()).toEqual([])
  })

  test('and finds no file where its log knows one is refused, and no replica is emptied', async () => {
    await using cluster = await startWithRows([1])
    await cluster.primary.stop()
    const image = imageOf(cluster.fileOf(0))
    rmSync(cluster.fileOf(0))
    await expect(cluster.startNode(0)).rejects.toMatchObject({ code: 'NOT_A_DATABASE' })
    expect(await cluster.node(1).read(NAME, 'SELECT count(*) FROM entry')).toEqual([[10]])
    writeFileSync(cluster.fileOf(0), image)
    await cluster.startNode(0)
    await cluster.primary.run(NAME, INSERT, [10])
    await cluster.expectEqual(1)
  })
})

describe('a data directory', () => {
  test('belongs to one process: a second one is refused and told whose it is, and gets it when that one is gone', async () => {
    await using cluster = await startWithRows([])
    const first = cluster.primary
    await expect(cluster.startNode(0)).rejects.toMatchObject({
      code: 'DATA_DIR_IN_USE',
      message: expect.stringContaining(String(first.pid)),
    })
    // The owner did not notice.
    await first.run(NAME, INSERT, [10])
    await first.kill()
    await cluster.startNode(0)
    expect(await cluster.primary.read(NAME, 'SELECT count(*) FROM entry')).toEqual([[11]])
  })

  test.each([0, 1])(
    'with a file that is not a SQLite database is refused by the name of the file, with what to do (node %i)',
    async (index) => {
      await using cluster = await ProcessCluster.start(index, { database: 'other.db' })
      const directory = path.join(cluster.dataDirOf(index), 'main', 'dbs', 'other.db')
      mkdirSync(directory, { recursive: true })
      const file = path.join(directory, 'database')
      writeFileSync(file, 'Dear diary, '.repeat(1000))
      const { mtimeMs } = statSync(file)
      await expect(cluster.startNode(index)).rejects.toMatchObject({
        code: 'NOT_A_DATABASE',
        message: expect.stringContaining(file),
        hint: expect.stringMatching(/./),
      })
      expect(statSync(file).mtimeMs).toBe(mtimeMs)
    },
  )
})
