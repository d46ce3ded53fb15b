/**
 * Reads records out of the segments of one log: from the tail cache when they are there, else from disk.
 *
 * Relies on: the list of segments belongs to the log, which changes it only between calls.
 * Promises: what comes from disk was verified against its LTX file checksum and against the index; what comes from the
 * cache was verified before it was appended. At most one descriptor of an older segment is open at a time.
 */
import { InvariantError } from '../base/assert.ts'
import { ClusterError, isClusterError } from '../errors/cluster-error.ts'
import { decodeLtxRecord, type LtxRecord } from '../ltx/ltx-record.ts'
import type { Checksum } from '../position/checksum.ts'
import type { Epoch } from '../position/epoch.ts'
import type { Position } from '../position/position.ts'
import { formatTxid, type Txid } from '../position/txid.ts'
import type { LogEntry, Segment } from './segment.ts'
import { ENVELOPE_BYTES, parseEnvelope, parseRequestsBlock } from './segment-format.ts'
import type { CachedBytes, TailCache } from './tail-cache.ts'

export interface FoundRecords {
  /** Whole LTX, uncompressed; not to be changed. */
  readonly records: readonly Buffer[]
  /** The epoch of each. */
  readonly epochs: readonly Epoch[]
  /** The position after the last of them. */
  readonly end: Position
}

interface Run {
  readonly found: readonly { readonly bytes: Buffer; readonly epoch: Epoch }[]
  /** The record behind the last one found is damaged. */
  readonly isDamaged: boolean
}

export class LogReader {
  readonly #segments: readonly Segment[]
  readonly #cache: TailCache
  #opened: Segment | undefined

  constructor(segments: readonly Segment[], cache: TailCache) {
    this.#segments = segments
    this.#cache = cache
  }

  /** Checksum of the database after a record that the segments hold. */
  checksumAt(txid: Txid): Checksum {
    const { segment, record } = this.#locate(txid)
    return segment.index.checksum(record)
  }

  /**
   * Records after `after`, up to `maxBytes` of LTX but at least one. Ends early before a damaged record, which is then
   * named; `found` is `undefined` when the very first one is.
   */
  readAfter(after: Txid, maxBytes: number): { found: FoundRecords | undefined; damaged: Txid | undefined } {
    const records: Buffer[] = []
    const epochs: Epoch[] = []
    let damaged: Txid | undefined
    let txid = after
    let budget = maxBytes
    const last = this.#segments.at(-1)!.end.position.txid
    while (txid < last && damaged === undefined) {
      const { segment, record } = this.#locate((txid + 1n) as Txid)
      if (records.length > 0 && segment.index.ltxBytes(record) > budget) break
      const run = this.#readRun(segment, record, budget)
      for (const { bytes, epoch } of run.found) {
        records.push(bytes)
        epochs.push(epoch)
        budget -= bytes.length
      }
      txid = (after + BigInt(records.length)) as Txid
      if (run.isDamaged) damaged = (txid + 1n) as Txid
    }
    if (records.length === 0) return { found: undefined, damaged }
    return { found: { records, epochs, end: { txid, checksum: this.checksumAt(txid) } }, damaged }
  }

  /** One record that the segments hold. Throws `CORRUPT_DATA`. */
  readRecord(txid: Txid): LogEntry {
    const { segment, record } = this.#locate(txid)
    const [ltx] = this.#readRun(segment, record, 0).found
    if (ltx === undefined)
      throw new ClusterError('CORRUPT_DATA', `log segment ${segment.file}: record ${formatTxid(txid)} is damaged`, {
        details: { file: segment.file, txid: formatTxid(txid) },
      })
    return { epoch: ltx.epoch, record: decodeLtxRecord(ltx.bytes) }
  }

  /** What the transaction of a record that the segments hold was asked for; `undefined` when this node does not know. */
  readRequests(txid: Txid): Buffer | undefined {
    const { segment, record } = this.#locate(txid)
    const { offset, bytes } = segment.requestsAt(record)
    if (bytes === 0) return undefined
    const { buffer, from, to } = this.#readDisk(segment, offset, bytes)
    return parseRequestsBlock(buffer.subarray(from, to), txid)
  }

  /** Consecutive records of one segment up to `budget` bytes, at least one unless it is damaged. */
  #readRun(segment: Segment, first: number, budget: number): Run {
    const { index } = segment
    const offset = index.offset(first)
    const cached = this.#cache.find(segment, offset)
    const available = cached === undefined ? Number.MAX_SAFE_INTEGER : cached.to - cached.from
    let end = first + 1
    let length = ENVELOPE_BYTES + index.ltxBytes(first)
    for (let rest = budget - index.ltxBytes(first); end < index.count; end++) {
      // Requests that stand between two records are read along.
      const next = index.offset(end) + ENVELOPE_BYTES + index.ltxBytes(end) - offset
      rest -= index.ltxBytes(end)
      if (rest < 0 || next > available) break
      length = next
    }
    const source = cached ?? this.#readDisk(segment, offset, length)
    const found: { bytes: Buffer; epoch: Epoch }[] = []
    for (let i = first; i < end; i++) {
      const at = source.from + index.offset(i) - offset
      const ltxAt = at + ENVELOPE_BYTES
      const ltxEnd = ltxAt + index.ltxBytes(i)
      const envelope = ltxEnd <= source.to ? parseEnvelope(source.buffer, at) : undefined
      if (envelope?.ltxBytes !== index.ltxBytes(i)) return { found, isDamaged: true }
      const bytes = source.buffer.subarray(ltxAt, ltxEnd)
      if (cached === undefined && !isIntact(bytes, envelope.txid, segment, i)) return { found, isDamaged: true }
      found.push({ bytes, epoch: envelope.epoch })
    }
    return { found, isDamaged: false }
  }

  #readDisk(segment: Segment, offset: number, length: number): CachedBytes {
    if (segment !== this.#segments.at(-1) && segment !== this.#opened) {
      if (this.#opened !== undefined && this.#opened !== this.#segments.at(-1)) this.#opened.close()
      this.#opened = segment
    }
    const buffer = Buffer.allocUnsafeSlow(length)
    return { buffer, from: 0, to: segment.read(buffer, offset, length) ? length : 0 }
  }

  #locate(txid: Txid): { segment: Segment; record: number } {
    for (let i = this.#segments.length - 1; i >= 0; i--) {
      const segment = this.#segments[i]!
      if (txid <= segment.base.position.txid) continue
      const record = Number(txid - segment.base.position.txid) - 1
      if (record < segment.index.count) return { segment, record }
      break
    }
    throw new InvariantError(`the log does not hold TXID ${txid}`)
  }
}

function isIntact(bytes: Buffer, txid: Txid, segment: Segment, i: number): boolean {
  if (txid !== segment.base.position.txid + BigInt(i + 1)) return false
  let record: LtxRecord
  try {
    record = decodeLtxRecord(bytes)
  } catch (error) {
    if (isClusterError(error, 'CORRUPT_DATA')) return false
    throw error
  }
  return record.postApply.txid === txid && record.postApply.checksum === segment.index.checksum(i)
}
