/**
 * The answer of a write as bytes: what the request ledger stores, so that a repeated request gets its first answer, deeply
 * equal to it.
 *
 *   byte      1 = batch, 2 = procedure
 *   batch     varint count of results, each:
 *               varint changes, value lastInsertRowid, byte rows: 0 = none, 1 = follow, 2 = follow as an array of objects
 *               1: varint columns, their names; varint rows; values row by row
 *   procedure value
 */
import { ClusterError } from '../errors/cluster-error.ts'
import { PlainReader, setOwn } from './plain-reader.ts'
import type { PlainValue } from './plain-value.ts'
import { isPlainObject, type PlainWriter } from './plain-writer.ts'
import type { SqlRow, SqlValue } from './sql-value.ts'
import type { StatementResult, WriteResult } from './write-request.ts'

const BATCH = 1
const PROCEDURE = 2
const ROWS = { none: 0, table: 1, objects: 2 } as const

/** Writes an answer. Throws `INVALID_REQUEST` for what cannot be written, and what the writer throws. */
export function writeAnswer(writer: PlainWriter, result: WriteResult): void {
  if (result.kind === 'batch') return writeBatch(writer, result.results)
  writer.byte(PROCEDURE)
  writer.value(result.value)
}

/** Throws `CORRUPT_DATA`. */
export function decodeAnswer(bytes: Uint8Array): WriteResult {
  const reader = new PlainReader(bytes)
  const result = readAnswer(reader)
  if (!reader.isAtEnd) throw damaged()
  return result
}

function writeBatch(writer: PlainWriter, results: readonly StatementResult[]): void {
  writer.byte(BATCH)
  writer.varint(results.length)
  for (const result of results) {
    writer.varint(result.changes)
    writer.value(result.lastInsertRowid)
    writeRows(writer, result.rows)
  }
}

function writeRows(writer: PlainWriter, rows: StatementResult['rows']): void {
  const first = rows?.[0]
  if (rows === undefined) return writer.byte(ROWS.none)
  const columns = first === undefined ? [] : Object.keys(first)
  // Rows of one statement have the same columns; anything else is a value like any other.
  if ((columns.length === 0 && rows.length > 0) || !rows.every((row) => hasColumns(row, columns))) {
    writer.byte(ROWS.objects)
    return writer.value(rows)
  }
  writer.byte(ROWS.table)
  writer.varint(columns.length)
  for (const column of columns) writer.string(column)
  writer.varint(rows.length)
  for (const row of rows) for (const column of columns) writer.value(row[column])
}

function hasColumns(row: Readonly<Record<string, SqlValue>>, columns: readonly string[]): boolean {
  let index = 0
  for (const key in row) if (key !== columns[index++]) return false
  return index === columns.length
}

function readAnswer(reader: PlainReader): WriteResult {
  const kind = reader.byte()
  if (kind === PROCEDURE) return { kind: 'procedure', value: reader.value() }
  if (kind !== BATCH) throw damaged()
  const results: StatementResult[] = []
  for (let left = reader.count(); left > 0; left--) results.push(readResult(reader))
  return { kind: 'batch', results }
}

function readResult(reader: PlainReader): StatementResult {
  const changes = reader.varint()
  const lastInsertRowid = reader.value()
  if (typeof lastInsertRowid !== 'number' && typeof lastInsertRowid !== 'bigint') throw damaged()
  const rows = readRows(reader)
  return rows === undefined ? { changes, lastInsertRowid } : { changes, lastInsertRowid, rows }
}

function readRows(reader: PlainReader): SqlRow[] | undefined {
  const form = reader.byte()
  if (form === ROWS.none) return undefined
  if (form === ROWS.objects) return readObjects(reader)
  if (form !== ROWS.table) throw damaged()
  const columns: string[] = []
  for (let left = reader.count(); left > 0; left--) columns.push(reader.string())
  const rows: SqlRow[] = []
  const count = reader.count()
  // Rows without columns are written as objects. Here they would take no byte, and so cost memory without end.
  if (columns.length === 0 && count > 0) throw damaged()
  for (let left = count; left > 0; left--) {
    const row: SqlRow = {}
    for (const column of columns) setOwn(row, column, reader.value() as SqlValue)
    rows.push(row)
  }
  return rows
}

function readObjects(reader: PlainReader): SqlRow[] {
  const rows = reader.value()
  if (!Array.isArray(rows) || !rows.every(isRow)) throw damaged()
  return rows
}

function isRow(value: PlainValue): value is SqlRow {
  return typeof value === 'object' && value !== null && isPlainObject(value)
}

function damaged(): ClusterError {
  return new ClusterError('CORRUPT_DATA', 'a stored answer is damaged')
}
