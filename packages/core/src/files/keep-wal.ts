/**
 * Closing the last connection to a WAL database without what SQLite does then: copy the WAL into the main file and delete it.
 *
 * The WAL proves which commits came after the newest record of the log (capture/wal-continuity.ts). A database that is closed after a
 * failure needs that proof at its next start. SQLite tidies up only under an exclusive lock on the main file; a shared lock of
 * another open file stands in its way, also within this process.
 *
 * Relies on: no connection of this process to the file is left when `close` returns, because closing a descriptor would drop
 * its locks.
 */
import type { Disk } from './disk.ts'
import { tryLockShared } from './range-lock.ts'

/** A byte of the range that SQLite locks shared to read and exclusively to tidy up. */
const SHARED_LOCK_BYTE = 0x40000002

/** @param close closes the last connection */
export function closeKeepingWal(disk: Disk, databasePath: string, close: () => void): void {
  let fd: number | undefined
  try {
    fd = disk.open('keep-wal.open', databasePath, 'r')
    tryLockShared(fd, SHARED_LOCK_BYTE, 1)
  } catch {
    // Then SQLite tidies up: the next start finds the same data, with less proof.
  }
  try {
    close()
  } finally {
    if (fd !== undefined) disk.close('keep-wal.close', fd)
  }
}
