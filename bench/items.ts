/** The table most workloads use: rows of about a quarter of a page, updated three at a time, so that a transaction has three pages. */

export const ITEMS = 20_000
const BODY_BYTES = 900
export const PAGES_PER_TRANSACTION = 3

export const CREATE_ITEMS = 'CREATE TABLE items (id INTEGER PRIMARY KEY, body TEXT NOT NULL)'

/** Fills the table in one statement. The text is half as random as it is long. */
export const FILL_ITEMS = `
  WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < ${ITEMS})
  INSERT INTO items SELECT id, hex(randomblob(${BODY_BYTES / 2})) FROM n`

export interface ItemUpdate {
  readonly id: number
  readonly body: string
}

let version = 0

export function itemUpdates(): readonly ItemUpdate[] {
  // As long as the row is: it stays on its page.
  const body = String(version++).padStart(BODY_BYTES, '.')
  return Array.from({ length: PAGES_PER_TRANSACTION }, () => ({ id: 1 + Math.floor(Math.random() * ITEMS), body }))
}
