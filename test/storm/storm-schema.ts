/**
 * What a storm writes: the book of ledger-book.ts, whose rules hold in every state, and rows that tell each write from all others.
 *
 * - `entry`: one row for each transaction of the bank, with the id of the write. There are as many as `version` says.
 * - `appended`: (stream, n), n = 1, 2, 3 … as one client appended them; with the id of the write.
 *
 * No column is unique, so that a write that takes effect twice shows.
 */
import type { SqlStatement } from '@litefleet/core'
import { BOOK_SCHEMA, nextVersion } from '../support/ledger-book.ts'
import type { Random } from '../support/random.ts'

export const DATABASE = 'storm.db'

export const STORM_SCHEMA: readonly SqlStatement[] = [
  ...BOOK_SCHEMA,
  { sql: 'CREATE TABLE entry (id INTEGER NOT NULL, client INTEGER NOT NULL)' },
  { sql: 'CREATE INDEX entry_id ON entry (id)' },
  { sql: 'CREATE TABLE appended (stream INTEGER NOT NULL, n INTEGER NOT NULL, id INTEGER NOT NULL)' },
  { sql: 'CREATE INDEX appended_stream ON appended (stream, n)' },
  { sql: 'CREATE INDEX appended_id ON appended (id)' },
]

const LARGE_BYTES = 150_000
const SMALL_BYTES = 3_000

export function bankTransaction(id: number, client: number, random: Random): readonly SqlStatement[] {
  const bytes = random.below(random.below(40) === 0 ? LARGE_BYTES : SMALL_BYTES)
  return [{ sql: 'INSERT INTO entry VALUES (?, ?)', params: [id, client] }, ...nextVersion(random, bytes)]
}

export function append(id: number, stream: number, n: number): readonly SqlStatement[] {
  return [{ sql: 'INSERT INTO appended VALUES (?, ?, ?)', params: [stream, n, id] }]
}

/** Ids of all writes that took effect, those twice that did so twice. */
export const ALL_IDS = 'SELECT id FROM entry UNION ALL SELECT id FROM appended'
/** Whether a write took effect. */
export const HAS_ID = 'SELECT (SELECT count(*) FROM entry WHERE id = ?) + (SELECT count(*) FROM appended WHERE id = ?)'
/** Of each stream, in a state without gaps and doubles: count = newest. */
export const STREAMS = 'SELECT stream, count(*), max(n) FROM appended GROUP BY stream'
/** Equal in every state. */
export const COUNTS = 'SELECT (SELECT value FROM version), (SELECT count(*) FROM entry)'
