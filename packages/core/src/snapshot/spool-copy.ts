/**
 * Copies a pinned state of a database into a spool file, in steps of about a MiB: as an LTX snapshot, as an LTX of the pages
 * that differ from another state, or as a plain database file.
 *
 * Promises: ends without an error only if the checksums of the pages make the checksum of the position; otherwise with
 * `CORRUPT_DATA`. Nothing is synced: a spool does not outlive its process.
 */
import { ClusterError } from '../errors/cluster-error.ts'
import type { Disk } from '../files/disk.ts'
import { type DifferenceFrom, LtxSnapshotWriter } from '../ltx/ltx-snapshot-writer.ts'
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

export type SpoolForm = ({ readonly kind: 'ltx' } & LtxForm) | DifferenceForm | { readonly kind: 'image' }

/** Only some pages, as the LTX that leads from another state to this one. */
export interface DifferenceForm extends LtxForm {
  readonly kind: 'difference'
  readonly from: DifferenceFrom
  /** Ascending, without the lock page. */
  readonly pgnos: Uint32Array<ArrayBuffer>
}

export interface LtxForm {
  /** Ms since the epoch. */
  readonly timestampMs: number
  /** Of this node. */
  readonly nodeId: bigint
}

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
  for (const [first, last] of runsOf(task)) {
    for (const block of readBlocks(disk, task.pages, first, last)) {
      write(encoder.pages(block))
      yield written
    }
  }
  write(encoder.end())
  yield written
}

/** The runs of consecutive pages that are copied. */
function* runsOf({
  form,
  pages,
}: Pick<SpoolTask, 'form' | 'pages'>): Generator<readonly [first: number, last: number]> {
  if (form.kind !== 'difference') {
    if (pages.pageCount > 0) yield [1, pages.pageCount]
    return
  }
  const { pgnos } = form
  for (let i = 0; i < pgnos.length; ) {
    let end = i + 1
    while (end < pgnos.length && pgnos[end] === pgnos[end - 1]! + 1) end++
    yield [pgnos[i]!, pgnos[end - 1]!]
    i = end
  }
}

function encoderOf({ form, pages, position }: Omit<SpoolTask, 'spoolFd'>): Encoder {
  if (form.kind === 'image') return imageEncoder(pages, position)
  return ltxEncoder(pages, position, form, form.kind === 'difference' ? form.from : undefined)
}

function ltxEncoder(
  pages: PinnedPages,
  position: Position,
  { timestampMs, nodeId }: LtxForm,
  difference: DifferenceFrom | undefined,
): Encoder {
  const { pageSize, pageCount } = pages
  const maxTxid = position.txid
  const writer = new LtxSnapshotWriter({ pageSize, commit: pageCount, maxTxid, timestampMs, nodeId, difference })
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
