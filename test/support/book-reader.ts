/**
 * Another process that reads a book (ledger-book.ts) with plain better-sqlite3: `node book-reader.ts <file> <pauseMs>`, with an IPC channel.
 *
 * It reads without end: transactions with a pause inside, one connection for all or, every 16th time, a new one. `read` answers what
 * a read that begins after the question saw; `hold` sits in one read transaction until `release`; `stop` ends the process with a report.
 */
import Database from 'better-sqlite3'
import { readBook } from './ledger-book.ts'

export type ReaderQuestion = { readonly id: number; readonly kind: 'read' | 'hold' | 'release' | 'stop' }

export interface ReaderReport {
  readonly reads: number
  readonly firstVersion: number
  readonly lastVersion: number
  /** The first few. */
  readonly problems: readonly string[]
}

export type ReaderAnswer = { readonly id: number; readonly version: number; readonly report: ReaderReport }

const NEW_CONNECTION_EVERY = 16
const PROBLEMS_MAX = 10

const file = process.argv[2] ?? ''
const pauseMs = Number(process.argv[3])
const sleeper = new Int32Array(new SharedArrayBuffer(4))
const problems: string[] = []
let connection = open()
let holding: Database.Database | undefined
let heldVersion = -1
let reads = 0
let firstVersion = -1
let lastVersion = -1

process.on('disconnect', () => process.exit(1))
process.on('message', ({ id, kind }: ReaderQuestion) => {
  if (kind === 'hold') hold()
  if (kind === 'release') release()
  const version = kind === 'hold' ? heldVersion : read()
  const report: ReaderReport = { reads, firstVersion, lastVersion, problems: problems.slice(0, PROBLEMS_MAX) }
  process.send?.({ id, version, report } satisfies ReaderAnswer, () => {
    if (kind === 'stop') process.exit(0)
  })
})
turn()

function open(): Database.Database {
  return new Database(file, { readonly: true, fileMustExist: true, timeout: 5_000 })
}

function turn(): void {
  if (holding === undefined) read()
  setTimeout(turn, pauseMs)
}

function read(): number {
  try {
    const { version, problems: found } = readBook(connection, () => {
      if (pauseMs > 0) Atomics.wait(sleeper, 0, 0, pauseMs)
    })
    problems.push(...found)
    if (version < lastVersion) problems.push(`version ${version} after ${lastVersion}`)
    if (reads === 0) firstVersion = version
    lastVersion = version
    reads++
    if (reads % NEW_CONNECTION_EVERY === 0) {
      connection.close()
      connection = open()
    }
    return version
  } catch (error) {
    problems.push(String(error))
    return -1
  }
}

function hold(): void {
  holding = open()
  holding.exec('BEGIN')
  heldVersion = versionOf(holding)
}

function release(): void {
  if (holding === undefined) return
  const version = versionOf(holding)
  if (version !== heldVersion) problems.push(`a snapshot of version ${heldVersion} became ${version}`)
  holding.exec('COMMIT')
  holding.close()
  holding = undefined
}

function versionOf(held: Database.Database): number {
  const version = Number(held.prepare('SELECT value FROM version').pluck().get())
  const newest = Number(held.prepare('SELECT max(version) FROM filler').pluck().get())
  if (newest !== version) problems.push(`held: newest filler ${newest} at version ${version}`)
  return version
}
