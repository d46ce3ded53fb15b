/**
 * I2, I9, I10: whatever is damaged on the disk of a node that does not run, it comes back by itself, or says by name why it must not.
 *
 * Real: nodes as processes; files that are cut, emptied, zeroed, or have one bit changed between two runs. Nobody deletes anything.
 * What may be lost: on a replica nothing that the primary has. On a primary nothing that its WAL or its file still holds; where no
 * checksum vouches for the file, and SQLite finds it damaged, the node does not start and changes nothing.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Damage } from '../support/damage.ts'
import { type NodeFile, ProcessCluster } from '../support/process-cluster.ts'

const NAME = 'app.db'
const COUNT = 'SELECT count(*) FROM entry'
const INSERT = 'INSERT INTO entry (body) VALUES (randomblob(?))'
const ROWS = 30

async function startWithRows(log: object = {}): Promise<ProcessCluster> {
  const cluster = await ProcessCluster.start(2, { database: NAME, log })
  await cluster.primary.batch(NAME, [
    { sql: 'CREATE TABLE entry (id INTEGER PRIMARY KEY, body BLOB)' },
    { sql: 'CREATE INDEX by_body ON entry (body)' },
  ])
  for (let i = 0; i < ROWS; i++) await cluster.primary.run(NAME, INSERT, [3000])
  await cluster.settle(1)
  return cluster
}

const names = (cluster: ProcessCluster): readonly string[] => [
  ...new Set(cluster.warningsOf().map(({ name, node }) => `${name} on ${node}`)),
]

/** The node serves and writes, and both are one. */
async function expectWhole(cluster: ProcessCluster, rows = ROWS): Promise<void> {
  await cluster.expectEqual(1)
  expect(await cluster.node(1).read(NAME, COUNT)).toEqual([[rows]])
  await cluster.node(1).run(NAME, INSERT, [3000])
  await cluster.expectEqual(1)
}

const FLIP = (at: number): Damage => ({ kind: 'flip', at })
const CUT = (bytes: number): Damage => ({ kind: 'cut', bytes })
const EMPTY: Damage = { kind: 'empty' }
const SMALL_SEGMENTS = { segmentBytes: 4096 }

interface Damaged {
  readonly file: NodeFile
  readonly how: Damage
  readonly end?: 'stop' | 'kill'
  readonly log?: object
  /** Warnings that the node gives when it is back. */
  readonly warns: readonly string[]
}

const title = ({ file, how, end = 'kill' }: Damaged): string => {
  const where = 'at' in how ? ` at ${how.at}` : 'bytes' in how ? ` ${how.bytes} bytes` : ''
  return `${typeof file === 'string' ? file : file.path}: ${how.kind}${where}, after a ${end}`
}

const dbFile = (name: string): NodeFile => ({ path: path.join('main', 'dbs', NAME, name) })

