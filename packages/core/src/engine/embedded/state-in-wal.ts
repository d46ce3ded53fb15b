/**
 * Finds the commit of the WAL after which the database was in a known state, by its checksum, where no record says which one it is:
 * the WAL of a node that became primary begins with what it applied as a replica, and its log has no record of a place in there.
 *
 * Not the first state that fits: a file into which the WAL was copied is in that state without a single frame, and frames that were
 * logged long ago would be taken for new ones.
 *
 * Relies on: nobody commits or restarts the WAL meanwhile (the caller holds the write lock). Somebody may copy frames into the file: a
 * state before those is then not found.
 * Memory: the page checksums twice, and one window of the WAL.
 */
import type { WalCursor } from '../../capture/wal-cursor.ts'
import { cursorAtStart } from '../../capture/wal-cursor.ts'
import { WalScanner } from '../../capture/wal-scanner.ts'
import type { LiveFiles } from '../../files/live-files.ts'
import { PageCrc } from '../../ltx/page-checksum.ts'
import type { PageChecksums } from '../../ltx/page-checksums.ts'
import type { Checksum } from '../../position/checksum.ts'
import { FRAME_HEADER_BYTES } from '../../sqlite-format/wal-frame.ts'
import type { WalIndexHeader } from '../../sqlite-format/wal-index.ts'

export interface StateInWal {
  /** Right after the commit; before the first frame when it is the state of the file without the WAL. */
  readonly cursor: WalCursor
  /** Of the database there. */
  readonly checksums: PageChecksums
}

/** So much of the WAL is looked at in one turn of the event loop. */
const TURN_BYTES = 1024 * 1024

/**
 * The last such commit; `undefined` when there is none.
 * @param inFile page checksums of the file without its WAL; changed
 * @param end of the WAL
 * @throws ClusterError `CORRUPT_DATA` when a frame does not verify
 */
export async function findStateInWal(
  files: LiveFiles,
  inFile: PageChecksums,
  end: WalIndexHeader,
  wanted: Checksum,
): Promise<StateInWal | undefined> {
  const { pageSize } = inFile
  const start = cursorAtStart(end)
  let found: StateInWal | undefined
  if (inFile.checksum === wanted) found = { cursor: start, checksums: inFile.clone() }
  const crc = new PageCrc(pageSize)
  const scanner = new WalScanner(files, pageSize)
  let turnBytes = 0
  try {
    scanner.begin(start, end)
    for (let commit = scanner.next(); commit !== undefined; commit = scanner.next()) {
      const { pgnos, lastFrame: frame, firstFrame, checksum1, checksum2 } = commit
      const halves = new Uint32Array(pgnos.length * 2)
      let i = 0
      scanner.visitPages(commit, (pgno, source, offset) => {
        crc.compute(pgno, new DataView(source.buffer, source.byteOffset, source.byteLength), offset)
        halves[i++] = crc.high
        halves[i++] = crc.low
      })
      if (inFile.apply(pgnos, halves, commit.commit) === wanted)
        found = { cursor: { ...start, frame, checksum1, checksum2 }, checksums: inFile.clone() }
      turnBytes += (frame - firstFrame + 1) * (FRAME_HEADER_BYTES + pageSize)
      if (turnBytes < TURN_BYTES) continue
      turnBytes = 0
      await new Promise((resolve) => setImmediate(resolve))
    }
  } finally {
    scanner.end()
  }
  return found
}
