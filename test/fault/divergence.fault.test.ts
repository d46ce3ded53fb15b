/**
 * I10, I7: a node whose history parted from the primary's keeps what only it had in a report before anything of it is given up; then it is
 * seeded again, page by page, and says so. Its requests can be run again at the new primary, and none takes effect twice.
 *
 * Real: nodes as processes, with files, sockets and SQLite of their own; SIGKILL, also in the middle of a named operation; the command line; the
 * `sqlite3` shell. Not real: an election (the static primary is moved by restarting nodes, as an operator would).
 * What may be lost from the cluster's history: what was acknowledged at the levels `none` and `local` by a primary that died before it had
 * left it. It is then in a report of that node.
 */
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, expect, test } from 'vitest'
import { crashPointsOf, crashRule, nameOf } from '../support/crash-points.ts'
import { shell } from '../support/foreign-shell.ts'
import { run as litefleet } from '../support/litefleet-command.ts'
import { ProcessCluster } from '../support/process-cluster.ts'
import type { ProcessNode } from '../support/process-node.ts'
import { Random, seedOfRun } from '../support/random.ts'

const NAME = 'app.db'
const SCHEMA = [{ sql: 'CREATE TABLE entry (id INTEGER PRIMARY KEY, text TEXT, body BLOB)' }]
const INSERT = 'INSERT INTO entry (text) VALUES (?)'
/** Two request ids of callers. */
const [ID_A, ID_B] = ['00000001', '00000002'].map(
  (sequence) => `${Date.now().toString(16).padStart(12, '0')}aaaaaaaaaaaa${sequence}`,
) as [string, string]

let cluster: ProcessCluster
afterEach(() => cluster.close())

async function start(nodes: number, options: { readonly log?: object; readonly links?: boolean } = {}): Promise<void> {
  cluster = await ProcessCluster.start(nodes, { database: NAME, ...options })
  await cluster.primary.batch(NAME, SCHEMA)
  await cluster.primary.run(NAME, INSERT, ['shared'])
  await cluster.settle(...cluster.indexes.slice(1))
}

/** Everybody but node 0 dies; it commits alone, then dies too, and node 1 becomes the primary. */
async function partAt(write: (alone: ProcessNode) => Promise<unknown>): Promise<void> {
  for (const index of cluster.indexes.slice(1)) await cluster.node(index).kill()
  await write(cluster.node(0))
  await cluster.node(0).kill()
  await cluster.movePrimary(1)
  for (const index of cluster.indexes.slice(2)) await cluster.startNode(index)
  await cluster.node(1).run(NAME, INSERT, ['by the new primary'])
}

interface ShownReport extends Omit<Report, 'requests'> {
  readonly requests: readonly { readonly requestId: string | null; readonly idempotencyKey: string | null }[]
}

interface Report {
  readonly requests: number
  readonly id: string
  readonly kind: string
  readonly directory: string
  readonly isExact: boolean
  readonly missing: number
  readonly shared: string | null
  readonly here: string
  readonly transactions: { readonly first: string; readonly last: string } | null
  readonly replays: readonly { readonly outcome: string }[]
}

async function divergence(index: number, verb: string, ...args: readonly string[]) {
  return litefleet('divergence', verb, '--data-dir', cluster.dataDirOf(index), ...args)
}

async function reportsOf(index: number): Promise<readonly Report[]> {
  const { code, out } = await divergence(index, 'list', '--json')
  expect(code).toBe(0)
  return JSON.parse(out) as Report[]
}

async function show(index: number, id: string): Promise<ShownReport> {
  const { code, out } = await divergence(index, 'show', id, '--json')
  expect(code).toBe(0)
  return JSON.parse(out) as ShownReport
}

async function texts(index: number): Promise<readonly unknown[]> {
  const rows = await cluster.node(index).read(NAME, 'SELECT text FROM entry ORDER BY id')
  return rows.map(([text]) => text)
}

/** The first word of each line. */
function outcomesIn(out: string): readonly (string | undefined)[] {
  return out
    .trim()
    .split('\n')
    .map((line) => line.split(' ', 1)[0])
}

async function grpcOf(index: number): Promise<string> {
  return (await cluster.node(index).ready()).addresses.grpc
}

test('a request whose transaction the log could not take at first is in the report all the same', async () => {
  await start(2)
  await partAt(async (alone) => {
    await alone.failOperation('log.append', 'ENOSPC')
    // Asked again by the node itself under the same id, once its disk is whole: the ledger has it.
    const write = alone.run(NAME, INSERT, ['logged later'], { requestId: ID_A, timeoutMs: 20_000 })
    expect(await write).toMatchObject({ replayed: true })
  })
  await cluster.startNode(0)
  await cluster.expectEqual(0)
  const [report] = await reportsOf(0)
  expect(report).toMatchObject({ kind: 'parted', requests: 1, missing: 0 })
  expect((await show(0, report!.id)).requests).toMatchObject([{ requestId: ID_A }])
})

