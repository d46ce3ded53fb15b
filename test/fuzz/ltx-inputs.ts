/** Valid LTX to start from, and how to make a changed one valid again. */
import fs from 'node:fs'
import path from 'node:path'
import { RecordChain } from '../../packages/core/src/log/test-support/record-chain.ts'
import { Crc64 } from '../../packages/core/src/ltx/crc64.ts'
import { LTX_HEADER_BYTES, LTX_TRAILER_BYTES } from '../../packages/core/src/ltx/ltx-header.ts'
import { encodeLz4Frame } from '../../packages/core/src/ltx/lz4-frame.ts'
import { PAGE_HEADER_BYTES, pageChecksum } from '../../packages/core/src/ltx/page-checksum.ts'
import { isValidPageSize } from '../../packages/core/src/sqlite-format/database-header.ts'
import type { Random } from '../support/random.ts'

const FIXTURES = path.join(import.meta.dirname, '../fixtures/ltx')
/** Enough for every form; larger ones only make runs slow. */
const FIXTURE_BYTES_MAX = 40_000

export function ltxCorpus(): Buffer[] {
  const names = fs.readdirSync(FIXTURES).filter((name) => name.endsWith('.ltx'))
  const files = names.sort().map((name) => fs.readFileSync(path.join(FIXTURES, name)))
  const chain = new RecordChain()
  const records = [...chain.take(2), chain.next(5), ...chain.dropped(1)].map((record) => Buffer.from(record.bytes))
  return [...files.filter((bytes) => bytes.length <= FIXTURE_BYTES_MAX), ...records]
}

/**
 * Page order aside, what a decoder recomputes: the checksum of a snapshot's pages and the file checksum. An LTX that says it
 * is compressed gets its page block compressed, when it is not so yet and `random` wants it.
 */
export function repairLtx(input: Buffer, random: Random): Buffer {
  if (input.length < LTX_HEADER_BYTES + LTX_TRAILER_BYTES) return input
  const ltx = Buffer.from(input)
  const isCompressed = ltx.readUInt32BE(4) === 1
  if (isCompressed && random.next() < 0.5) return ltx
  ltx.writeUInt32BE(0, 4)
  const pageSize = ltx.readUInt32BE(8)
  if (ltx.readBigUInt64BE(16) === 1n && isValidPageSize(pageSize)) repairSnapshotChecksum(ltx, pageSize)
  ltx[ltx.length - LTX_TRAILER_BYTES] = ltx[ltx.length - LTX_TRAILER_BYTES]! | 0x80
  if (!isCompressed && random.next() < 0.7) {
    writeFileChecksum(ltx)
    return ltx
  }
  ltx.writeUInt32BE(1, 4)
  writeFileChecksum(ltx)
  const block = encodeLz4Frame(ltx.subarray(LTX_HEADER_BYTES, -LTX_TRAILER_BYTES))
  return Buffer.concat([ltx.subarray(0, LTX_HEADER_BYTES), block, ltx.subarray(-LTX_TRAILER_BYTES)])
}

function repairSnapshotChecksum(ltx: Buffer, pageSize: number): void {
  const sum = new Uint32Array(2)
  const page = new Uint32Array(2)
  const end = ltx.length - LTX_TRAILER_BYTES
  for (let at = LTX_HEADER_BYTES; at + PAGE_HEADER_BYTES + pageSize <= end; at += PAGE_HEADER_BYTES + pageSize) {
    pageChecksum(ltx.readUInt32BE(at), ltx, at + PAGE_HEADER_BYTES, pageSize, page)
    sum[0] = sum[0]! ^ page[0]!
    sum[1] = sum[1]! ^ page[1]!
  }
  ltx.writeUInt32BE((sum[0]! | 0x80000000) >>> 0, end)
  ltx.writeUInt32BE(sum[1]!, end + 4)
}

function writeFileChecksum(ltx: Buffer): void {
  const crc = new Crc64().update(ltx, 0, ltx.length - 8)
  ltx.writeUInt32BE((crc.high | 0x80000000) >>> 0, ltx.length - 8)
  ltx.writeUInt32BE(crc.low, ltx.length - 4)
}
