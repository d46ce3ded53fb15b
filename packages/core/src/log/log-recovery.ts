/**
 * Finds out what a log directory holds after any stop, and makes it one contiguous log again.
 *
 * Relies on: a segment was made durable before the next one was created, so a power cut can tear the newest one only; a
 * reset leaves the marks of log-reset.ts.
 * Promises: the answer is a gapless run of records that ends at the newest one that can be trusted (I2), and all of it is
 * durable. What does not fit is removed and counted, never bridged:
 * - The newest segment is read whole and every LTX verified; from the first bad byte on it is cut off. It is removed when
 *   it has no whole header, or no record and no predecessor that leads to it: it was being created, and nothing in it was
 *   ever durable.
 * - Earlier segments are read by hopping; their LTX are verified when somebody reads them. One that is damaged, or does not
 *   lead to the next, is dropped with all before it: what counts is the run that ends at the tail.
 */
import path from 'node:path'
import type { Disk } from '../files/disk.ts'
import { LTX_HEADER_BYTES, type LtxHeader, parseLtxHeader } from '../ltx/ltx-header.ts'
import { samePosition } from '../position/position.ts'
import { finishReset } from './log-reset.ts'
import { Segment } from './segment.ts'
import {
  ENVELOPE_BYTES,
  type LogTail,
  parseSegmentHeader,
  parseSegmentName,
  SEGMENT_HEADER_BYTES,
  type SegmentHeader,
} from './segment-format.ts'
import { hopThrough, scanWhole } from './segment-scan.ts'

/** What `open` found and repaired. All zero after a clean stop. */
export interface LogRecovery {
  /** Bytes cut off the end, and how many records could be made out in them. */
  readonly cutBytes: number
  readonly cutRecords: number
  /** Bytes and files dropped at the front because they were damaged or did not lead to what follows. */
  readonly droppedBytes: number
  readonly droppedSegments: number
  /** A reset had been interrupted. */
  readonly finishedReset: boolean
}

export interface RecoveredLog {
  /** Oldest first. */
  readonly segments: Segment[]
  readonly lastHeader: LtxHeader | undefined
  readonly recovery: LogRecovery
}

export function recoverLog(disk: Disk, directory: string): RecoveredLog {
  disk.makeDirectory('log.open', directory)
  refuseNewerSegments(disk, directory)
  const { isFinished: finishedReset, damagedBytes } = finishReset(disk, directory)
  const names = disk.list('log.open', directory)
  for (const name of names) if (name.endsWith('.tmp')) disk.remove('log.open', path.join(directory, name))
  const work = new Recovery(disk)
  work.cutBytes += damagedBytes
  try {
    const lastHeader = work.run(segmentFiles(directory, names))
    // Also when nothing was removed: a killed process may have made or renamed files whose names are not durable yet.
    disk.syncDirectory('log.open', directory)
    const { cutBytes, cutRecords, droppedBytes, droppedSegments } = work
    return {
      segments: work.segments,
      lastHeader,
      recovery: { cutBytes, cutRecords, droppedBytes, droppedSegments, finishedReset },
    }
  } catch (error) {
    for (const segment of work.segments) segment.close()
    throw error
  }
}

/** Before anything is changed: a segment of a newer version is not damaged, and neither cut off nor dropped. */
function refuseNewerSegments(disk: Disk, directory: string): void {
  for (const file of segmentFiles(directory, disk.list('log.open', directory))) readSegmentHeader(disk, file)
}

/** Oldest first. */
function segmentFiles(directory: string, names: readonly string[]): string[] {
  return names.filter((name) => parseSegmentName(name) !== undefined).map((name) => path.join(directory, name))
}

/** What the header says; `undefined` when it is not whole. Throws `UNSUPPORTED_FORMAT`. */
function readSegmentHeader(disk: Disk, file: string): SegmentHeader | undefined {
  const fd = disk.open('log.open', file, 'r')
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES)
  try {
    const length = disk.read('log.open', fd, bytes, 0, bytes.length, 0)
    return parseSegmentHeader(bytes.subarray(0, length), file)
  } finally {
    disk.close('log.open', fd)
  }
}

