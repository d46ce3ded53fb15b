/**
 * Another process that reads: `node reader-child.ts <path> <pauseMs> [checkpoint mode,…]`.
 * It reads versions of the bank (bank.ts), and between them runs a checkpoint when modes are given, until its standard
 * input ends. Then it reads once more and prints what it saw as one line of JSON.
 */
import { isBusy } from '../../sqlite/sqlite-error.ts'
import { SqliteDatabase } from '../../sqlite/sqlite-library.ts'
import { inspectBank } from './bank.ts'

export interface ReaderReport {
  /** Read transactions. */
  readonly reads: number
  readonly firstVersion: number
  readonly lastVersion: number
  /** Versions that broke an invariant, went backwards, or errors; the first few. */
  readonly problems: readonly string[]
}

const [path = '', pause = '0', modes = ''] = process.argv.slice(2)
const pauseMs = Number(pause)
const checkpointModes = modes.split(',').filter((mode) => mode !== '')
const database = new SqliteDatabase(path, { timeout: 5000 })
database.pragma('wal_autocheckpoint = 0')
const sleeper = new Int32Array(new SharedArrayBuffer(4))
const problems: string[] = []
let reads = 0
let firstVersion = -1
let lastVersion = -1
let isStopping = false

function read(): void {
  const { version, problem } = inspectBank(database, () => {
    if (pauseMs > 0) Atomics.wait(sleeper, 0, 0, pauseMs)
  })
  if (problem !== undefined) problems.push(problem)
  if (version < lastVersion) problems.push(`version ${version} after ${lastVersion}`)
  if (reads === 0) firstVersion = version
  lastVersion = version
  reads++
}

function checkpoint(): void {
  const mode = checkpointModes[reads % checkpointModes.length]
  if (mode === undefined) return
  database.pragma('busy_timeout = 0')
  try {
    database.pragma(`wal_checkpoint(${mode})`)
  } catch (error) {
    if (!isBusy(error)) throw error
  } finally {
    database.pragma('busy_timeout = 5000')
  }
}

function turn(): void {
  const isLast = isStopping || problems.length > 5
  try {
    read()
    if (!isLast) checkpoint()
  } catch (error) {
    problems.push(String(error))
  }
  if (isLast) {
    const report: ReaderReport = { reads, firstVersion, lastVersion, problems }
    process.stdout.write(`${JSON.stringify(report)}\n`)
    database.close()
    process.stdin.destroy()
    return
  }
  if (reads === 1) process.stdout.write('reading\n')
  setImmediate(turn)
}

process.stdin.resume()
process.stdin.on('end', () => {
  isStopping = true
})
turn()