test('what an old primary committed alone is reported, exported and replayed: everything once, however often it is replayed', async () => {
  await start(3)
  await partAt(async (alone) => {
    await alone.run(NAME, INSERT, ['local, without an identity'], { await: 'none' })
    await alone.run(NAME, INSERT, ['with a request id'], { requestId: ID_A })
    await alone.batch(NAME, [{ sql: INSERT, params: ['with a key'] }], { idempotencyKey: 'k' })
    await shell(cluster.fileOf(0), "INSERT INTO entry (text) VALUES ('by another program')")
    await alone.run(NAME, INSERT, ['the last one'], { requestId: ID_B })
  })
  // The same request, asked again at the new primary by a caller that never heard the first answer.
  await cluster.node(2).run(NAME, INSERT, ['with a request id'], { requestId: ID_A })
  await cluster.startNode(0)
  await cluster.expectEqual(0, 2)
  const after = ['shared', 'by the new primary', 'with a request id']
  expect(await texts(0)).toEqual(after)

  const [listed, ...others] = await reportsOf(0)
  expect(others).toEqual([])
  for (const index of [1, 2]) expect(await reportsOf(index)).toEqual([])
  expect((await cluster.node(0).facts(NAME)).divergences).toBe(1)
  const warnings = cluster.warningsOf('diverged')
  expect(warnings).toMatchObject([{ node: 0, details: { report: listed?.directory } }])
  const { id } = listed!
  const report = await show(0, id)
  expect(report).toMatchObject({ kind: 'parted', isExact: true, missing: 0 })
  const { first, last } = report.transactions!
  expect(BigInt(`0x${last}`) - BigInt(`0x${first}`) + 1n).toBe(5n)
  expect(BigInt(`0x${first}`)).toBe(BigInt(`0x${report.shared?.slice(0, 16)}`) + 1n)
  expect(report.requests.map(({ requestId, idempotencyKey }) => requestId ?? idempotencyKey)).toEqual([
    null,
    ID_A,
    'k',
    ID_B,
  ])

  const out = path.join(cluster.directory, 'exported')
  expect(await divergence(0, 'export', id, '--to', out)).toMatchObject({ code: 0 })
  const files = readdirSync(out)
  expect(files.filter((file) => file.endsWith('.ltx'))).toHaveLength(5)
  expect(files).toEqual(expect.arrayContaining(['report.json', 'requests.jsonl']))
  expect(await litefleet('ltx', 'verify', out)).toMatchObject({ code: 0 })

  const node = ['--node', await grpcOf(2)]
  const dry = await divergence(0, 'replay', id, ...node, '--dry-run')
  expect(dry.out.match(/would run/g)).toHaveLength(4)
  expect(await texts(1)).toEqual(after)
  for (let replay = 1; replay <= 2; replay++) {
    const { code, err } = await divergence(0, 'replay', id, ...node)
    expect(err).toBe('')
    expect(code).toBe(0)
    expect(await texts(1)).toEqual([...after, 'local, without an identity', 'with a key', 'the last one'])
    // As if nothing had been noted.
    if (replay === 1) rmSync(path.join(report.directory, 'replay.jsonl'))
  }
  expect((await show(0, id)).replays.map(({ outcome }) => outcome)).toEqual(Array(4).fill('applied'))
  await cluster.expectEqual(0, 2)
})

test('what cannot be run again is said, the rest is run; a request that fails in the new history can be tried again', async () => {
  await start(2)
  await cluster.primary.run(NAME, 'CREATE UNIQUE INDEX once ON entry (text)')
  await cluster.settle(1)
  await partAt(async (alone) => {
    await alone.batch(NAME, [{ sql: 'INSERT INTO entry (body) VALUES (?)', params: [Buffer.alloc(2 << 20)] }])
    await alone.run(NAME, INSERT, ['by the new primary'])
    await alone.run(NAME, INSERT, ['fine'])
  })
  await cluster.startNode(0)
  await cluster.settle(0)
  const [listed] = await reportsOf(0)
  const node = ['--node', await grpcOf(1)]
  const first = await divergence(0, 'replay', listed!.id, ...node)
  expect(first.code).toBe(1)
  expect(first.err).toContain('1 request has not taken effect')
  expect(outcomesIn(first.out)).toEqual(['skipped', 'refused', 'applied'])
  expect(first.out).toContain('UNIQUE constraint failed')
  await cluster.node(1).run(NAME, "DELETE FROM entry WHERE text = 'by the new primary'")
  const second = await divergence(0, 'replay', listed!.id, ...node)
  expect(outcomesIn(second.out)).toEqual(['skipped', 'applied'])
  expect(second.code).toBe(0)
})

