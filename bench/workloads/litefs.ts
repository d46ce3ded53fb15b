/**
 * The same work through the real LiteFS 0.5.14 and through us, in turn, in one run. The baseline is LiteFS; nothing is measured where it cannot run.
 *
 * `litefs.insert.1`, `.64`: inserts on the primary, each a transaction of its own, from 1 and from 64 callers of one Node.js process, without a replica. Through
 * LiteFS better-sqlite3 writes to the mount, where a commit is durable whatever `synchronous` says; callers come one after another there. In writes per second.
 * `litefs.lag.p50`, `.p99`: from the answer of a small transaction on the primary until a read on the replica, by another program that looks every ms, sees it. In ms.
 * `litefs.snapshot`: from the start of the process of a new replica until it has a database of 100 MB (full: 400 MB), in s.
 */
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'
import path from 'node:path'
import { openCluster } from '@litefleet/core'
import Database from 'better-sqlite3'
import { LiteFsNode, whyNoLiteFs } from '../../test/support/litefs.ts'
import { ChildProgram } from '../child-program.ts'
import { machineMs, percentile } from '../lag.ts'
import type { InsertedRow, OpenedNode } from '../processes/cluster-node.ts'
import { type Row, row } from '../row.ts'
import { alternate, type BenchContext, median, rateInFlight, type Workload } from '../workload.ts'

const NAME = 'bench.db'
const CREATE = 'CREATE TABLE rows (id INTEGER PRIMARY KEY, body TEXT NOT NULL)'
const INSERT = 'INSERT INTO rows (body) VALUES (?)'
const LARGE = 'INSERT INTO rows (body) SELECT hex(randomblob(2000)) FROM (SELECT 1 FROM rows LIMIT 1000)'
const SEEN = 'SELECT max(id) FROM rows'
const CALLERS = 64
const LARGE_BYTES = 4_100_000
/** Who reads without a pause keeps LiteFS from applying anything. */
const LOOK_EVERY_MS = 1

export const litefs: Workload = {
  name: 'litefs',
  async run(context) {
    const why = whyNoLiteFs()
    if (why !== undefined) {
      console.log(`litefs: not measured: ${why}`)
      return []
    }
    return [...(await measureInserts(context)), ...(await measureLag(context)), await measureSnapshot(context)]
  },
}

async function measureInserts({ directory, sliceMs, rounds }: BenchContext): Promise<readonly Row[]> {
  await using theirs = await LiteFsNode.start()
  await using cluster = await openCluster({
    dataDir: path.join(directory, 'inserts'),
    lease: { kind: 'static', primary: true },
  })
  const ours = await cluster.database(NAME, { migrations: [{ name: '1', sql: CREATE }] })
  using mounted = openMounted(theirs)
  const insert = mounted.database.prepare(INSERT)
  const through = (callers: number): Promise<number> =>
    rateInFlight(callers, sliceMs, () => ours.run(INSERT, ['a small row']))
  const throughLiteFs = (callers: number): Promise<number> =>
    rateInFlight(callers, sliceMs, async () => {
      insert.run('a small row')
      await turn() // other callers, and the sockets of a server, have their turn
    })
  const one = await alternate(
    rounds,
    () => through(1),
    () => throughLiteFs(1),
  )
  const many = await alternate(
    rounds,
    () => through(CALLERS),
    () => throughLiteFs(CALLERS),
  )
  return [
    row('litefs.insert.1', 'writes/s', one.value, one.baseline),
    row('litefs.insert.64', 'writes/s', many.value, many.baseline),
  ]
}

async function measureLag({ directory, quick }: BenchContext): Promise<readonly Row[]> {
  const count = quick ? 100 : 500
  const theirLags = await lagsOfLiteFs(count)
  await using primary = new ChildProgram('cluster-node.ts')
  const migrations = [CREATE, "INSERT INTO rows (body) VALUES ('first')"]
  const dataDir = (name: string): string => path.join(directory, `lag-${name}`)
  const { http } = await primary.ask<OpenedNode>('open', {
    name: 'primary',
    dataDir: dataDir('primary'),
    database: NAME,
    migrations,
  })
  await using replica = new ChildProgram('cluster-node.ts')
  const { path: file } = await replica.ask<OpenedNode>('open', {
    name: 'replica',
    dataDir: dataDir('replica'),
    database: NAME,
    primary: http,
  })
  const ourLags = await lags(file, count, () => primary.ask<InsertedRow>('insertRow'))
  return [
    row('litefs.lag.p50', 'ms', percentile(ourLags, 50), percentile(theirLags, 50)),
    row('litefs.lag.p99', 'ms', percentile(ourLags, 99), percentile(theirLags, 99)),
  ]
}

