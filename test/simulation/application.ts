/** The database of the simulated application, and how its states are read. */
import Database from 'better-sqlite3'
import type { PlainValue } from '../../packages/core/src/request/plain-value.ts'
import type { Transaction } from '../../packages/core/src/write/transaction.ts'
import type { SqliteImage } from './sqlite-image.ts'

export const ACCOUNTS = 8
export const CENTS_EACH = 1_000

/** Nothing here keeps an operation from being there twice: the oracles look for that. */
export const SCHEMA = `
  CREATE TABLE op (place INTEGER PRIMARY KEY, id TEXT NOT NULL);
  CREATE INDEX op_by_id ON op (id);
  CREATE TABLE account (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL);
  CREATE TABLE blob (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
  CREATE TABLE foreign_note (id INTEGER PRIMARY KEY);
  WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${ACCOUNTS})
  INSERT INTO account SELECT i, ${CENTS_EACH} FROM n;
`

/** What a reader of one state sees. */
export class State {
  /** Id of the operation → the places where it is, in the order of the history. */
  readonly places: ReadonlyMap<string, readonly number[]>
  readonly cents: number
  /** Request ids, in hex, that the ledger declared not applied. */
  readonly sealed: readonly string[]
  readonly integrity: string

  constructor(image: SqliteImage, checksIntegrity: boolean) {
    const database = new Database(image.toBuffer(), { readonly: true })
    try {
      const places = new Map<string, number[]>()
      for (const [place, id] of database.prepare('SELECT place, id FROM op ORDER BY place').raw().all() as [
        number,
        string,
      ][]) {
        const known = places.get(id)
        if (known === undefined) places.set(id, [place])
        else known.push(place)
      }
      this.places = places
      this.cents = database.prepare('SELECT sum(cents) FROM account').pluck().get() as number
      const hasLedger = database.prepare(`SELECT 1 FROM sqlite_schema WHERE name = '_litefleet_request'`).get()
      this.sealed =
        hasLedger === undefined
          ? []
          : (database
              .prepare('SELECT lower(hex(id)) FROM _litefleet_request WHERE length(id) = 16 AND length(entry) = 0')
              .pluck()
              .all() as string[])
      this.integrity = checksIntegrity ? (database.pragma('integrity_check', { simple: true }) as string) : 'ok'
    } finally {
      database.close()
    }
  }

  has(id: string): boolean {
    return this.places.has(id)
  }
}

/** The procedure `transfer`, registered on every node. */
export function transfer(tx: Transaction, input: PlainValue): PlainValue {
  const { id, from, to, cents } = input as { id: string; from: number; to: number; cents: number }
  tx.run('INSERT INTO op (id) VALUES (?)', [id])
  tx.run('UPDATE account SET cents = cents - ? WHERE id = ?', [cents, from])
  tx.run('UPDATE account SET cents = cents + ? WHERE id = ?', [cents, to])
  return { id, text: 'x'.repeat(cents * 4) }
}