test('a stale primary beside the new one, put right: both its own writes and those of who followed it are in reports', async () => {
  await start(3)
  await cluster.node(0).kill()
  await cluster.movePrimary(1)
  await cluster.node(1).run(NAME, INSERT, ['by the new primary'])
  await cluster.settle(2)
  // Node 0 comes back as if nothing had happened, and node 2 is pointed at it.
  const stale = await cluster.startStalePrimary(0)
  await stale.run(NAME, INSERT, ['by the stale primary'])
  await cluster.node(2).stop()
  const { addresses } = await stale.ready()
  const misled = await cluster.startNode(2, { lease: { kind: 'static', primary: { url: addresses.http } } })
  await misled.run(NAME, INSERT, ['through the misled node'])
  // It gave up the new primary's write for the stale one's, and says so.
  await expect
    .poll(() => texts(2), { timeout: 20_000 })
    .toEqual(['shared', 'by the stale primary', 'through the misled node'])
  expect((await reportsOf(2)).map(({ kind }) => kind)).toEqual(['parted'])

  await cluster.node(0).stop()
  await cluster.node(2).stop()
  await cluster.startNode(0)
  await cluster.startNode(2)
  await cluster.expectEqual(0, 2)
  expect(await texts(0)).toEqual(['shared', 'by the new primary'])
  expect((await reportsOf(0)).map(({ requests }) => requests)).toEqual([2])
  // Only the node that ran them knows the requests. What node 2 got with its seed it never had as transactions.
  const reports = await reportsOf(2)
  expect(reports).toHaveLength(2)
  expect(reports[1]).toMatchObject({ isExact: true, requests: 0 })
  const { missing, transactions } = reports[1]!
  expect(
    missing + (transactions === null ? 0 : Number(`0x${transactions.last}`) - Number(`0x${transactions.first}`) + 1),
  ).toBe(2)
  for (const index of [0, 2]) {
    for (const report of await reportsOf(index)) {
      // What node 2 has of the new primary's write is in today's history as well; running it again does nothing.
      const { code } = await divergence(index, 'replay', report.id, '--node', await grpcOf(1))
      expect(code).toBe(0)
    }
  }
  expect(new Set(await texts(1))).toEqual(
    new Set(['by the new primary', 'by the stale primary', 'shared', 'through the misled node']),
  )
  expect(await texts(1)).toHaveLength(4)
})

test('a report made against a history that was itself lost doubles nothing: what stands in the history of today is not run again', async () => {
  await start(3)
  await cluster.node(2).kill()
  await cluster.node(0).run(NAME, INSERT, ['without an identity, on nodes 0 and 1'])
  await cluster.settle(1)
  await cluster.node(1).kill()
  await cluster.movePrimary(2)
  await cluster.node(2).run(NAME, INSERT, ['by node 2'])
  await cluster.expectEqual(0)
  const [report] = await reportsOf(0)
  expect(report).toMatchObject({ isExact: true, requests: 1 })
  // Node 1, which knows nothing of that, is made the primary.
  await cluster.movePrimary(1)
  await cluster.expectEqual(0, 2)
  const replay = await divergence(0, 'replay', report!.id, '--node', await grpcOf(1))
  expect(replay).toMatchObject({ code: 0, out: expect.stringContaining("its transaction stands in today's history") })
  expect(await texts(1)).toEqual(['shared', 'without an identity, on nodes 0 and 1'])
  // Of the write of node 2 both it and node 0 have a report; only node 2 ran it.
  for (const index of [0, 2]) {
    for (const { id } of await reportsOf(index))
      expect(await divergence(index, 'replay', id, '--node', await grpcOf(1))).toMatchObject({ code: 0 })
  }
  expect(await texts(1)).toEqual(['shared', 'without an identity, on nodes 0 and 1', 'by node 2'])
})

test('transactions that the log had removed before are counted as missing; the rest is kept', async () => {
  await start(2, { log: { retentionMs: 0, retentionBytes: 0, segmentBytes: 4096 } })
  await partAt(async (alone) => {
    for (let i = 0; i < 12; i++) await alone.run(NAME, 'INSERT INTO entry (body) VALUES (randomblob(3000))')
    const before = await cluster.logStart(0)
    await expect.poll(() => cluster.logStart(0), { timeout: 20_000 }).toBeGreaterThan(Math.max(before, 4))
  })
  await cluster.startNode(0)
  await cluster.expectEqual(0)
  const report = await show(0, (await reportsOf(0))[0]!.id)
  const { first, last } = report.transactions!
  expect(report.missing).toBeGreaterThan(0)
  expect(report.missing + Number(`0x${last}`) - Number(`0x${first}`) + 1).toBe(12)
})

