/**
 * Copies a pinned state of a database into a spool file, in steps of about a MiB: as an LTX snapshot, or as a plain
 * database file.
 *
 * Promises: ends without an error only if the checksums of the pages make the checksum of the position; otherwise with
 * `CORRUPT_DATA`. Nothing is synced: a spool does not outlive its process.
 */
import { ClusterError } from '../errors/cluster-error.ts'
import type { Disk } from '../files/disk.ts'
import { LtxSnapshotWriter } from '../ltx/ltx-snapshot-writer.ts'
import { PageCrc } from '../ltx/page-checksum.ts'
import { checksumFromHalves, formatChecksum } from '../position/checksum.ts'
import type { Position } from '../position/position.ts'
import { lockPage } from '../sqlite-format/lock-page.ts'
import { type PageBlock, type PinnedPages, readBlocks } from './page-source.ts'

export interface SpoolTask {
  readonly pages: PinnedPages
  readonly position: Position
  /** Descriptor of an empty file. */
  readonly spoolFd: number
  readonly form: SpoolForm
}

export type SpoolForm =
  /** `timestampMs`: since the epoch. `nodeId`: of this node. */
  { readonly kind: 'ltx'; readonly timestampMs: number; readonly nodeId: bigint } | { readonly kind: 'image' }

/** What turns blocks of pages into the bytes of one form. */
interface Encoder {
  readonly totalBytes: number
  begin(): Buffer
  /** The result is valid until the next call. */
  pages(block: PageBlock): Buffer
  /** Throws `CORRUPT_DATA` when the pages were not those of the position. */
  end(): Buffer
}

/** Exact size of the spool when it is complete. */
export function spoolBytes(task: Omit<SpoolTask, 'spoolFd'>): number {
  return encoderOf(task).totalBytes
}

/** Yields the bytes written so far; a step only looks at bytes below that. */
export function* copyToSpool(disk: Disk, task: SpoolTask): Generator<number, undefined> {
  const encoder = encoderOf(task)
  let written = 0
  const write = (bytes: Buffer): void => {
    disk.write('snapshot.write-spool', task.spoolFd, bytes, 0, bytes.length, written)
    written += bytes.length
  }
  write(encoder.begin())
  for (const block of readBlocks(disk, task.pages, 1, task.pages.pageCount)) {
    write(encoder.pages(block))
    yield written
  }
  write(encoder.end())
  yield written
}

function encoderOf(task: Omit<SpoolTask, 'spoolFd'>): Encoder {
  return task.form.kind === 'ltx'
    ? ltxEncoder(task.pages, task.position, task.form)
    : imageEncoder(task.pages, task.position)
}

function ltxEncoder(
  pages: PinnedPages,
  position: Position,
  form: { readonly timestampMs: number; readonly nodeId: bigint },
): Encoder {
  const { pageSize, pageCount } = pages
  const { timestampMs, nodeId } = form
  const writer = new LtxSnapshotWriter({ pageSize, commit: pageCount, maxTxid: position.txid, timestampMs, nodeId })
  return {
    totalBytes: writer.totalBytes,
    begin: () => writer.header(),
    pages: ({ firstPgno, bytes }) => writer.pages(firstPgno, bytes),
    end: () => writer.end(position.checksum),
  }
}

function imageEncoder({ pageSize, pageCount }: PinnedPages, position: Position): Encoder {
  const crc = new PageCrc(pageSize)
  const lock = lockPage(pageSize)
  let high = 0
  let low = 0
  return {
    totalBytes: pageSize * pageCount,
    begin: () => Buffer.alloc(0),
    pages({ firstPgno, count, bytes }) {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
      for (let i = 0; i < count; i++) {
        if (firstPgno + i === lock) continue
        crc.compute(firstPgno + i, view, i * pageSize)
        high ^= crc.high
        low ^= crc.low
      }
      return bytes
    },
    end() {
      const found = checksumFromHalves(high, low)
      if (found === position.checksum) return Buffer.alloc(0)
      throw new ClusterError(
        'CORRUPT_DATA',
        `the pages of the database have checksum ${formatChecksum(found)}, its position says ${formatChecksum(position.checksum)}`,
      )
    },
  }
}