/** When it throws, whoever opens the log next can trust the sync that then succeeds. */
function syncOrRewrite(segment: Segment): void {
  try {
    segment.syncNow()
  } catch (error) {
    try {
      segment.rewriteUnsynced()
    } catch {
      // The disk fails in every way: the first error says so.
    }
    throw error
  }
}

class Recovery {
  readonly segments: Segment[] = []
  cutBytes = 0
  cutRecords = 0
  droppedBytes = 0
  droppedSegments = 0
  readonly #disk: Disk

  constructor(disk: Disk) {
    this.#disk = disk
  }

  /** @param files oldest first; emptied */
  run(files: string[]): LtxHeader | undefined {
    let lastHeader: LtxHeader | undefined
    for (let file = files.pop(); file !== undefined; file = files.pop()) {
      const newest = this.segments.at(-1)
      if (newest === undefined) lastHeader = this.#readNewest(file)
      else if (this.droppedSegments > 0) this.#drop(file)
      else {
        const segment = this.#readOlder(file, this.segments[0]!.base)
        if (segment !== undefined) {
          this.segments.unshift(segment)
          lastHeader ??= this.#lastHeaderOf(segment)
        } else if (newest.index.count === 0 && this.segments.length === 1) {
          this.#cut(newest.file)
          newest.close()
          this.segments.pop()
          lastHeader = this.#readNewest(file)
        } else this.#drop(file)
      }
    }
    return lastHeader
  }

  #readNewest(file: string): LtxHeader | undefined {
    const segment = this.#openSegment(file)
    if (segment === undefined) {
      this.#cut(file)
      return undefined
    }
    this.segments.push(segment)
    const size = this.#disk.sizeBytes('log.open', segment.fd())
    const { lastHeader, lost } = scanWhole(segment, size)
    if (segment.bytes < size) {
      this.cutBytes += size - segment.bytes
      this.cutRecords += lost
      segment.truncate(segment.bytes, segment.index.count, segment.end)
    }
    // Also without a cut: what a killed process wrote may be in the page cache only.
    syncOrRewrite(segment)
    return lastHeader
  }

  /** `undefined` unless its records are whole and lead exactly to `next`. */
  #readOlder(file: string, next: LogTail): Segment | undefined {
    const segment = this.#openSegment(file)
    if (segment === undefined) return undefined
    try {
      if (!hopThrough(segment, this.#disk.sizeBytes('log.open', segment.fd()))) return undefined
    } finally {
      segment.close()
    }
    segment.noteSynced()
    segment.index.seal()
    return samePosition(segment.end.position, next.position) && segment.end.epoch === next.epoch ? segment : undefined
  }

  /** A segment whose header is whole and belongs to its name. */
  #openSegment(file: string): Segment | undefined {
    const header = readSegmentHeader(this.#disk, file)
    if (header === undefined || parseSegmentName(path.basename(file)) !== header.base.position.txid + 1n)
      return undefined
    return new Segment(this.#disk, file, header)
  }

  /** The header of the newest record when the newest segment is empty. */
  #lastHeaderOf(segment: Segment): LtxHeader | undefined {
    const count = segment.index.count
    const bytes = Buffer.alloc(LTX_HEADER_BYTES)
    if (count === 0 || !segment.read(bytes, segment.index.offset(count - 1) + ENVELOPE_BYTES, bytes.length))
      return undefined
    segment.close()
    return parseLtxHeader(bytes)
  }

  #cut(file: string): void {
    this.cutBytes += this.#remove(file)
  }

  #drop(file: string): void {
    this.droppedBytes += this.#remove(file)
    this.droppedSegments++
  }

  #remove(file: string): number {
    const bytes = Number(this.#disk.identity('log.open', file)?.sizeBytes ?? 0n)
    this.#disk.remove('log.open', file)
    return bytes
  }
}
