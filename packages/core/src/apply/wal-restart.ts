/**
 * Empties a replica's WAL, as a SQLite writer does before it starts at frame 1 again (`walRestartHdr` and the TRUNCATE
 * checkpoint), under the same locks: the write lock, which the caller holds, the checkpoint lock, so that nobody copies
 * frames meanwhile, and the locks of read marks 1–4, so that nobody reads them. Readers of mark 0 use the database file
 * alone and may go on: while they do, nothing of the new generation can be copied over what they read.
 *
 * Order: backfill count and read marks first, then the header. SQLite does it the other way round, in a few stores to
 * memory; we need system calls, and dying between them must not leave a count above the last frame, which would make
 * later frames look as if they were in the database file. The other way it only says that nothing was copied yet.
 * The file is cut last: until the new header stands, recovery needs the frames.
 *
 * After a crash, by the last operation that ran:
 *   `apply.restart-info`: the WAL as it was, to be copied once more
 *   `apply.restart-copy2`: recovery reads the WAL as it was
 *   `apply.restart-copy1`, `apply.restart-truncate`: an empty WAL, or after recovery the old one; the content is the same,
 *   because every frame is in the database file and that is synced
 */
import type { LiveFiles } from '../files/live-files.ts'
import { tryLock, unlock } from '../files/range-lock.ts'
import { N_BACKFILL_ATTEMPTED_OFFSET, N_BACKFILL_OFFSET, READ_MARK_UNUSED } from '../sqlite-format/wal-index.ts'
import { CHECKPOINT_LOCK_BYTE, readLockByte, WAL_READ_MARKS } from './wal-lock-bytes.ts'
import type { WalTail } from './wal-tail.ts'

/** Frames that are in the database file, as the wal-index says now. */
export function readBackfilledFrames(files: LiveFiles): number {
  const bytes = Buffer.alloc(4)
  files.disk.read('apply.read-index', files.shmFd, bytes, 0, bytes.length, N_BACKFILL_OFFSET)
  return bytes.readUInt32LE(0)
}

/** False when it cannot be now: a checkpoint or a reader of the WAL is at work, or frames are not in the database file. */
export function restartWal(files: LiveFiles, tail: WalTail, keepBytes: number): boolean {
  if (!tryLock(files.shmFd, CHECKPOINT_LOCK_BYTE, 1)) return false
  try {
    if (!tryLock(files.shmFd, readLockByte(1), WAL_READ_MARKS)) return false
    try {
      if (readBackfilledFrames(files) !== tail.mxFrame) return false
      const bytes = tail.bytes
      resetCheckpointInfo(files)
      tail.publishEmpty()
      if (bytes > keepBytes) files.disk.truncate('apply.restart-truncate', files.walFd, 0)
      return true
    } finally {
      unlock(files.shmFd, readLockByte(1), WAL_READ_MARKS)
    }
  } finally {
    unlock(files.shmFd, CHECKPOINT_LOCK_BYTE, 1)
  }
}

function resetCheckpointInfo(files: LiveFiles): void {
  const { disk, shmFd } = files
  // nBackfill and the five read marks: mark 0 is always 0, mark 1 stands ready at 0. The lock bytes after them stay untouched.
  const info = Buffer.alloc(24)
  for (let mark = 2; mark <= WAL_READ_MARKS; mark++) info.writeUInt32LE(READ_MARK_UNUSED, 4 + mark * 4)
  disk.write('apply.restart-info', shmFd, info, 0, info.length, N_BACKFILL_OFFSET)
  disk.write('apply.restart-info', shmFd, Buffer.alloc(4), 0, 4, N_BACKFILL_ATTEMPTED_OFFSET)
}
