/**
 * Another process that reads a node's file with plain better-sqlite3: `node storm-reader.ts <file>`, with an IPC channel.
 *
 * It reads without end, whether the node runs or not: the rules of the book twice in one read transaction, the streams, and that a newer
 * read never sees an older version. One connection for several reads, then a new one. What it finds it sends at once; `stop` ends it with a report.
 * While there is no file, or SQLite asks to try again, it tries again.
 */
import Database from 'better-sqlite3'
import { readBook } from '../support/ledger-book.ts'
import { COUNTS, STREAMS } from './storm-schema.ts'

export type ReaderNews =
  | { readonly kind: 'problem'; readonly text: string }
  /** Allowed as often as the node gave up its history. */
  | { readonly kind: 'back'; readonly from: number; readonly to: number }
  /** Allowed for a torn stream. */
  | { readonly kind: 'gap'; readonly stream: number; readonly count: number; readonly last: number }
  | { readonly kind: 'report'; readonly reads: number; readonly busy: number }

const NEW_CONNECTION_EVERY = 12
const PAUSE_MS = 40
const HELD_MS = 5
/** Every so often a transaction stays open for long. */
const LONG_EVERY = 50
const LONG_MS = 1_500
/** Nothing is wrong: the file is not there yet, or somebody recovers or replaces it. */
const TRANSIENT = /^(SQLITE_BUSY|SQLITE_CANTOPEN|SQLITE_LOCKED|SQLITE_SCHEMA|SQLITE_PROTOCOL)/

const file = process.argv[2] ?? ''
const sleeper = new Int32Array(new SharedArrayBuffer(4))
let connection: Database.Database | undefined
let lastVersion = -1
let reads = 0
let busy = 0

process.on('disconnect', () => process.exit(1))
process.on('message', () => process.send?.({ kind: 'report', reads, busy } satisfies ReaderNews, () => process.exit(0)))
turn()

function send(news: ReaderNews): void {
  process.send?.(news)
}

function turn(): void {
  try {
    connection ??= new Database(file, { readonly: true, fileMustExist: true, timeout: 2_000 })
    read(connection)
    reads++
    if (reads % NEW_CONNECTION_EVERY === 0) close()
  } catch (error) {
    const { code = '', message } = error as { code?: string; message?: string }
    close()
    if (TRANSIENT.test(code) || message === 'unable to open database file') busy++
    else send({ kind: 'problem', text: `${code} ${message}` })
  }
  setTimeout(turn, PAUSE_MS)
}

function close(): void {
  connection?.close()
  connection = undefined
}

function read(from: Database.Database): void {
  const pauseMs = reads % LONG_EVERY === LONG_EVERY - 1 ? LONG_MS : HELD_MS
  const { version, problems } = readBook(from, () => void Atomics.wait(sleeper, 0, 0, pauseMs))
  for (const text of problems) send({ kind: 'problem', text })
  if (version < lastVersion) send({ kind: 'back', from: lastVersion, to: version })
  lastVersion = version
  const [counted, entries] = from.prepare<[], [number, number]>(COUNTS).raw().get() as [number, number]
  if (counted !== entries) send({ kind: 'problem', text: `version ${counted} with ${entries} entries` })
  for (const [stream, count, last] of from.prepare(STREAMS).raw().all() as [number, number, number][]) {
    if (count > last) send({ kind: 'problem', text: `stream ${stream} has ${count} rows up to ${last}` })
    if (count < last) send({ kind: 'gap', stream, count, last })
  }
}
