/**
 * Finds the records of a segment file whose index is unknown, in two ways: `scanWhole` reads and verifies every byte,
 * `hopThrough` only envelopes, LTX headers and trailers.
 *
 * Promises: what is noted in the segment is contiguous from its base; nothing of the file is changed.
 */
import { isClusterError } from '../errors/cluster-error.ts'
import {
  LTX_HEADER_BYTES,
  LTX_TRAILER_BYTES,
  type LtxHeader,
  parseLtxHeader,
  parseLtxTrailer,
} from '../ltx/ltx-header.ts'
import { decodeLtxRecord, type LtxRecord } from '../ltx/ltx-record.ts'
import type { Txid } from '../position/txid.ts'
import type { Segment } from './segment.ts'
import {
  ENVELOPE_BYTES,
  type Envelope,
  type LogTail,
  parseEnvelope,
  parseRequestsBlock,
  parseRequestsHeader,
  REQUESTS_HEADER_BYTES,
  SEGMENT_HEADER_BYTES,
} from './segment-format.ts'

const WINDOW_BYTES = 1024 * 1024

/**
 * Notes all whole, intact records from the front of a file of `size` bytes.
 * @returns the header of the last one, and how many records can be made out behind it although they cannot be used
 */
export function scanWhole(segment: Segment, size: number): { lastHeader: LtxHeader | undefined; lost: number } {
  const window = new Window(segment, size)
  let lastHeader: LtxHeader | undefined
  while (segment.bytes < size) {
    const found = intactRecord(window, segment.bytes, segment.end)
    if (found === undefined) break
    const { ltx, envelope } = found
    segment.note(ltx.bytes.length, { position: ltx.postApply, epoch: envelope.epoch }, ltx.header.timestampMs)
    lastHeader = ltx.header
    const requests = intactRequests(window, segment.bytes, envelope.txid)
    if (requests !== undefined) segment.noteRequests(requests)
  }
  return { lastHeader, lost: countEnvelopes(window, segment.bytes, size) }
}

/** Notes all records of a file of `size` bytes; false when something is damaged. One read for each record, two where requests stand behind it. */
export function hopThrough(segment: Segment, size: number): boolean {
  // The trailer of one record, then the envelope and the LTX header of the next.
  const stone = Buffer.alloc(LTX_TRAILER_BYTES + ENVELOPE_BYTES + LTX_HEADER_BYTES)
  const head = stone.subarray(LTX_TRAILER_BYTES)
  const readHead = (): boolean => segment.read(head, segment.bytes, Math.min(head.length, size - segment.bytes))
  if (size > SEGMENT_HEADER_BYTES && !readHead()) return false
  return (
    undefinedIfCorrupt(() => {
      while (segment.bytes < size) {
        const envelope = size - segment.bytes < head.length ? undefined : parseEnvelope(head, 0)
        if (envelope === undefined || !continues(envelope, segment.end)) return undefined
        const header = parseLtxHeader(head.subarray(ENVELOPE_BYTES))
        const end = segment.bytes + ENVELOPE_BYTES + envelope.ltxBytes
        const length = Math.min(stone.length, size - end + LTX_TRAILER_BYTES)
        if (!isRecordOf(header, envelope, segment.end) || end > size) return undefined
        if (!segment.read(stone, end - LTX_TRAILER_BYTES, length)) return undefined
        const checksum = parseLtxTrailer(stone, header).postApplyChecksum
        const position = { txid: envelope.txid, checksum }
        segment.note(envelope.ltxBytes, { position, epoch: envelope.epoch }, header.timestampMs)
        const requests = parseRequestsHeader(head.subarray(0, length - LTX_TRAILER_BYTES), envelope.txid)
        if (requests === undefined) continue
        segment.noteRequests(requests)
        if (segment.bytes > size || (segment.bytes < size && !readHead())) return undefined
      }
      return true
    }) === true
  )
}

function intactRecord(window: Window, at: number, before: LogTail): { envelope: Envelope; ltx: LtxRecord } | undefined {
  const envelope = envelopeAt(window, at)
  if (envelope === undefined || !continues(envelope, before)) return undefined
  const bytes = window.view(at + ENVELOPE_BYTES, envelope.ltxBytes)
  const ltx = bytes === undefined ? undefined : undefinedIfCorrupt(() => decodeLtxRecord(bytes))
  return ltx !== undefined && isRecordOf(ltx.header, envelope, before) ? { envelope, ltx } : undefined
}

/** Size of the whole block of requests at this place; `undefined` when there is none. */
function intactRequests(window: Window, at: number, txid: Txid): number | undefined {
  const head = window.view(at, REQUESTS_HEADER_BYTES)
  const bytes = head === undefined ? undefined : parseRequestsHeader(head, txid)
  const block = bytes === undefined ? undefined : window.view(at, bytes)
  return block === undefined || parseRequestsBlock(block, txid) === undefined ? undefined : bytes
}

function countEnvelopes(window: Window, from: number, size: number): number {
  let count = 0
  for (let at = from; at < size; count++) {
    const envelope = envelopeAt(window, at)
    if (envelope === undefined) return count + 1
    at += ENVELOPE_BYTES + envelope.ltxBytes
    const head = window.view(at, REQUESTS_HEADER_BYTES)
    at += (head === undefined ? undefined : parseRequestsHeader(head, envelope.txid)) ?? 0
  }
  return count
}

function envelopeAt(window: Window, at: number): Envelope | undefined {
  const bytes = window.view(at, ENVELOPE_BYTES)
  return bytes === undefined ? undefined : parseEnvelope(bytes, 0)
}

function continues(envelope: Envelope, before: LogTail): boolean {
  return envelope.txid === before.position.txid + 1n && envelope.epoch >= before.epoch
}

function isRecordOf(header: LtxHeader, envelope: Envelope, before: LogTail): boolean {
  return (
    header.minTxid === envelope.txid &&
    header.maxTxid === envelope.txid &&
    !header.compressed &&
    header.preApplyChecksum === before.position.checksum
  )
}

function undefinedIfCorrupt<T>(work: () => T): T | undefined {
  try {
    return work()
  } catch (error) {
    if (isClusterError(error, 'CORRUPT_DATA')) return undefined
    throw error
  }
}

/** Reads a file from front to back in large pieces; a view is valid until the next one is asked for. */
class Window {
  readonly #segment: Segment
  readonly #size: number
  #buffer = Buffer.alloc(0)
  #from = 0

  constructor(segment: Segment, size: number) {
    this.#segment = segment
    this.#size = size
  }

  /** `undefined` beyond the end of the file. */
  view(offset: number, length: number): Buffer | undefined {
    if (offset + length > this.#size) return undefined
    if (offset < this.#from || offset + length > this.#from + this.#buffer.length) {
      const bytes = Math.max(length, Math.min(WINDOW_BYTES, this.#size - offset))
      if (bytes !== this.#buffer.length) this.#buffer = Buffer.allocUnsafeSlow(bytes)
      this.#from = offset
      if (!this.#segment.read(this.#buffer, offset, bytes)) return undefined
    }
    return this.#buffer.subarray(offset - this.#from, offset - this.#from + length)
  }
}
