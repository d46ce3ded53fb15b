/**
 * I2, I9, I10 when bytes on a node's disk change behind its back: torn and flipped ones in the WAL, the log, the saved state, the epochs and
 * the database itself, or on the way from another node. The node finds it out, and comes back by itself or says by name what is wrong; damaged data is
 * neither served as if it were good nor sent to others.
 *
 * Real: nodes as processes, with files, sockets and SQLite of their own; SIGKILL. Modelled: the damage, made while the node is down.
 * What may be lost: nothing. What is damaged in one file of a primary stands in another one; a replica has a primary.
 */
import { rmSync, statSync } from 'node:fs'
import { expect, test } from 'vitest'
import type { Damage } from '../support/damage.ts'
import { type NodeFile, ProcessCluster } from '../support/process-cluster.ts'
import { Random, seedOfRun } from '../support/random.ts'

const NAME = 'app.db'
const SCHEMA = [{ sql: 'CREATE TABLE entry (id INTEGER PRIMARY KEY, body BLOB)' }]
const INSERT = 'INSERT INTO entry (body) VALUES (randomblob(?))'
const ROWS = 30
const CHECK = 'SELECT id, hex(body) FROM entry'
const COUNT = 'SELECT count(*) FROM entry'
const GARBAGE = Buffer.from('Dear diary, '.repeat(50))

interface Case {
  readonly file: NodeFile
  readonly how: Damage
  /** Left by a clean stop; everything else is what a kill leaves. */
  readonly end?: 'stop'
}

const CASES: readonly Case[] = [
  { file: 'wal', how: { kind: 'flip', at: -100 } },
  { file: 'wal', how: { kind: 'flip', at: 6_000 } },
  { file: 'wal', how: { kind: 'flip', at: 3 } },
  { file: 'wal', how: { kind: 'cut', bytes: 1_234 } },
  { file: 'wal', how: { kind: 'zero', at: -5_000, bytes: 5_000 } },
  { file: 'wal', how: { kind: 'empty' } },
  { file: 'segment', how: { kind: 'flip', at: -300 } },
  { file: 'segment', how: { kind: 'flip', at: 20_000 } },
  { file: 'segment', how: { kind: 'flip', at: 10 } },
  { file: 'segment', how: { kind: 'cut', bytes: 777 } },
  { file: 'segment', how: { kind: 'zero', at: 30_000, bytes: 4_096 } },
  { file: 'segment', how: { kind: 'append', content: GARBAGE } },
  { file: 'segment', how: { kind: 'empty' } },
  { file: 'epochs', how: { kind: 'flip', at: 20 } },
  { file: 'epochs', how: { kind: 'empty' } },
  { file: 'epoch', how: { kind: 'flip', at: 5 } },
  { file: 'epoch', how: { kind: 'cut', bytes: 9 } },
  { file: 'clusterid', how: { kind: 'cut', bytes: 9 } },
  { file: 'state', how: { kind: 'flip', at: 100 }, end: 'stop' },
  { file: 'state', how: { kind: 'cut', bytes: 10 }, end: 'stop' },
]

async function startWithRows(): Promise<ProcessCluster> {
  const cluster = await ProcessCluster.start(2, { database: NAME })
  await cluster.primary.batch(NAME, SCHEMA)
  for (let i = 0; i < ROWS; i++) await cluster.primary.run(NAME, INSERT, [3000])
  await cluster.settle(1)
  return cluster
}

test('a replica comes back from any damage to its files, and is equal again', async () => {
  await using cluster = await startWithRows()
  for (const { file, how, end } of CASES) {
    const what = `${JSON.stringify(file)} ${JSON.stringify(how)}`
    for (let i = 0; i < 15; i++) await cluster.primary.run(NAME, INSERT, [3000])
    await cluster.settle(1)
    await cluster.node(1)[end ?? 'kill']()
    cluster.corrupt(1, file, how)
    await comesBack(cluster, 1, what)
    await cluster.node(1).run(NAME, INSERT, [10])
    await equal(cluster, what)
  }
  // And of the database itself, in a page that nothing would read.
  for (const end of ['kill', 'stop'] as const) {
    await cluster.node(1)[end]()
    const { size } = statSync(cluster.fileOf(1))
    cluster.corrupt(1, 'database', { kind: 'flip', at: Math.floor(size / 2) })
    await comesBack(cluster, 1, `database, after ${end}`)
    await cluster.primary.run(NAME, INSERT, [10])
    await equal(cluster, `database, after ${end}`)
  }
})

