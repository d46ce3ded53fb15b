/**
 * The lock page: the page that holds byte 0x40000000, where SQLite places its file locks (SQLite "Database File Format",
 * section 1.5). SQLite never reads or writes it. It is never captured, sent or applied, and counts nothing in a checksum.
 */

/** Byte offset of SQLite's PENDING lock. */
const PENDING_BYTE = 0x40000000

/** Page number (from 1) of the lock page for a page size in bytes. Smaller databases do not reach it. */
export function lockPage(pageSize: number): number {
  return Math.floor(PENDING_BYTE / pageSize) + 1
}
