/**
 * Schema changes that run once, on the primary, in order of name; replicas wait until they have arrived.
 *
 * Each migration runs in one transaction together with its row in `_litefleet_migration` (name, hash of the text), so it is
 * applied entirely or not at all, and replicates like any write. A text that changed after it ran is an error: write a new one.
 */
import { createHash } from 'node:crypto'
import type { Clock } from '../base/clock.ts'
import type { EngineDatabase } from '../engine/engine.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { Disk } from '../files/disk.ts'
import { splitStatements } from '../request/split-statements.ts'
import type { SqlStatement } from '../request/write-request.ts'
import type { Database } from './database.ts'

export interface Migration {
  /** Decides the order. */
  readonly name: string
  /** One or more statements. */
  readonly sql: string
}

/** A directory of `*.sql` files, or the list itself. */
export type Migrations = string | readonly Migration[]

export interface MigrateParts {
  readonly database: Database
  readonly engine: EngineDatabase
  readonly disk: Disk
  readonly clock: Clock
  isPrimary(): boolean
  /** Calls back after each change of this node's role. Answers how to stop. */
  onRole(listener: () => void): () => void
  /** On the monotonic scale. */
  readonly deadlineMs: number
}

interface Applied {
  readonly name: string
  readonly hash: string
}

const TABLE = '_litefleet_migration'
const CREATE = `CREATE TABLE IF NOT EXISTS ${TABLE} (name TEXT PRIMARY KEY, hash TEXT NOT NULL, applied_at INTEGER NOT NULL) WITHOUT ROWID`
const RECORD = `INSERT INTO ${TABLE} (name, hash, applied_at) VALUES (?, ?, ?)`

/** @throws MIGRATION_FAILED on the primary, SCHEMA_NOT_READY on a replica */
export async function migrate(given: Migrations, parts: MigrateParts): Promise<void> {
  const wanted = (typeof given === 'string' ? readDirectory(given, parts.disk) : [...given]).toSorted((a, b) =>
    a.name < b.name ? -1 : 1,
  )
  for (let absent = firstMissing(wanted, parts); absent !== undefined; absent = firstMissing(wanted, parts)) {
    if (parts.isPrimary()) await run(absent, parts)
    else await nextChange(absent, parts)
  }
}

/** The schema as this node sees it now, which may be behind. */
function firstMissing(wanted: readonly Migration[], { database }: MigrateParts): Migration | undefined {
  const applied = appliedOf(database)
  return wanted.find(({ name, sql }) => !isApplied(applied, name, hashOf(sql), database.name))
}

function readDirectory(directory: string, disk: Disk): Migration[] {
  const names = disk.list('migrations.list', directory).filter((name) => name.endsWith('.sql'))
  if (names.length === 0) {
    throw new ClusterError('MIGRATION_FAILED', `no *.sql files in ${directory}`, {
      hint: 'Check the path; it is relative to the working directory.',
    })
  }
  return names.map((name) => ({
    name,
    sql: disk.readWhole('migrations.read', `${directory}/${name}`)?.toString('utf8') ?? '',
  }))
}

async function run({ name, sql }: Migration, parts: MigrateParts): Promise<void> {
  const { database, clock, deadlineMs } = parts
  const statements: SqlStatement[] = [
    { sql: CREATE },
    ...splitStatements(sql).map((text) => ({ sql: text })),
    { sql: RECORD, params: [name, hashOf(sql), Math.floor(clock.nowMs())] },
  ]
  try {
    await database.batch(statements, { timeoutMs: Math.max(1, Math.floor(deadlineMs - clock.monotonicMs())) })
  } catch (error) {
    // The office moved in the middle, and the next primary was asked for the same: once is enough.
    if (firstMissing([{ name, sql }], parts) === undefined) return
    throw new ClusterError('MIGRATION_FAILED', `database "${database.name}": migration "${name}" failed`, {
      cause: error,
      details: { migration: name, reason: error instanceof Error ? error.message : String(error) },
      hint: 'Nothing of it was applied. Correct its text and start again.',
    })
  }
}

/** On a replica: until something arrived, or this node has another role. */
async function nextChange(
  absent: Migration,
  { database, engine, clock, deadlineMs, onRole }: MigrateParts,
): Promise<void> {
  const role = Promise.withResolvers<void>()
  const stop = onRole(role.resolve)
  const advance = engine.tracker.nextAdvance(deadlineMs)
  advance.catch(() => undefined) // it may go on after the role has changed
  try {
    await Promise.race([advance, role.promise])
  } catch (error) {
    throw new ClusterError(
      'SCHEMA_NOT_READY',
      `database "${database.name}": migration "${absent.name}" has not arrived from the primary`,
      {
        cause: error,
        details: { migration: absent.name, waitedUntilMs: clock.monotonicMs() },
        hint: 'Deploy the primary first, or raise timeoutMs.',
      },
    )
  } finally {
    stop()
  }
}

function appliedOf(database: Database): readonly Applied[] {
  const exists = database.prepare('SELECT 1 FROM sqlite_schema WHERE name = ?').get(TABLE)
  return exists === undefined
    ? []
    : database.prepare<Applied & Record<string, unknown>>(`SELECT name, hash FROM ${TABLE}`).all()
}

function isApplied(applied: readonly Applied[], name: string, hash: string, database: string): boolean {
  const found = applied.find((row) => row.name === name)
  if (found === undefined) return false
  if (found.hash === hash) return true
  throw new ClusterError(
    'MIGRATION_FAILED',
    `database "${database}": the text of migration "${name}" changed after it ran`,
    {
      hint: 'Restore its text and put the change into a new migration.',
    },
  )
}

function hashOf(sql: string): string {
  return createHash('sha256').update(sql).digest('hex')
}
