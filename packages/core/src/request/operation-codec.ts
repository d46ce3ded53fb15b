/**
 * What a write asks for, in the compact form of `plain-writer.ts`:
 *
 *   byte 1 = batch: varint statements, each: string sql, byte safeIntegers, value params
 *   byte 2 = procedure: string name, value input
 *
 * Canonical form, for fingerprints: no parameters are `undefined`, also when they were given as an empty array or object, which
 * not every way tells apart.
 */
import { ClusterError } from '../errors/cluster-error.ts'
import type { PlainReader } from './plain-reader.ts'
import type { PlainWriter } from './plain-writer.ts'
import type { SqlParams } from './sql-value.ts'
import type { SqlStatement, WriteOperation } from './write-request.ts'

const BATCH = 1
const PROCEDURE = 2

/** @throws INVALID_REQUEST for values that cannot be written */
export function writeOperation(writer: PlainWriter, operation: WriteOperation): void {
  if (operation.kind === 'procedure') {
    writer.byte(PROCEDURE)
    writer.string(operation.name)
    writer.value(operation.input)
    return
  }
  writer.byte(BATCH)
  writer.varint(operation.statements.length)
  for (const { sql, params, safeIntegers } of operation.statements) {
    writer.string(sql)
    writer.byte(safeIntegers === true ? 1 : 0)
    writer.value(writer.isCanonical && isEmpty(params) ? undefined : params)
  }
}

/** @throws CORRUPT_DATA */
export function readOperation(reader: PlainReader): WriteOperation {
  const kind = reader.byte()
  if (kind === PROCEDURE) return { kind: 'procedure', name: reader.string(), input: reader.value() }
  if (kind !== BATCH) throw new ClusterError('CORRUPT_DATA', 'an encoded write is damaged')
  const statements: SqlStatement[] = []
  for (let left = reader.count(); left > 0; left--) {
    const sql = reader.string()
    const safeIntegers = reader.byte() === 1
    // What cannot be bound is better-sqlite3's to refuse, as it would be without a network.
    const params = reader.value() as SqlParams | undefined
    statements.push({ sql, params, safeIntegers })
  }
  return { kind: 'batch', statements }
}

function isEmpty(params: SqlParams | undefined): boolean {
  if (params === undefined) return false
  return Array.isArray(params) ? params.length === 0 : Object.keys(params).length === 0
}
