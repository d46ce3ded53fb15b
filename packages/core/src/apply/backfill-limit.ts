/**
 * Holds a checkpoint back at a frame of our choice, so that one call copies a bounded number of frames and blocks the
 * event loop for a bounded time.
 *
 * A checkpoint copies no frame above a read mark whose lock is held. We take one of the marks 1–4 that no reader has, set
 * it to the frame, and keep its lock exclusively until the checkpoint returned. A reader that wants this mark meanwhile
 * takes another one or tries again. The mark need not be at the end of a transaction: a checkpoint that an older reader
 * held back leaves the database file just as incomplete, and readers look into the WAL first.
 *
 * After a crash: a mark that nobody has locked; the next reader or checkpoint sets it anew.
 */
import type { LiveFiles } from '../files/live-files.ts'
import { tryLock, unlock } from '../files/range-lock.ts'
import { READ_MARK_UNUSED, READ_MARKS_OFFSET } from '../sqlite-format/wal-index.ts'
import { readLockByte, WAL_READ_MARKS } from './wal-lock-bytes.ts'

/** Runs `checkpoint` so that it copies no frame above `frame`; without the limit when readers have all four marks. */
export function withBackfillLimit<T>(files: LiveFiles, frame: number, checkpoint: () => T): T {
  const mark = takeMark(files)
  if (mark === undefined) return checkpoint()
  try {
    writeMark(files, mark, frame)
    return checkpoint()
  } finally {
    try {
      writeMark(files, mark, READ_MARK_UNUSED)
    } finally {
      unlock(files.shmFd, readLockByte(mark), 1)
    }
  }
}

/** From the last to the first, because readers try the first one first. */
function takeMark(files: LiveFiles): number | undefined {
  for (let mark = WAL_READ_MARKS; mark >= 1; mark--) if (tryLock(files.shmFd, readLockByte(mark), 1)) return mark
  return undefined
}

function writeMark(files: LiveFiles, mark: number, frame: number): void {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(frame, 0)
  files.disk.write('apply.limit-backfill', files.shmFd, bytes, 0, 4, READ_MARKS_OFFSET + mark * 4)
}