describe('a replica comes back by itself and is equal', () => {
  const cases: readonly Damaged[] = [
    { file: 'database', how: FLIP(5), warns: ['set-aside on 1'] },
    { file: 'database', how: FLIP(5), end: 'stop', warns: ['set-aside on 1'] },
    { file: 'database', how: FLIP(18), end: 'stop', warns: ['set-aside on 1'] },
    { file: 'database', how: { kind: 'zero', at: 0, bytes: 4096 }, end: 'stop', warns: ['set-aside on 1'] },
    { file: 'database', how: EMPTY, end: 'stop', warns: [] },
    { file: 'database', how: CUT(10_000), end: 'stop', warns: ['set-aside on 1'] },
    { file: 'database', how: FLIP(4096), end: 'stop', warns: ['diverged on 1', 'copy-kept on 1'] },
    { file: 'database', how: FLIP(100), end: 'stop', warns: ['set-aside on 1'] },
    { file: 'database', how: FLIP(40_000), end: 'stop', warns: ['diverged on 1', 'copy-kept on 1'] },
    { file: 'wal', how: FLIP(3), warns: [] },
    { file: 'wal', how: CUT(5000), warns: [] },
    { file: 'wal', how: FLIP(20_000), warns: [] },
    { file: 'wal', how: EMPTY, warns: [] },
    { file: 'segment', how: CUT(10), warns: ['log-cut on 1', 'diverged on 1', 'copy-kept on 1'] },
    { file: 'segment', how: FLIP(9000), warns: ['log-cut on 1', 'diverged on 1', 'copy-kept on 1'] },
    { file: 'segment', how: EMPTY, warns: ['diverged on 1'] },
    { file: 'epochs', how: EMPTY, warns: ['epochs-rebuilt on 1'] },
    { file: 'epochs', how: FLIP(20), end: 'stop', warns: ['epochs-rebuilt on 1'] },
    { file: 'epoch', how: EMPTY, warns: ['epoch-rebuilt on 1'] },
    { file: 'clusterid', how: EMPTY, warns: ['cluster-id-restored on 1'] },
    { file: 'state', how: FLIP(80), end: 'stop', warns: [] },
    { file: 'state', how: EMPTY, end: 'stop', warns: [] },
  ]
  test.each(cases.map((given) => [title(given), given] as const))('%s', async (_, given) => {
    await using cluster = await startWithRows(given.log)
    await cluster.node(1)[given.end ?? 'kill']()
    await cluster.primary.run(NAME, INSERT, [3000])
    cluster.corrupt(1, given.file, given.how)
    await cluster.startNode(1)
    await expectWhole(cluster, ROWS + 1)
    expect(names(cluster)).toEqual(given.warns)
  })

  test('with an older segment of its log damaged it needs nobody', async () => {
    await using cluster = await startWithRows(SMALL_SEGMENTS)
    await cluster.node(1).kill()
    const [, second] = cluster.segmentsOf(1)
    cluster.corrupt(1, { path: path.relative(cluster.dataDirOf(1), second ?? '') }, { kind: 'zero', at: 40, bytes: 60 })
    await cluster.startNode(1)
    await expectWhole(cluster)
    expect(names(cluster)).toEqual(['log-dropped on 1'])
  })

  test('with everything that tells who it is damaged it joins its primary again', async () => {
    await using cluster = await startWithRows()
    await cluster.node(1).kill()
    for (const file of ['clusterid', 'epoch', 'epochs'] as const) cluster.corrupt(1, file, EMPTY)
    cluster.corrupt(1, { path: 'clusterid.copy' }, EMPTY)
    cluster.corrupt(1, dbFile('log/epochs.copy'), EMPTY)
    await cluster.startNode(1)
    await expectWhole(cluster)
    expect(names(cluster)).toEqual(['cluster-id-lost on 1', 'epoch-rebuilt on 1', 'epochs-rebuilt on 1'])
  })

  test('keeps the file that it gave up where it can be found, and one of them only', async () => {
    await using cluster = await startWithRows()
    for (let turn = 1; turn <= 2; turn++) {
      await cluster.node(1).stop()
      const damaged = cluster.corrupt(1, 'database', FLIP(5))
      const content = readFileSync(damaged)
      await cluster.startNode(1)
      await cluster.expectEqual(1)
      expect(readFileSync(path.join(cluster.directoryOf(1), 'database.damaged'))).toEqual(content)
    }
    expect(cluster.warningsOf('set-aside').map(({ details }) => details['file'])).toEqual(
      Array(2).fill(path.join(cluster.directoryOf(1), 'database.damaged')),
    )
  })
})

describe('a primary comes back by itself, keeps every transaction and its position, and no replica is seeded', () => {
  const cases: readonly Damaged[] = [
    { file: 'segment', how: CUT(2000), warns: ['log-cut on 0'] },
    { file: 'segment', how: FLIP(20_000), warns: ['log-cut on 0'] },
    { file: 'segment', how: { kind: 'zero', at: 30_000, bytes: 20_000 }, warns: ['log-cut on 0'] },
    { file: 'wal', how: EMPTY, warns: [] },
    { file: 'wal', how: CUT(3000), warns: [] },
    { file: 'wal', how: FLIP(20_000), warns: [] },
    { file: 'epochs', how: EMPTY, warns: ['epochs-rebuilt on 0'] },
    { file: 'epoch', how: EMPTY, warns: ['epoch-rebuilt on 0'] },
    { file: 'clusterid', how: EMPTY, warns: ['cluster-id-restored on 0'] },
    { file: 'state', how: FLIP(80), end: 'stop', warns: [] },
  ]
  test.each(cases.map((given) => [title(given), given] as const))('%s', async (_, given) => {
    await using cluster = await startWithRows(given.log)
    const { position } = await cluster.primary.facts(NAME)
    const start = await cluster.logStart(1)
    await cluster.primary[given.end ?? 'kill']()
    cluster.corrupt(0, given.file, given.how)
    await cluster.startNode(0)
    expect((await cluster.primary.facts(NAME)).position).toEqual(position)
    await expectWhole(cluster)
    expect(await cluster.logStart(1)).toBe(start)
    expect(names(cluster)).toEqual(given.warns)
  })
})

