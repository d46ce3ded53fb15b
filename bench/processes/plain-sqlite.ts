/** Baseline of replication: SQLite as everybody uses it, without us. Writes at a rate, or reads as another program would. */
import Database from 'better-sqlite3'
import { serveParent } from '../child-program.ts'
import { atRate } from '../open-loop.ts'
import { ITEMS, itemUpdates } from '../items.ts'
import { ratePerSecond } from '../workload.ts'

let database: Database.Database | undefined

function opened(): Database.Database {
  if (database === undefined) throw new Error('open first')
  return database
}

function open({ path, readonly }: { path: string; readonly: boolean }): void {
  database = new Database(path, { readonly })
  if (!readonly) database.pragma('synchronous = NORMAL')
}

/** Small transactions, open loop. Answers how many were committed. */
function write({ perSecond, sliceMs }: { perSecond: number; sliceMs: number }): Promise<number> {
  const commit = transaction()
  return atRate(perSecond, sliceMs, commit)
}

/** Small transactions, as fast as they go. Answers transactions per second. */
function writeFast({ sliceMs }: { sliceMs: number }): number {
  return ratePerSecond(sliceMs, transaction())
}

function transaction(): () => void {
  const update = opened().prepare('UPDATE items SET body = ? WHERE id = ?')
  return opened().transaction(() => {
    for (const { id, body } of itemUpdates()) update.run(body, id)
  })
}

/** Random point reads, each in a transaction of its own. Answers reads per second. */
function read({ sliceMs }: { sliceMs: number }): number {
  const get = opened().prepare('SELECT body FROM items WHERE id = ?').pluck()
  return ratePerSecond(sliceMs, () => get.get(1 + Math.floor(Math.random() * ITEMS)))
}

serveParent({ open, write, writeFast, read }, () => {
  database?.close()
})