test('a primary comes back from any damage to its log, WAL, epochs and state, and its replica is what it is', async () => {
  await using cluster = await startWithRows()
  let rows = ROWS
  for (const { file, how, end } of CASES) {
    const what = `${JSON.stringify(file)} ${JSON.stringify(how)}`
    for (let i = 0; i < 15; i++) await cluster.primary.run(NAME, INSERT, [3000])
    rows += 16
    await cluster.settle(1)
    await cluster.primary[end ?? 'kill']()
    cluster.corrupt(0, file, how)
    await comesBack(cluster, 0, what)
    const { epoch } = await cluster.primary.facts(NAME)
    // The replica may be on its way to another history: what it is told is where the write is, not that it shows it.
    await cluster.node(1).run(NAME, INSERT, [10], { await: 'none' })
    await equal(cluster, what)
    expect(await cluster.primary.read(NAME, COUNT), what).toEqual([[rows]])
    // An epoch is never used twice, whatever became of the file that remembers it.
    expect((await cluster.primary.facts(NAME)).epoch, what).toBeGreaterThanOrEqual(epoch)
  }
})

test('what arrives damaged, of a snapshot or of single transactions, is never taken: it is asked for again', async () => {
  const random = new Random(seedOfRun('damage on the way'))
  await using cluster = await ProcessCluster.start(2, { database: NAME, links: true })
  await cluster.primary.batch(NAME, SCHEMA)
  for (let i = 0; i < ROWS; i++) await cluster.primary.run(NAME, INSERT, [3000])
  await cluster.settle(1)
  const { http } = cluster.link(1, 0)
  for (let attempt = 1; attempt <= 8; attempt++) {
    const isSnapshot = attempt % 2 === 0
    if (isSnapshot) {
      await cluster.node(1).kill()
      rmSync(cluster.dataDirOf(1), { recursive: true })
    }
    http.garble(200 + random.below(isSnapshot ? 80_000 : 20_000))
    if (isSnapshot) await cluster.startNode(1)
    await expect
      .poll(
        async () => {
          await cluster.primary.run(NAME, INSERT, [3000])
          return http.isGarbled
        },
        { timeout: 20_000 },
      )
      .toBe(true)
    await equal(cluster, `byte on the way, ${isSnapshot ? 'snapshot' : 'transactions'}`)
    http.heal()
  }
  // A single bit on the way is no other history.
  expect(cluster.warningsOf('diverged')).toEqual([])
})

test('a primary whose database itself is damaged is refused by name, wherever the damage is, and its replica goes on serving', async () => {
  await using cluster = await startWithRows()
  const good = await cluster.node(1).read(NAME, CHECK)
  for (const share of [0.25, 0.5, 0.75]) {
    // Everything in the file, nothing in the WAL, no saved checksums to trust.
    await cluster.primary.stop()
    await cluster.startNode(0)
    await cluster.settle(1)
    await cluster.primary.kill()
    const flip = { kind: 'flip', at: Math.floor(statSync(cluster.fileOf(0)).size * share) } as const
    cluster.corrupt(0, 'database', flip)
    await expect(cluster.startNode(0)).rejects.toMatchObject({ code: 'CORRUPT_DATA', hint: expect.stringMatching(/./) })
    expect(await cluster.node(1).read(NAME, CHECK)).toEqual(good)
    // With the byte as it was it is a database again.
    cluster.corrupt(0, 'database', flip)
    await cluster.startNode(0)
    await cluster.expectEqual(1)
  }
  expect(await cluster.node(1).read(NAME, CHECK)).toEqual(good)
  expect(cluster.warningsOf()).toEqual([])
})

async function comesBack(cluster: ProcessCluster, index: number, after: string): Promise<void> {
  try {
    await cluster.startNode(index)
  } catch (error) {
    throw new Error(`node ${index} did not come back after damage to ${after}`, { cause: error })
  }
}

async function equal(cluster: ProcessCluster, after: string): Promise<void> {
  try {
    await cluster.expectEqual(1)
    const [[count] = []] = await cluster.primary.read(NAME, COUNT)
    expect(Number(count)).toBeGreaterThan(0)
  } catch (error) {
    throw new Error(`not equal after damage to ${after}`, { cause: error })
  }
}