test('a report that cannot be written is no reason to lose what it would keep: the node waits, and says why', async () => {
  await start(2)
  await partAt((alone) => alone.run(NAME, INSERT, ['alone']))
  const node = await cluster.startNode(
    0,
    {},
    {
      faults: [{ operation: 'divergence.make-directory', times: 'always', effect: { kind: 'fail', errno: 'ENOSPC' } }],
    },
  )
  await expect
    .poll(() => cluster.warnings.some(({ message }) => message.includes('ENOSPC')), { timeout: 20_000 })
    .toBe(true)
  expect(await texts(0)).toEqual(['shared', 'alone'])
  expect(await reportsOf(0)).toEqual([])
  await node.clearFaults()
  await cluster.expectEqual(0)
  expect(await reportsOf(0)).toHaveLength(1)
})

test('a node that dies at any operation of reporting and being seeded has one report in the end, whole, and is equal', async () => {
  const random = new Random(seedOfRun('crash points of a divergence'))
  await start(2)
  await cluster.primary.batch(
    NAME,
    Array.from({ length: 50 }, () => ({ sql: 'INSERT INTO entry (body) VALUES (randomblob(5000))' })),
  )
  await cluster.settle(1)
  const part = async (): Promise<void> => {
    await cluster.node(1).kill()
    await cluster.node(0).run(NAME, 'UPDATE entry SET body = randomblob(5000) WHERE id = 3')
    await cluster.node(0).run(NAME, INSERT, ['alone'])
    await cluster.node(0).kill()
    await cluster.movePrimary(1)
    await cluster.node(1).run(NAME, INSERT, ['by the new primary'])
  }
  const partBack = async (): Promise<void> => {
    await cluster.settle(0)
    await cluster.movePrimary(0)
    await cluster.settle(1)
  }
  await part()
  await cluster.startNode(0)
  await cluster.settle(0)
  const points = crashPointsOf(await cluster.node(0).operations(), random, 2).filter(({ operation }) =>
    /^(divergence|seed|log\.reset|log\.epochs|snapshot\.receive|apply)/.test(operation),
  )
  expect(points.length).toBeGreaterThan(10)
  for (const [i, point] of points.entries()) {
    await partBack()
    await part()
    const dying = cluster.spawnNode(0, {}, { faults: [crashRule(point)] })
    const end = await Promise.race([dying.gone(), sleep(20_000, 'lives')])
    expect(end, nameOf(point)).toBe('SIGKILL')
    await cluster.startNode(0)
    await cluster.expectEqual(0)
    const reports = await reportsOf(0)
    expect(reports.length, nameOf(point)).toBe(i + 2)
    const report = reports.at(-1)!
    expect(report, nameOf(point)).toMatchObject({ kind: 'parted', isExact: true, missing: 0, requests: 2 })
    expect(existsSync(path.join(report.directory, 'requests.jsonl')), nameOf(point)).toBe(true)
    expect(readFileSync(path.join(report.directory, 'requests.jsonl'), 'utf8').trim().split('\n')).toHaveLength(2)
  }
})

test('a node that died between its new pages and its log, and is made the primary, stands where its pages are', async () => {
  await start(2)
  await partAt((alone) => alone.run(NAME, INSERT, ['alone']))
  const { position } = await cluster.node(1).facts(NAME)
  const dying = cluster.spawnNode(
    0,
    {},
    { faults: [{ operation: 'log.reset', methods: ['write'], effect: { kind: 'crash', when: 'before' } }] },
  )
  expect(await Promise.race([dying.gone(), sleep(20_000, 'lives')])).toBe('SIGKILL')
  expect(existsSync(path.join(cluster.directoryOf(0), 'seeding'))).toBe(true)
  await cluster.node(1).kill()
  await cluster.movePrimary(0)
  expect((await cluster.node(0).facts(NAME)).position).toEqual(position)
  await cluster.node(0).run(NAME, INSERT, ['goes on'])
  await cluster.startNode(1)
  await cluster.expectEqual(1)
  expect(await texts(1)).toEqual(['shared', 'by the new primary', 'goes on'])
  expect(cluster.warningsOf().map(({ name }) => name)).toEqual(['diverged'])
})

test('only the pages that differ travel', async () => {
  await start(2, { links: true })
  await cluster.primary.run(NAME, 'INSERT INTO entry (body) VALUES (zeroblob(?))', [30 << 20])
  await cluster.settle(1)
  await partAt((alone) => alone.run(NAME, INSERT, ['alone']))
  await cluster.startNode(0)
  await cluster.settle(0)
  expect(cluster.link(0, 1).http.forwardedBytes).toBeLessThan(2 << 20)
  await cluster.expectEqual(0)
  expect(await reportsOf(0)).toHaveLength(1)
})
