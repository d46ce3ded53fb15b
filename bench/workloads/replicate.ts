/**
 * Replication between processes on loopback.
 *
 * `replicate.lag.p50`, `.p99`: 1,000 small transactions a second on the primary, two replicas; from the moment reads on the
 * primary see a transaction to the moment reads on a replica do. In ms, over both replicas. Against three programs that do
 * the same with files and sockets: append and fdatasync, send, append and fdatasync.
 * `replicate.apply`: a replica that was away catches up with small transactions: network, log, apply and checkpoints. MB of pages
 * per second, against SQLite itself committing such transactions (NORMAL, checkpoints included).
 * `replicate.reader`: point reads by another program on a replica's file while it applies 1,000 transactions a second, against
 * the same on a file that a plain SQLite program writes at that rate. Reads per second.
 */
import Database from 'better-sqlite3'
import path from 'node:path'
import { ChildProgram } from '../child-program.ts'
import { type Advance, lagsMs, percentile } from '../lag.ts'
import { CREATE_ITEMS, FILL_ITEMS, PAGES_PER_TRANSACTION } from '../items.ts'
import type { CatchUp, OpenedNode } from '../processes/cluster-node.ts'
import { type Row, row } from '../row.ts'
import { alternate, type BenchContext, type Workload } from '../workload.ts'

const DATABASE = 'bench.db'
const PER_SECOND = 1_000
const PAGE_BYTES = 4_096
const MIGRATIONS = [`${CREATE_ITEMS};${FILL_ITEMS}`]

interface Fleet {
  readonly context: BenchContext
  readonly primary: ChildProgram
  readonly primaryUrl: string
}

export const replicate: Workload = {
  name: 'replicate',
  async run(context) {
    await using primary = new ChildProgram('cluster-node.ts')
    const dataDir = path.join(context.directory, 'gru')
    const { http } = await primary.ask<OpenedNode>('open', {
      name: 'gru',
      dataDir,
      database: DATABASE,
      migrations: MIGRATIONS,
    })
    const fleet = { context, primary, primaryUrl: http }
    return [...(await measureLag(fleet)), await measureApply(fleet), await measureReader(fleet)]
  },
}

async function openReplica(fleet: Fleet, name: string): Promise<{ program: ChildProgram; opened: OpenedNode }> {
  const program = new ChildProgram('cluster-node.ts')
  const dataDir = path.join(fleet.context.directory, name)
  const opened = await program.ask<OpenedNode>('open', { name, dataDir, database: DATABASE, primary: fleet.primaryUrl })
  return { program, opened }
}

async function measureLag(fleet: Fleet): Promise<readonly Row[]> {
  const lhr = await openReplica(fleet, 'lhr')
  await using _lhr = lhr.program
  const nrt = await openReplica(fleet, 'nrt')
  await using _nrt = nrt.program
  const { primary, context } = fleet
  const replicas = [lhr.program, nrt.program]
  const sliceMs = context.quick ? 4_000 : 20_000
  // The first second warms the code up and is not measured.
  await primary.ask('writeAtRate', { perSecond: PER_SECOND, sliceMs: 1_000 })
  for (const node of [primary, ...replicas]) await node.ask('watchAdvances')
  await primary.ask('writeAtRate', { perSecond: PER_SECOND, sliceMs })
  const position = await primary.ask<string>('position')
  for (const replica of replicas) await replica.ask('waitFor', { position })
  const announced = await primary.ask<Advance[]>('takeAdvances')
  const shown = await Promise.all(replicas.map((replica) => replica.ask<Advance[]>('takeAdvances')))
  const lags = shown.flatMap((advances) => lagsMs(announced, advances))
  const plain = await measurePlainLag(context.directory, sliceMs)
  return [
    row('replicate.lag.p50', 'ms', percentile(lags, 50), percentile(plain, 50)),
    row('replicate.lag.p99', 'ms', percentile(lags, 99), percentile(plain, 99)),
  ]
}

/** The same three processes with nothing but files and sockets. */
async function measurePlainLag(directory: string, sliceMs: number): Promise<readonly number[]> {
  await using sender = new ChildProgram('plain-follower.ts')
  await using first = new ChildProgram('plain-follower.ts')
  await using second = new ChildProgram('plain-follower.ts')
  const followers = [first, second]
  const ports = await Promise.all(
    followers.map((follower, i) => follower.ask<number>('listen', { file: path.join(directory, `follower-${i}`) })),
  )
  await sender.ask('connect', { ports, file: path.join(directory, 'sender') })
  await sender.ask('send', { perSecond: PER_SECOND, sliceMs: 1_000 })
  for (const follower of followers) await follower.ask('takeLagsMs')
  await sender.ask('send', { perSecond: PER_SECOND, sliceMs })
  return (await Promise.all(followers.map((follower) => follower.ask<number[]>('takeLagsMs')))).flat()
}

async function measureApply(fleet: Fleet): Promise<Row> {
  const { context, primary } = fleet
  {
    const before = await openReplica(fleet, 'nrt')
    await before.program[Symbol.asyncDispose]()
  }
  await primary.ask('writeTransactions', { count: context.quick ? 10_000 : 50_000 })
  const replica = await openReplica(fleet, 'nrt')
  await using _replica = replica.program
  const position = await primary.ask<string>('position')
  const { transactions, tookMs } = await replica.program.ask<CatchUp>('catchUp', { position })
  const megabytes = (transactions * PAGES_PER_TRANSACTION * PAGE_BYTES) / 1e6

  await using plain = new ChildProgram('plain-sqlite.ts')
  await plain.ask('open', { path: createPlain(context.directory, 'plain-apply.db'), readonly: false })
  const plainRate = await plain.ask<number>('writeFast', { sliceMs: context.sliceMs })
  const plainMegabytes = (plainRate * PAGES_PER_TRANSACTION * PAGE_BYTES) / 1e6
  return row('replicate.apply', 'MB/s', megabytes / (tookMs / 1000), plainMegabytes)
}

async function measureReader(fleet: Fleet): Promise<Row> {
  const { context, primary } = fleet
  const { sliceMs } = context
  const replica = await openReplica(fleet, 'lhr')
  await using _replica = replica.program
  const plainPath = createPlain(context.directory, 'plain-reader.db')
  await using writer = new ChildProgram('plain-sqlite.ts')
  await writer.ask('open', { path: plainPath, readonly: false })
  await using reader = new ChildProgram('plain-sqlite.ts')
  await reader.ask('open', { path: replica.opened.path, readonly: true })
  await using plainReader = new ChildProgram('plain-sqlite.ts')
  await plainReader.ask('open', { path: plainPath, readonly: true })

  const load = { perSecond: PER_SECOND, sliceMs }
  const { value, baseline } = await alternate(
    context.rounds,
    async () => (await Promise.all([reader.ask<number>('read', { sliceMs }), primary.ask('writeAtRate', load)]))[0],
    async () => (await Promise.all([plainReader.ask<number>('read', { sliceMs }), writer.ask('write', load)]))[0],
  )
  return row('replicate.reader', 'reads/s', value, baseline)
}

/** The items table in a plain SQLite file of its own. */
function createPlain(directory: string, name: string): string {
  const file = path.join(directory, name)
  const database = new Database(file)
  database.pragma('journal_mode = WAL')
  database.exec(`${CREATE_ITEMS};${FILL_ITEMS}`)
  database.close()
  return file
}
