/**
 * The two bytes of page 1 that say how a database is written: 18, the version a writer needs, and 19, a reader. 1 means a rollback journal, 2 a WAL.
 *
 * A LiteFS primary may run a database in either way. Here every copy is in WAL mode, because that is how pages land in it; so the bytes of such a
 * primary's page 1 are not those that stand in the file. What counts for checksums, copies and comparisons is always the primary's page (design D3).
 */
const MAGIC = Buffer.from('SQLite format 3\0', 'latin1')
const WRITE_VERSION_OFFSET = 18
const READ_VERSION_OFFSET = 19
const ROLLBACK = 1
const WAL = 2

/** @param offset where page 1 begins; `undefined`: neither one nor the other */
export function journalModeOf(bytes: Uint8Array, offset: number): 'rollback' | 'wal' | undefined {
  if (MAGIC.some((byte, i) => bytes[offset + i] !== byte)) return undefined
  const write = bytes[offset + WRITE_VERSION_OFFSET]
  const read = bytes[offset + READ_VERSION_OFFSET]
  if (write === ROLLBACK && read === ROLLBACK) return 'rollback'
  return write === WAL && read === WAL ? 'wal' : undefined
}

export function setJournalMode(bytes: Uint8Array, offset: number, mode: 'rollback' | 'wal'): void {
  const version = mode === 'wal' ? WAL : ROLLBACK
  bytes[offset + WRITE_VERSION_OFFSET] = version
  bytes[offset + READ_VERSION_OFFSET] = version
}
