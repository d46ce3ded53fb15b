/**
 * Locks on byte ranges that belong to an open file, not to the process: Linux open-file-description (OFD) locks.
 *
 * They conflict with the POSIX locks SQLite takes, also with those of this same process, and no other descriptor of the
 * file can drop them by being closed. The kernel frees them when the last descriptor of the open file is closed, so also
 * when the process dies.
 *
 * Relies on: Linux. On macOS the package locks whole files, which is good enough for a lock file and for nothing else.
 */
import { tryLock as nativeTryLock, unlock as nativeUnlock } from 'fs-native-extensions'
import { assert } from '../base/assert.ts'

/**
 * Takes an exclusive lock, without waiting.
 * @param length in bytes, at least 1
 * @returns false when somebody else holds a lock on any of these bytes
 */
export function tryLock(fd: number, start: number, length: number): boolean {
  assertRange(start, length)
  return nativeTryLock(fd, start, length)
}

/** The same, shared: others may hold shared locks on these bytes, and nobody an exclusive one. */
export function tryLockShared(fd: number, start: number, length: number): boolean {
  assertRange(start, length)
  return nativeTryLock(fd, start, length, { shared: true })
}

/** Gives these bytes back; bytes that are not locked are left alone. */
export function unlock(fd: number, start: number, length: number): void {
  assertRange(start, length)
  nativeUnlock(fd, start, length)
}

function assertRange(start: number, length: number): void {
  // The system call reads a length of 0 as "to the end of the file and beyond".
  assert(Number.isSafeInteger(start) && start >= 0, `lock at byte ${start}`)
  assert(Number.isSafeInteger(length) && length >= 1, `lock of ${length} bytes`)
}
