/**
 * Whether the WAL still holds the last record of the log, so that capture can go on after a restart.
 *
 * The record says where its frames stood (offset, length, salts). The proof is complete when the WAL is of that generation,
 * the frames there verify, end in a commit of the record's size, and give exactly the record's pages. Then everything
 * behind them was committed after the record and is captured as usual. Anything less proves nothing, and the database
 * must be compared page by page: an empty WAL (another process may have written, checkpointed and closed), other salts, a
 * record that came from another node.
 *
 * Relies on: the caller holds the write lock and an open guard, so that nothing moves while it looks and decides.
 */
import type { LiveFiles } from '../files/live-files.ts'
import type { LtxRecord } from '../ltx/ltx-record.ts'
import { isClusterError } from '../errors/cluster-error.ts'
import { FRAME_HEADER_BYTES, frameOffset } from '../sqlite-format/wal-frame.ts'
import { WAL_HEADER_BYTES } from '../sqlite-format/wal-header.ts'
import type { WalIndexHeader } from '../sqlite-format/wal-index.ts'
import { WalIndexReader } from '../sqlite/wal-index-reader.ts'
import { cursorAtEnd, isSameGeneration, type WalCursor } from './wal-cursor.ts'
import { WalScanner, type WalTransaction } from './wal-scanner.ts'

export type WalContinuity =
  | {
      readonly kind: 'continues'
      /** Right after the record. */
      readonly cursor: WalCursor
      /** Frames committed after it. */
      readonly uncapturedFrames: number
    }
  | { readonly kind: 'broken'; readonly reason: BrokenReason }

/**
 * `no-record`: the log is empty. `not-from-this-wal`: the record names no place in a WAL, or one of another page size.
 * `other-generation`: the WAL was restarted, deleted or is empty. `too-short`: the WAL ends before the record's end.
 * `other-frames`: the frames there are not the record.
 */
export type BrokenReason = 'no-record' | 'not-from-this-wal' | 'other-generation' | 'too-short' | 'other-frames'

/**
 * Looks for the last record of the log in the WAL.
 * @throws ClusterError `STORAGE_FAILED`, `CORRUPT_DATA` when the wal-index itself is not valid
 */
export function openCursor(files: LiveFiles, lastRecord: LtxRecord | undefined, pageSize: number): WalContinuity {
  if (lastRecord === undefined) return broken('no-record')
  const { walOffset, walBytes, walSalt1, walSalt2 } = lastRecord.header
  const frameBytes = FRAME_HEADER_BYTES + pageSize
  const frame = (walOffset - WAL_HEADER_BYTES) / frameBytes
  const frameCount = walBytes / frameBytes
  // Without an offset the first of these is negative.
  const isPlace = Number.isInteger(frame) && frame >= 0 && Number.isInteger(frameCount) && frameCount > 0
  if (!isPlace || lastRecord.pageSize !== pageSize) return broken('not-from-this-wal')
  const generation = { salt1: walSalt1, salt2: walSalt2 }
  const header = new WalIndexReader(files).header()
  if (!isSameGeneration(header, generation)) return broken('other-generation')
  const lastFrame = frame + frameCount
  if (header.mxFrame < lastFrame) return broken('too-short')

  const start: WalCursor = { ...generation, frame, ...checksumOf(files, frame, pageSize) }
  const scanner = new WalScanner(files, pageSize)
  try {
    scanner.begin(start, { mxFrame: lastFrame, bigEndianChecksum: header.bigEndianChecksum })
    const found = scanner.next(true)
    if (found === undefined || !isSameContent(scanner, found, lastRecord)) return broken('other-frames')
    const { checksum1, checksum2 } = found
    const cursor: WalCursor = { ...generation, frame: lastFrame, checksum1, checksum2 }
    return { kind: 'continues', cursor, uncapturedFrames: header.mxFrame - lastFrame }
  } catch (error) {
    // Frames that do not verify are not the record's; whether the WAL is sound beyond that, capture will see.
    if (isClusterError(error, 'CORRUPT_DATA')) return broken('other-frames')
    throw error
  } finally {
    scanner.end()
  }
}

/** Everything committed after `cursor`, merged: each page once, with its newest frame, and the size at the end. */
export function readUncapturedMerged(
  files: LiveFiles,
  cursor: WalCursor,
  pageSize: number,
): WalTransaction | undefined {
  const header = new WalIndexReader(files).header()
  const scanner = new WalScanner(files, pageSize)
  try {
    scanner.begin(cursor, header)
    return scanner.next(true)
  } finally {
    scanner.end()
  }
}

/** The end of the WAL as it is now: where capture begins once the database was hashed under the write lock. */
export function cursorNow(files: LiveFiles): WalCursor {
  return cursorAtEnd(new WalIndexReader(files).header())
}

/** What is committed in the WAL as it is now. */
export function headerNow(files: LiveFiles): WalIndexHeader {
  return new WalIndexReader(files).header()
}

/** The running checksum that frame `frame` stored; the scanner takes that of frame 0 from the WAL's header itself. */
function checksumOf(files: LiveFiles, frame: number, pageSize: number): { checksum1: number; checksum2: number } {
  if (frame === 0) return { checksum1: 0, checksum2: 0 }
  const bytes = Buffer.alloc(FRAME_HEADER_BYTES)
  files.disk.read('capture.read-frame-header', files.walFd, bytes, 0, bytes.length, frameOffset(frame, pageSize))
  return { checksum1: bytes.readUInt32BE(16), checksum2: bytes.readUInt32BE(20) }
}

/** The frames' pages are the record's, byte for byte. The record of TXID 1 may hold more pages than its frames. */
function isSameContent(scanner: WalScanner, found: WalTransaction, record: LtxRecord): boolean {
  if (found.commit !== record.commit) return false
  if (!record.isSnapshot && found.pgnos.length !== record.pageCount) return false
  let i = 0
  let isSame = true
  scanner.visitPages(found, (pgno, source, offset) => {
    while (record.isSnapshot && i < record.pageCount && record.pgno(i) < pgno) i++
    isSame &&= i < record.pageCount && record.pgno(i) === pgno
    isSame &&= record.page(i).compare(source, offset, offset + record.pageSize) === 0
    i++
  })
  return isSame
}

function broken(reason: BrokenReason): WalContinuity {
  return { kind: 'broken', reason }
}
