/** A plain SQLite file of a given size, and a primary that took it over. */
import Database from 'better-sqlite3'
import { mkdirSync, statSync } from 'node:fs'
import { open } from 'node:fs/promises'
import path from 'node:path'
import { CREATE_ITEMS } from './items.ts'

export const BIG_DATABASE = 'big.db'
const ROW_BYTES = 3_500
const COPY_CHUNK_BYTES = 4 * 2 ** 20

/** Makes a WAL database of about `bytes`, filled with text that is half as random as it is long. Answers its size. */
export function createBigDatabase(file: string, bytes: number): number {
  const database = new Database(file)
  database.pragma('synchronous = OFF')
  database.exec(CREATE_ITEMS)
  const rows = Math.ceil(bytes / 4_096)
  const insert = database.prepare(`
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
    INSERT INTO items (body) SELECT hex(randomblob(${ROW_BYTES / 2})) FROM n`)
  for (let done = 0; done < rows; done += 50_000) insert.run(Math.min(50_000, rows - done))
  database.pragma('journal_mode = WAL')
  database.close()
  return statSync(file).size
}

/** Copies durably to where a node looks for the database, and answers MB per second: what the disk does at best. */
export async function adopt(file: string, dataDir: string): Promise<number> {
  const directory = path.join(dataDir, 'main/dbs', BIG_DATABASE)
  mkdirSync(directory, { recursive: true })
  return copyDurably(file, path.join(directory, 'database'))
}

export async function copyDurably(from: string, to: string): Promise<number> {
  const startedMs = performance.now()
  const source = await open(from, 'r')
  const target = await open(to, 'w')
  const chunk = Buffer.alloc(COPY_CHUNK_BYTES)
  let bytes = 0
  try {
    for (;;) {
      const { bytesRead } = await source.read(chunk, 0, chunk.length, bytes)
      if (bytesRead === 0) break
      await target.write(chunk, 0, bytesRead, bytes)
      bytes += bytesRead
    }
    await target.datasync()
  } finally {
    await source.close()
    await target.close()
  }
  return bytes / 1e6 / ((performance.now() - startedMs) / 1000)
}
