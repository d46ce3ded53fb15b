/** Baseline of opening and of memory: a process with better-sqlite3 and nothing else. */
import Database from 'better-sqlite3'
import { serveParent } from '../child-program.ts'
import { itemUpdates } from '../items.ts'

let database: Database.Database | undefined

function opened(): Database.Database {
  if (database === undefined) throw new Error('open first')
  return database
}

function open({ path }: { path: string }): { tookMs: number } {
  const startedMs = performance.now()
  database = new Database(path)
  database.prepare('SELECT * FROM items LIMIT 1').get()
  return { tookMs: performance.now() - startedMs }
}

function writeAndRead({ writes, reads }: { writes: number; reads: number }): void {
  const update = opened().prepare('UPDATE items SET body = ? WHERE id = ?')
  const commit = opened().transaction(() => {
    for (const { id, body } of itemUpdates()) update.run(body, id)
  })
  for (let i = 0; i < writes; i++) commit()
  const get = opened().prepare('SELECT body FROM items WHERE id = ?')
  for (let i = 0; i < reads; i++) get.get(1 + (i % 1_000))
}

serveParent({ open, writeAndRead, rssMb: () => process.memoryUsage().rss / 2 ** 20 }, () => {
  database?.close()
})