async function lagsOfLiteFs(count: number): Promise<readonly number[]> {
  await using primary = await LiteFsNode.start()
  using mounted = openMounted(primary)
  const insert = mounted.database.prepare(INSERT)
  insert.run('first')
  await using replica = await LiteFsNode.replicaOf(primary.url)
  return await lags(path.join(replica.mount, NAME), count, () => {
    const id = Number(insert.run('a small row').lastInsertRowid)
    return Promise.resolve({ id, answeredMs: machineMs() })
  })
}

async function lags(file: string, count: number, write: () => Promise<InsertedRow>): Promise<readonly number[]> {
  const reader = new Database(file, { readonly: true, fileMustExist: true })
  try {
    const seen = reader.prepare(SEEN).pluck()
    const measured: number[] = []
    for (let i = 0; i < count; i++) {
      const { id, answeredMs } = await write()
      while (!hasSeen(() => seen.get() as number, id)) await sleep(LOOK_EVERY_MS)
      measured.push(machineMs() - answeredMs)
    }
    return measured
  } finally {
    reader.close()
  }
}

/** While LiteFS applies, a read may find the database locked. */
function hasSeen(read: () => number, id: number): boolean {
  try {
    return read() >= id
  } catch {
    return false
  }
}

async function measureSnapshot({ directory, quick }: BenchContext): Promise<Row> {
  const transactions = (quick ? 100e6 : 400e6) / LARGE_BYTES
  const rounds = quick ? 1 : 3
  await using theirs = await LiteFsNode.start()
  {
    using mounted = openMounted(theirs)
    fillLarge(transactions, (sql, times) => {
      for (let i = 0; i < times; i++) mounted.database.exec(sql)
    })
    mounted.database.pragma('wal_checkpoint(TRUNCATE)')
  }
  const theirSeconds: number[] = []
  for (let round = 0; round < rounds; round++) {
    const startedMs = performance.now()
    await using replica = await LiteFsNode.replicaOf(theirs.url)
    const position = theirs.position(NAME)?.txid ?? 0n
    while ((replica.position(NAME)?.txid ?? 0n) < position) await turn()
    theirSeconds.push((performance.now() - startedMs) / 1000)
  }
  await using cluster = await openCluster({
    dataDir: path.join(directory, 'snapshot-primary'),
    lease: { kind: 'static', primary: true },
  })
  const primary = await cluster.database(NAME, { migrations: [{ name: '1', sql: CREATE }] })
  const statements: string[] = []
  fillLarge(transactions, (sql, times) => statements.push(...Array.from({ length: times }, () => sql)))
  for (const sql of statements) await primary.run(sql)
  const ourSeconds: number[] = []
  for (let round = 0; round < rounds; round++) {
    const startedMs = performance.now()
    await using replica = new ChildProgram('cluster-node.ts')
    await replica.ask<OpenedNode>('open', {
      name: 'replica',
      dataDir: path.join(directory, `snapshot-replica-${round}`),
      database: NAME,
      primary: cluster.addresses.http,
    })
    ourSeconds.push((performance.now() - startedMs) / 1000)
  }
  return row('litefs.snapshot', 's', median(ourSeconds), median(theirSeconds))
}

function fillLarge(transactions: number, run: (sql: string, times: number) => void): void {
  run(
    "INSERT INTO rows (body) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT 'x' FROM n",
    1,
  )
  run(LARGE, Math.ceil(transactions))
}

function openMounted(node: LiteFsNode): { readonly database: Database.Database; [Symbol.dispose](): void } {
  const database = new Database(path.join(node.mount, NAME))
  database.pragma('journal_mode = WAL')
  database.exec(CREATE)
  return { database, [Symbol.dispose]: () => void database.close() }
}
