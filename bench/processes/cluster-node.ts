/** One node of a Litefleet cluster, told what to do by the bench. */
import {
  type Cluster,
  type ClusterOptions,
  type Database,
  formatPosition,
  openCluster,
  parsePosition,
} from '@litefleet/core'
import { serveParent } from '../child-program.ts'
import { type Advance, machineMs } from '../lag.ts'
import { itemUpdates } from '../items.ts'
import { atRate } from '../open-loop.ts'
import { rateInFlight } from '../workload.ts'

export interface OpenNode {
  readonly name: string
  readonly dataDir: string
  readonly database: string
  /** URL of the primary; left out on the primary, and with an election. */
  readonly primary?: string
  /** Of an election. */
  readonly lease?: ClusterOptions['lease']
  readonly voters?: readonly string[]
  /** Run in order by the primary, once. */
  readonly migrations?: readonly string[]
}

export interface OpenedNode {
  readonly http: string
  readonly path: string
  /** From `openCluster` until the database can be read, in ms. */
  readonly tookMs: number
}

let cluster: Cluster | undefined
let database: Database | undefined
let stopWatching: (() => void) | undefined
let advances: Advance[] = []

function db(): Database {
  if (database === undefined) throw new Error('open first')
  return database
}

async function open({
  name,
  dataDir,
  database: databaseName,
  primary,
  lease,
  voters,
  migrations,
}: OpenNode): Promise<OpenedNode> {
  const startedMs = performance.now()
  cluster = await openCluster({
    dataDir,
    node: { name, region: name },
    lease: lease ?? { kind: 'static', primary: primary === undefined ? true : { url: primary } },
    ...(voters === undefined ? {} : { voters }),
    // A replica that was away must find its records still there.
    log: { retentionMs: 3_600_000, retentionBytes: 8 * 2 ** 30 },
  })
  database = await cluster.database(databaseName, {
    ...(migrations === undefined
      ? {}
      : { migrations: migrations.map((sql, index) => ({ name: `${index}`.padStart(3, '0'), sql })) }),
    timeoutMs: 600_000,
  })
  return { http: cluster.addresses.http, path: database.path, tookMs: performance.now() - startedMs }
}

/** Inserts with `callers` in flight, answered when durable on the primary. Answers writes per second. */
function insertInFlight({ callers, sliceMs }: { callers: number; sliceMs: number }): Promise<number> {
  const options = { await: 'none', timeoutMs: 30_000 } as const
  return rateInFlight(callers, sliceMs, () => db().run('INSERT INTO rows (body) VALUES (?)', ['a small row'], options))
}

/** One write at `majority`, which waits for whoever is the primary. Answers when it was answered, on the machine's monotonic clock in ms. */
async function insertOnce(): Promise<number> {
  await db().run('INSERT INTO rows (body) VALUES (?)', ['a small row'], { await: 'majority', timeoutMs: 60_000 })
  return machineMs()
}

export interface InsertedRow {
  readonly id: number
  /** When it was answered, on the machine's monotonic clock in ms. */
  readonly answeredMs: number
}

/** One write, answered when durable on the primary. */
async function insertRow(): Promise<InsertedRow> {
  const { lastInsertRowid } = await db().run('INSERT INTO rows (body) VALUES (?)', ['a small row'], { await: 'none' })
  return { id: Number(lastInsertRowid), answeredMs: machineMs() }
}

export interface Calls {
  /** The longest time in which no call was answered, in ms. */
  readonly pauseMs: number
  readonly failed: number
  readonly answered: number
}

let calling: { readonly over: AbortController; readonly ended: Promise<Calls> } | undefined

/** From now on so many callers write, each waiting for its answer, until `stopCalls`. */
function startCalls({ callers }: { callers: number }): void {
  const over = new AbortController()
  let [pauseMs, failed, answered, lastMs] = [0, 0, 0, performance.now()]
  const one = async (): Promise<void> => {
    while (!over.signal.aborted) {
      try {
        await db().run('INSERT INTO rows (body) VALUES (?)', ['a small row'], { await: 'none', timeoutMs: 30_000 })
        answered++
      } catch {
        failed++
      }
      const nowMs = performance.now()
      pauseMs = Math.max(pauseMs, nowMs - lastMs)
      lastMs = nowMs
    }
  }
  const all = Promise.all(Array.from({ length: callers }, one))
  calling = { over, ended: all.then(() => ({ pauseMs, failed, answered })) }
}

function stopCalls(): Promise<Calls> {
  calling?.over.abort()
  return calling?.ended ?? Promise.reject(new Error('start first'))
}

/** Small transactions one after another, `count` of them. */
async function writeTransactions({ count }: { count: number }): Promise<void> {
  for (let i = 0; i < count; i++) await writeTransaction()
}

function writeTransaction(): Promise<unknown> {
  const statements = itemUpdates().map(({ id, body }) => ({
    sql: 'UPDATE items SET body = ? WHERE id = ?',
    params: [body, id],
  }))
  return db().batch(statements, { timeoutMs: 30_000 })
}

function writeAtRate({ perSecond, sliceMs }: { perSecond: number; sliceMs: number }): Promise<number> {
  return atRate(perSecond, sliceMs, writeTransaction)
}

/** From now on, notes when a read on this node sees which TXID. */
function watchAdvances(): void {
  stopWatching?.()
  advances = []
  stopWatching = db().onAdvance(({ txid }) => void advances.push([Number(txid), machineMs()]))
}

export interface CatchUp {
  /** Transactions seen after the first step. */
  readonly transactions: number
  /** From the first step to the last, in ms. */
  readonly tookMs: number
}

/** Measures how this replica arrives at `position`. */
async function catchUp({ position }: { position: string }): Promise<CatchUp> {
  const target = parsePosition(position)
  if (target === undefined) throw new Error(`not a position: ${position}`)
  let first: { readonly atMs: number; readonly txid: bigint } | undefined
  const stop = db().onAdvance(({ txid }) => {
    first ??= { atMs: performance.now(), txid }
  })
  await db().waitFor(target, { timeoutMs: 600_000 })
  stop()
  if (first === undefined) throw new Error('the replica was not behind')
  return { transactions: Number(target.txid - first.txid), tookMs: performance.now() - first.atMs }
}

async function waitFor({ position }: { position: string }): Promise<void> {
  const target = parsePosition(position)
  if (target === undefined) throw new Error(`not a position: ${position}`)
  await db().waitFor(target, { timeoutMs: 60_000 })
}

async function close(): Promise<void> {
  stopWatching?.()
  await cluster?.close()
  cluster = database = undefined
}

serveParent(
  {
    open,
    close,
    insertInFlight,
    insertOnce,
    insertRow,
    startCalls,
    stopCalls,
    isPrimary: () => cluster?.role.kind === 'primary',
    handOff: ({ to }: { to: string }) => cluster?.handOff(to, { timeoutMs: 30_000 }),
    writeTransactions,
    writeAtRate,
    watchAdvances,
    takeAdvances: () => advances,
    catchUp,
    waitFor,
    position: () => formatPosition(db().position),
    rssMb: () => process.memoryUsage().rss / 2 ** 20,
    readRows: ({ count }: { count: number }) => {
      const get = db().prepare('SELECT body FROM items WHERE id = ?')
      for (let i = 0; i < count; i++) get.get(1 + (i % 1_000))
    },
  },
  close,
)
