/** LTX files: whole, in chunks, and the LZ4 frames in them. */
import { checkRecord } from '../../../packages/core/src/apply/record-rules.ts'
import { isClusterError } from '../../../packages/core/src/errors/cluster-error.ts'
import { decodeLtxRecord, type LtxRecord } from '../../../packages/core/src/ltx/ltx-record.ts'
import { LtxStreamReader } from '../../../packages/core/src/ltx/ltx-stream-reader.ts'
import { decodeLz4Frame, encodeLz4Frame } from '../../../packages/core/src/ltx/lz4-frame.ts'
import { PageChecksums } from '../../../packages/core/src/ltx/page-checksums.ts'
import { Xxh32 } from '../../../packages/core/src/ltx/xxh32.ts'
import type { Random } from '../../support/random.ts'
import { chunksOf } from '../chunks.ts'
import { ltxCorpus, repairLtx } from '../ltx-inputs.ts'
import { type FuzzTarget, promise } from '../target.ts'

/** LZ4 makes at most 255 bytes of one; the blocks and their joined copy count twice. */
const UNCOMPRESSED = { perByte: 3 * 255, constant: 12 * 1024 * 1024 }

function decoded(input: Buffer): LtxRecord | undefined {
  try {
    return decodeLtxRecord(input)
  } catch (error) {
    if (isClusterError(error, 'CORRUPT_DATA')) return undefined
    throw error
  }
}

/** Pages seen by the stream reader; `undefined` when it refused. */
function streamed(input: Buffer): number | undefined {
  let pages = 0
  let isEnded = false
  const reader = new LtxStreamReader({
    header: () => undefined,
    page: (pgno, bytes) => {
      pages++
      promise(pgno > 0 && bytes.length >= 512, 'a page has a number and a size')
    },
    end: () => {
      isEnded = true
    },
  })
  try {
    for (const chunk of chunksOf(input)) reader.push(chunk)
    reader.finish()
  } catch (error) {
    if (isClusterError(error, 'CORRUPT_DATA')) return undefined
    throw error
  }
  promise(isEnded && reader.isComplete, 'a finished reader has told the end')
  return pages
}

/** What a replica does with a record that continues its database of so many pages. */
function applyTo(pageCount: number, record: LtxRecord): void {
  const checksums = new PageChecksums(record.pageSize)
  for (let pgno = 1; pgno <= pageCount; pgno++) checksums.set(pgno, 0x80000000, pgno)
  checkRecord(record, record.preApply, record.pageSize, pageCount)
  checksums.beginUndo()
  checksums.apply(record.pgnos(), record.pageChecksums, record.commit)
  promise(checksums.pageCount === record.commit, 'the database has the size of the record')
  checksums.undo()
  promise(checksums.pageCount === pageCount, 'undo goes back')
}

const FRAME_CONTENT_BYTES_MAX = 1024 * 1024

export const ltxTargets: readonly FuzzTarget[] = [
  {
    name: 'ltx-record',
    codes: ['CORRUPT_DATA'],
    bound: UNCOMPRESSED,
    weight: 6,
    corpus: ltxCorpus,
    repair: repairLtx,
    run(input) {
      const record = decodeLtxRecord(input)
      const pgnos = record.pgnos()
      promise(
        pgnos.every((pgno, i) => pgno <= record.commit && pgno > (pgnos[i - 1] ?? 0)),
        'pages ascend up to commit',
      )
      promise(
        decoded(Buffer.from(record.bytes))?.postApply.checksum === record.postApply.checksum,
        'a record decodes again',
      )
    },
  },
  {
    name: 'ltx-stream',
    codes: ['CORRUPT_DATA'],
    bound: UNCOMPRESSED,
    weight: 6,
    corpus: ltxCorpus,
    repair: repairLtx,
    run(input) {
      promise(streamed(input) === decoded(input)?.pageCount, 'both decoders of LTX agree')
    },
  },
  {
    name: 'apply-record',
    codes: ['CORRUPT_DATA', 'UNSUPPORTED_RECORD'],
    bound: UNCOMPRESSED,
    weight: 4,
    corpus: ltxCorpus,
    repair: repairLtx,
    run(input) {
      const record = decodeLtxRecord(input)
      // Most often the size it comes from or a little less.
      applyTo(Math.min(1_000, Math.max(1, record.commit - (input.length % 4))), record)
    },
  },
  {
    name: 'lz4-frame',
    codes: ['CORRUPT_DATA'],
    // Twice what was let through, and one block of the largest size with its scratch.
    bound: { perByte: 4, constant: 2 * FRAME_CONTENT_BYTES_MAX + 12 * 1024 * 1024 },
    weight: 6,
    corpus: () => [
      ...[0, 1, 70, 4096, 70_000].map((bytes) =>
        encodeLz4Frame(Buffer.from(Array.from({ length: bytes }, (_, i) => (i * i) >> 8))),
      ),
      linkedFrame(),
    ],
    repair: repairFrame,
    run(input) {
      const pieces = decodeLz4Frame(input, FRAME_CONTENT_BYTES_MAX)
      promise(pieces.reduce((sum, piece) => sum + piece.length, 0) <= FRAME_CONTENT_BYTES_MAX, 'the limit holds')
    },
  },
]

/** Flags "linked, content size, block checksums"; stored blocks. */
function linkedFrame(): Buffer {
  const blocks = [Buffer.from('one block '), Buffer.from('and another')]
  const descriptor = Buffer.alloc(10)
  descriptor[0] = 0x40 | 0x10 | 0x08
  descriptor[1] = 0x40
  descriptor.writeBigUInt64LE(21n, 2)
  const parts: Buffer[] = [Buffer.of(0x04, 0x22, 0x4d, 0x18), descriptor, Buffer.of(hashOf(descriptor))]
  for (const block of blocks) {
    const length = Buffer.alloc(4)
    length.writeUInt32LE((block.length | 0x80000000) >>> 0)
    parts.push(length, block, Buffer.alloc(4))
  }
  return Buffer.concat([...parts, Buffer.alloc(4)])
}

/** The hash of the descriptor; and, often, no checksum of the content, which cannot be known without decoding. */
function repairFrame(input: Buffer, random: Random): Buffer {
  if (input.length < 7) return input
  const frame = Buffer.from(input)
  if (random.next() < 0.7) frame[4] = frame[4]! & ~0x04
  const descriptor = frame.subarray(4, (frame[4]! & 0x08) === 0 ? 6 : 14)
  const at = 4 + descriptor.length
  if (at < frame.length) frame[at] = hashOf(descriptor)
  return frame
}

function hashOf(descriptor: Buffer): number {
  return (new Xxh32().update(descriptor).digest() >>> 8) & 255
}
