/**
 * Size and pruning of one hidden table of the ledger. Its rows are ordered by `id`, 16 bytes that begin with a time, so old
 * rows are at the front and new ones are appended.
 *
 * Nobody keeps a row count in the database, because updating it would cost a page in every transaction. Instead the rows found
 * at start are counted in small steps while the table is already in use (the census); until it has reached the end, size is
 * a lower bound.
 *
 * Relies on: all rows are added and removed through this object, inside transactions that `begin`, `commit` and `rollback` frame.
 * Promises: after `rollback` everything is as it was at `begin`; a step touches `limit` rows at most.
 */
import type { Connection, PreparedStatement } from '../sqlite/connection.ts'

/** What a row costs beside its entry: id, cell and its share of interior pages. */
const ROW_BYTES = 48
/** Rows the census counts in one transaction, a fraction of a millisecond. */
const CENSUS_ROWS = 2_048

/** Sorts before every id. */
const FIRST_ID = Buffer.alloc(0)
/** Sorts after every id. */
const LAST_ID = Buffer.alloc(17, 0xff)

interface Size {
  readonly rows: number
  readonly bytes: number
  /** Rows up to this id are in `rows` and `bytes`. */
  readonly counted: Buffer
}

type Range = [rows: number, bytes: number, last: Buffer | null]

export class LedgerTable {
  readonly #range: PreparedStatement
  readonly #delete: PreparedStatement
  readonly #oldest: PreparedStatement
  #size: Size = { rows: 0, bytes: 0, counted: FIRST_ID }
  #before: Size | undefined

  /** The table must exist. */
  constructor(connection: Connection, table: string) {
    this.#range = connection
      .prepare(
        `SELECT count(*), ifnull(sum(length(entry)), 0), max(id)
         FROM (SELECT id, entry FROM ${table} WHERE id > ? AND id < ? ORDER BY id LIMIT ?)`,
      )
      .raw()
    this.#oldest = connection.prepare(`SELECT min(id) FROM ${table} WHERE id > x''`).pluck()
    this.#delete = connection.prepare(`DELETE FROM ${table} WHERE id > x'' AND id <= ?`)
  }

  get rows(): number {
    return this.#size.rows
  }

  get bytes(): number {
    return this.#size.bytes
  }

  /** When the oldest row was made, in ms since the Unix epoch; `undefined` without rows. */
  oldestMs(): number | undefined {
    const id = this.#oldest.get() as Buffer | null
    return id === null ? undefined : id.readUIntBE(0, 6)
  }

  begin(): void {
    this.#before = this.#size
    if (this.#size.counted !== LAST_ID) this.#count()
  }

  commit(): void {
    this.#before = undefined
  }

  rollback(): void {
    this.#size = this.#before ?? this.#size
    this.#before = undefined
  }

  /** A row was inserted. */
  added(id: Buffer, entryBytes: number): void {
    const { rows, bytes, counted } = this.#size
    // What lies before the census will be counted when it gets there.
    if (id.compare(counted) <= 0) this.#size = { rows: rows + 1, bytes: bytes + ROW_BYTES + entryBytes, counted }
  }

  /** Deletes up to `limit` of the oldest rows before `cutoff`. Answers how many, and the id of the last of them. */
  prune(cutoff: Buffer, limit: number): { readonly rows: number; readonly last: Buffer | undefined } {
    const { rows, bytes, counted } = this.#size
    const end = cutoff.compare(counted) < 0 ? cutoff : counted
    const [prunedRows, prunedBytes, last] = this.#range.get(FIRST_ID, end, limit) as Range
    if (last === null) return { rows: 0, last: undefined }
    this.#delete.run(last)
    this.#size = { rows: rows - prunedRows, bytes: bytes - prunedBytes - prunedRows * ROW_BYTES, counted }
    return { rows: prunedRows, last }
  }

  #count(): void {
    const { rows, bytes, counted } = this.#size
    const [moreRows, moreBytes, last] = this.#range.get(counted, LAST_ID, CENSUS_ROWS) as Range
    this.#size = {
      rows: rows + moreRows,
      bytes: bytes + moreBytes + moreRows * ROW_BYTES,
      counted: last === null || moreRows < CENSUS_ROWS ? LAST_ID : last,
    }
  }
}
