/**
 * Other processes write to the primary's database through SQLite of their own. Real: the processes, the files, the locks.
 * Nothing may be lost: every commit of theirs is in a record, whatever they and we checkpoint in between.
 */
import { execFileSync, spawn } from 'node:child_process'
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { CapturedDatabase } from './test-support/captured-database.ts'

const CORE = fileURLToPath(new URL('../../', import.meta.url))

let directory = ''
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-foreign-'))
})
afterEach(() => fs.rmSync(directory, { recursive: true, force: true }))

test('commits of the sqlite3 shell between and around ours are captured in order', () => {
  const database = CapturedDatabase.open(directory)
  const shell = (sql: string): string => execFileSync('sqlite3', [database.file, sql], { encoding: 'utf8' })
  database.writer.exec('CREATE TABLE t(id INTEGER PRIMARY KEY, a)')
  for (let round = 0; round < 4; round++) {
    shell('INSERT INTO t(a) VALUES (zeroblob(9000)); UPDATE t SET a = 1 WHERE id % 2')
    database.writer.exec('INSERT INTO t(a) VALUES (2)')
    shell('CREATE INDEX IF NOT EXISTS t_a ON t(a); PRAGMA wal_checkpoint(TRUNCATE); INSERT INTO t(a) VALUES (3)')
    const before = database.capture.position.txid
    database.take(true)
    expect(database.capture.position.txid).toBeGreaterThan(before)
    database.expectSame()
    if (round === 2) database.checkpoint()
  }
  shell('DELETE FROM t; VACUUM')
  database.expectSame()
  expect(database.writer.pragma('integrity_check', { simple: true })).toBe('ok')
  database.close()
})

test('two hammering writers and a hammering checkpointer: the WAL is restarted again and again and no frame is lost', async () => {
  const database = CapturedDatabase.open(directory, { checkpoint: { thresholdFrames: 200, hardLimitFrames: 400 } })
  database.writer.exec('CREATE TABLE t(id INTEGER PRIMARY KEY, a, b); CREATE INDEX t_a ON t(a)')
  database.take()
  const writers = [otherProcess(WRITER, database.file, 3), otherProcess(WRITER, database.file, 1000)]
  const checkpointer = otherProcess(CHECKPOINTER, database.file)
  const generations = new Set<number>()
  let compared = 0
  for (let turn = 0; turn < 3000 && (generations.size < 5 || compared < 5); turn++) {
    await new Promise((resolve) => setTimeout(resolve, turn % 7))
    for (const record of database.take()) generations.add(record.header.walSalt1)
    if (database.checkpointer.pressure !== 'none') database.checkpoint()
    if (turn % 10 === 9) {
      database.expectSame()
      compared++
    }
  }
  for (const other of [...writers, checkpointer]) other.stop()
  await checkpointer.output
  const outputs = await Promise.all(writers.map((writer) => writer.output))
  database.expectSame()
  expect(generations.size).toBeGreaterThanOrEqual(5)
  // All of theirs, and TXID 1 of ours. Statements that changed nothing made no commit.
  expect(database.records.length).toBe(1 + Number(outputs[0]) + Number(outputs[1]))
  database.close()
})

/** Writes until its input ends; prints how many statements changed something: each of these is a commit. */
const WRITER = `
  import Database from 'better-sqlite3'
  const [file, autocheckpoint] = process.argv.slice(1)
  const db = new Database(file, { timeout: 20000 })
  db.pragma('wal_autocheckpoint = ' + autocheckpoint)
  db.pragma('synchronous = OFF')
  const insert = db.prepare('INSERT INTO t(a, b) VALUES (?, zeroblob(?))')
  // Random, because SQLite writes no page, and makes no commit, for a value that is there already.
  const update = db.prepare('UPDATE t SET b = randomblob(16 + ?) WHERE id BETWEEN ? AND ? + 20')
  const remove = db.prepare('DELETE FROM t WHERE id % ? = 1')
  const below = (n) => Math.floor(Math.random() * n)
  let commits = 0
  let running = true
  process.stdin.on('end', () => (running = false)).resume()
  for (let i = 1; running; i++) {
    // Lets the end of the input be seen, and a busy machine go on.
    if (i % 40 === 0) await new Promise((resolve) => setTimeout(resolve, 1))
    const kind = below(20)
    const id = below(400)
    const { changes } =
      kind < 15 ? insert.run('x', below(2500)) : kind < 18 ? update.run(below(900), id, id) : remove.run(2 + below(8))
    if (changes > 0) commits++
  }
  db.close()
  console.log(commits)
`

/** Checkpoints in every way there is, until its input ends. */
const CHECKPOINTER = `
  import Database from 'better-sqlite3'
  const db = new Database(process.argv[1], { timeout: 0 })
  let running = true
  process.stdin.on('end', () => (running = false)).resume()
  while (running) {
    try {
      db.pragma('wal_checkpoint(' + ['PASSIVE', 'FULL', 'RESTART', 'TRUNCATE'][Math.floor(Math.random() * 4)] + ')')
    } catch (error) {
      if (!String(error.code).startsWith('SQLITE_')) throw error
    }
    await new Promise((resolve) => setTimeout(resolve, Math.random() * 10))
  }
  db.close()
`

function otherProcess(source: string, ...args: (string | number)[]): { output: Promise<string>; stop(): void } {
  const child = spawn(process.execPath, ['--input-type=module', '-e', source, ...args.map(String)], {
    cwd: CORE,
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  let text = ''
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString()
  })
  const output = new Promise<string>((resolve, reject) => {
    child.on('error', reject)
    child.on('exit', (code) => (code === 0 ? resolve(text) : reject(new Error(`exit code ${code}`))))
  })
  return { output, stop: () => void child.stdin.end() }
}
