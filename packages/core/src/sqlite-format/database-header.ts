/**
 * The first 100 bytes of a SQLite database file (SQLite "Database File Format", section 1.3). All integers are big-endian.
 *
 *   0  16  "SQLite format 3\0"
 *  16   2  page size: a power of two from 512 to 32768, or 1 for 65536
 *  18   1  write version, 19  1  read version: 1 rollback journal, 2 WAL
 *  24   4  change counter (not counted up by commits in WAL mode)
 *  28   4  size in pages; true only when the change counter equals "version valid for"
 *  40   4  schema cookie
 *  92   4  "version valid for": the change counter when the size was written
 *
 * Promises: a header that parses has the magic and a page size SQLite accepts; nothing more is checked.
 */
import { ClusterError } from '../errors/cluster-error.ts'

export const DATABASE_HEADER_BYTES = 100

const MAGIC = Buffer.from('SQLite format 3\0', 'latin1')

export interface DatabaseHeader {
  /** In bytes: 512 … 65536. */
  readonly pageSize: number
  readonly writeVersion: number
  readonly readVersion: number
  readonly changeCounter: number
  /** Size of the database in pages as recorded; see `versionValidFor`. */
  readonly pageCount: number
  readonly schemaCookie: number
  /** Value of the change counter for which `pageCount` is true. */
  readonly versionValidFor: number
}

/**
 * Reads the header of a database.
 * @param bytes the beginning of the file or of page 1, at least 100 bytes
 * @param what names the file in the message, e.g. `database "app.db"`
 * @throws ClusterError `NOT_A_DATABASE`
 */
export function parseDatabaseHeader(bytes: Uint8Array, what: string): DatabaseHeader {
  if (bytes.length < DATABASE_HEADER_BYTES)
    throw notADatabase(what, `it has ${bytes.length} bytes, fewer than a header of ${DATABASE_HEADER_BYTES}`)
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, DATABASE_HEADER_BYTES)
  if (view.compare(MAGIC, 0, MAGIC.length, 0, MAGIC.length) !== 0)
    throw notADatabase(what, 'it does not begin with "SQLite format 3"')
  const stored = view.readUInt16BE(16)
  const pageSize = stored === 1 ? 65536 : stored
  if (!isValidPageSize(pageSize)) throw notADatabase(what, `its page size is ${stored}`)
  return {
    pageSize,
    writeVersion: view.readUInt8(18),
    readVersion: view.readUInt8(19),
    changeCounter: view.readUInt32BE(24),
    pageCount: view.readUInt32BE(28),
    schemaCookie: view.readUInt32BE(40),
    versionValidFor: view.readUInt32BE(92),
  }
}

/** Both version bytes say WAL. Any other pair means that SQLite uses a rollback journal. */
export function isWalMode(header: DatabaseHeader): boolean {
  return header.writeVersion === 2 && header.readVersion === 2
}

/** A power of two from 512 to 65536. */
export function isValidPageSize(pageSize: number): boolean {
  return Number.isInteger(pageSize) && pageSize >= 512 && pageSize <= 65536 && (pageSize & (pageSize - 1)) === 0
}

function notADatabase(what: string, reason: string): ClusterError {
  return new ClusterError('NOT_A_DATABASE', `${what} is not a SQLite database: ${reason}`, {
    hint: 'Restore the file from a backup, or move it away so that it is fetched again. Encrypted databases cannot be replicated.',
    details: { what },
  })
}
