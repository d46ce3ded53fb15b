/** The lock bytes of SQLite's wal-index (SQLite "WAL-mode File Format", section 2.3), as offsets in the `-shm` file. */
import { LOCK_BYTES_OFFSET, READ_MARK_COUNT } from '../sqlite-format/wal-index.ts'

/** Held by whoever appends frames. */
export const WRITE_LOCK_BYTE = LOCK_BYTES_OFFSET
/** Held by whoever copies frames into the database file. */
export const CHECKPOINT_LOCK_BYTE = LOCK_BYTES_OFFSET + 1

/** Read marks that stand for a place in the WAL: 1 … 4. Mark 0 is for readers of the database file alone. */
export const WAL_READ_MARKS = READ_MARK_COUNT - 1

/** Held shared by readers of this mark, exclusively by whoever changes its value. */
export function readLockByte(mark: number): number {
  return LOCK_BYTES_OFFSET + 3 + mark
}