test('a primary whose log lost the first record after its WAL began anew keeps it, and no replica is seeded', async () => {
  await using cluster = await startWithRows()
  const salt = (): number => readFileSync(`${cluster.fileOf(0)}-wal`).readUInt32BE(16)
  const before = salt()
  let rows = ROWS
  while (salt() === before) {
    expect(rows++).toBeLessThan(200)
    await cluster.primary.run(NAME, INSERT, [500_000])
  }
  expect(salt()).toBe((before + 1) >>> 0)
  await cluster.settle(1)
  const { position } = await cluster.primary.facts(NAME)
  await cluster.primary.kill()
  cluster.corrupt(0, 'segment', CUT(5000)) // more than the requests behind the record
  await cluster.startNode(0)
  expect((await cluster.primary.facts(NAME)).position).toEqual(position)
  await expectWhole(cluster, rows)
  expect(names(cluster)).toEqual(['log-cut on 0'])
})

describe('a primary whose log lost what its file has', () => {
  test('begins a new history with it, behind the TXID that replicas had; they end equal', async () => {
    await using cluster = await startWithRows()
    await cluster.primary.stop()
    cluster.corrupt(0, 'segment', FLIP(9000))
    await cluster.startNode(0)
    expect((await cluster.primary.facts(NAME)).position.txid).toBeLessThan(
      (await cluster.node(1).facts(NAME)).position.txid,
    )
    await expectWhole(cluster)
    expect(names(cluster)).toEqual(expect.arrayContaining(['log-cut on 0', 'history-restarted on 0']))
  })

  test('altogether begins a new history and says so', async () => {
    await using cluster = await startWithRows()
    await cluster.primary.kill()
    cluster.corrupt(0, 'segment', EMPTY)
    await cluster.startNode(0)
    await expectWhole(cluster)
    expect(names(cluster)).toContain('history-restarted on 0')
  })

  test('does so with a replica that is away meanwhile and meets the same TXIDs again', async () => {
    await using cluster = await startWithRows()
    await cluster.node(1).stop()
    await cluster.primary.stop()
    cluster.corrupt(0, 'segment', FLIP(9000))
    await cluster.startNode(0)
    const before = (await cluster.primary.facts(NAME)).position.txid
    for (let i = 0; i < 2 * ROWS; i++) await cluster.primary.run(NAME, INSERT, [3000])
    expect((await cluster.primary.facts(NAME)).position.txid).toBe(before + BigInt(2 * ROWS))
    await cluster.startNode(1)
    await expectWhole(cluster, 3 * ROWS)
  })

  test('and whose file is damaged, too, is refused, with nothing changed and no replica touched', async () => {
    await using cluster = await startWithRows()
    await cluster.primary.stop()
    const file = cluster.fileOf(0)
    const whole = readFileSync(file)
    cluster.corrupt(0, 'segment', FLIP(9000))
    cluster.corrupt(0, 'database', FLIP(4096))
    const damaged = readFileSync(file)
    await expect(cluster.startNode(0)).rejects.toMatchObject({
      code: 'CORRUPT_DATA',
      message: expect.stringContaining(file),
      hint: expect.stringMatching(/replica/),
    })
    expect(readFileSync(file)).toEqual(damaged)
    expect(await cluster.node(1).read(NAME, COUNT)).toEqual([[ROWS]])
    writeFileSync(file, whole)
    await cluster.startNode(0)
    await expectWhole(cluster)
  })

  test('with a file that is no database any more is refused, and its file stays', async () => {
    await using cluster = await startWithRows()
    await cluster.primary.stop()
    const file = cluster.corrupt(0, 'database', FLIP(5))
    await expect(cluster.startNode(0)).rejects.toMatchObject({ code: 'NOT_A_DATABASE' })
    expect(existsSync(file)).toBe(true)
    expect(existsSync(path.join(cluster.directoryOf(0), 'database.damaged'))).toBe(false)
  })

  test('with a page that another bit makes unreadable is refused before it becomes the truth for others', async () => {
    await using cluster = await startWithRows()
    await cluster.primary.stop()
    cluster.corrupt(0, 'database', FLIP(4096))
    await expect(cluster.startNode(0)).rejects.toMatchObject({ code: 'CORRUPT_DATA' })
    expect(await cluster.node(1).read(NAME, COUNT)).toEqual([[ROWS]])
  })
})

test('a primary that lost its cluster id does not found another cluster over its history', async () => {
  await using cluster = await startWithRows()
  await cluster.primary.stop()
  const id = readFileSync(path.join(cluster.dataDirOf(0), 'clusterid'))
  for (const name of ['clusterid', 'clusterid.copy']) rmSync(path.join(cluster.dataDirOf(0), name))
  await expect(cluster.startNode(0)).rejects.toMatchObject({
    code: 'CORRUPT_DATA',
    hint: expect.stringContaining('another node'),
  })
  writeFileSync(path.join(cluster.dataDirOf(0), 'clusterid'), id)
  await cluster.startNode(0)
  await expectWhole(cluster)
})
