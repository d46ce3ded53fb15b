/**
 * Starting a log anew at another position, so that a crash at any step leaves one consistent log.
 *
 * Order: 1 the new, empty segment is written as `reset.tmp` and made durable; 2 it is renamed to `reset.seg`, which is made
 * durable: from here on the new log counts; 3 every other segment is removed, durably; 4 `reset.seg` gets its real name.
 * After a crash: with a `reset.seg` in the directory steps 3 and 4 are done again; without one the old log stands, and
 * `reset.tmp` is swept away. The name is its own because the new log may begin at a TXID of which the old one has a segment.
 */
import path from 'node:path'
import type { Disk } from '../files/disk.ts'
import {
  encodeSegmentHeader,
  type LogTail,
  parseSegmentHeader,
  parseSegmentName,
  SEGMENT_HEADER_BYTES,
  segmentName,
} from './segment-format.ts'

const TEMPORARY_NAME = 'reset.tmp'
const RESET_NAME = 'reset.seg'

/** Step 1. When it throws, nothing has changed. */
export function prepareReset(disk: Disk, directory: string, start: LogTail): void {
  const temporary = path.join(directory, TEMPORARY_NAME)
  const fd = disk.open('log.reset', temporary, 'w+')
  try {
    disk.write('log.reset', fd, encodeSegmentHeader(start), 0, SEGMENT_HEADER_BYTES, 0)
    disk.dataSyncNow('log.reset', fd)
  } finally {
    disk.close('log.reset', fd)
  }
}

/** Steps 2 to 4. When it throws, either log may be the one that the next open finds. */
export function commitReset(disk: Disk, directory: string): void {
  disk.rename('log.reset', path.join(directory, TEMPORARY_NAME), path.join(directory, RESET_NAME))
  disk.syncDirectory('log.reset', directory)
  finishReset(disk, directory)
}

/**
 * Does steps 3 and 4 if a reset was committed and not finished; answers whether it was so. Throws `UNSUPPORTED_FORMAT`.
 *
 * A mark that was damaged since is removed. What is left of the old log then stands, and does not know the checksum of the
 * database: the engine treats that as another history, which is what the reset was made for.
 */
export function finishReset(disk: Disk, directory: string): FinishedReset {
  const names = disk.list('log.reset', directory)
  if (!names.includes(RESET_NAME)) return { isFinished: false, damagedBytes: 0 }
  const file = path.join(directory, RESET_NAME)
  const header = disk.readWhole('log.reset', file) ?? Buffer.alloc(0)
  const start = parseSegmentHeader(header, file)?.base
  if (start === undefined) {
    disk.remove('log.reset', file)
    disk.syncDirectory('log.reset', directory)
    return { isFinished: false, damagedBytes: header.length }
  }
  for (const name of names)
    if (parseSegmentName(name) !== undefined) disk.remove('log.reset', path.join(directory, name))
  disk.syncDirectory('log.reset', directory)
  disk.rename('log.reset', file, path.join(directory, segmentName(start)))
  disk.syncDirectory('log.reset', directory)
  return { isFinished: true, damagedBytes: 0 }
}

export interface FinishedReset {
  readonly isFinished: boolean
  /** Size of a mark that was damaged. */
  readonly damagedBytes: number
}
