/**
 * Frames of the replication stream: the body of `POST /stream` as LiteFS 0.5.14 speaks it (http/server.go, client.go).
 * All integers are big-endian. A frame is a type (u32) and:
 *
 *   1 LTX        u64 size (always 0), u32 name length, name; then the LTX as a chunked body, see chunked-body.ts
 *   2 READY      nothing: everything the replica lacked was sent
 *   3 END        nothing: the primary closes in good order
 *   4 DROPDB     u32 name length, name: the primary does not know this database
 *   5 HANDOFF    u32 length, lease id: the replica is to become the primary with this lease
 *   6 HWM        u64 TXID, u32 name length, name: what the backup has
 *   7 HEARTBEAT  i64 clock of the primary, ms since the Unix epoch
 *
 * Chunk boundaries of HTTP mean nothing. When a LiteFS primary fails in mid-stream it writes its error as text into the
 * body: the reader then meets an unknown type (or a broken LTX), and puts the text into its error.
 */
import { ByteCollector } from '../base/byte-collector.ts'
import { assert } from '../base/assert.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { Txid } from '../position/txid.ts'
import { decodeText } from './wire-text.ts'

/** Longest database name on the wire, in UTF-8 bytes: longer ones are no file names. */
export const DATABASE_NAME_BYTES_MAX = 255
/** Longest lease id, in UTF-8 bytes. Consul's are UUIDs of 36. */
export const LEASE_ID_BYTES_MAX = 255
/** Most of a primary's error text that is kept. */
const ERROR_TEXT_BYTES_MAX = 512

const LTX = 1
const READY = 2
const END = 3
const DROPDB = 4
const HANDOFF = 5
const HWM = 6
const HEARTBEAT = 7

/** Told of each frame, in order. */
export interface StreamFrameVisitor {
  /** An LTX of this database begins; its bytes follow by `ltxData`, then `ltxEnd`. */
  ltxBegin(name: string): void
  /** @param bytes never empty, valid during the call */
  ltxData(bytes: Buffer): void
  ltxEnd(): void
  ready(): void
  end(): void
  dropDb(name: string): void
  handoff(leaseId: string): void
  /** @param txid everything up to it is in the backup; 0 = there is no backup */
  hwm(txid: Txid, name: string): void
  /** @param timestampMs the primary's clock, ms since the Unix epoch */
  heartbeat(timestampMs: number): void
}

export function encodeLtxFrameHeader(name: string): Buffer {
  return encode(LTX, Buffer.alloc(8), encodeText(name, DATABASE_NAME_BYTES_MAX))
}

export function encodeReady(): Buffer {
  return encode(READY)
}

export function encodeEnd(): Buffer {
  return encode(END)
}

export function encodeDropDb(name: string): Buffer {
  return encode(DROPDB, encodeText(name, DATABASE_NAME_BYTES_MAX))
}

export function encodeHandoff(leaseId: string): Buffer {
  return encode(HANDOFF, encodeText(leaseId, LEASE_ID_BYTES_MAX))
}

export function encodeHwm(txid: Txid, name: string): Buffer {
  const number = Buffer.alloc(8)
  number.writeBigUInt64BE(txid)
  return encode(HWM, number, encodeText(name, DATABASE_NAME_BYTES_MAX))
}

/** @param timestampMs whole ms since the Unix epoch */
export function encodeHeartbeat(timestampMs: number): Buffer {
  const number = Buffer.alloc(8)
  number.writeBigInt64BE(BigInt(timestampMs))
  return encode(HEARTBEAT, number)
}

type Field = 'type' | 'size' | 'txid' | 'text-length' | 'text' | 'timestamp' | 'chunk-length' | 'chunk'

/** Parses a stream from chunks of any length. Memory: one name. */
export class StreamFrameReader {
  readonly #visitor: StreamFrameVisitor
  readonly #collector = new ByteCollector(Math.max(DATABASE_NAME_BYTES_MAX, LEASE_ID_BYTES_MAX))
  #field: Field = 'type'
  #fieldBytes = 4
  #type = 0
  #txid = 0n
  #chunkBytesLeft = 0
  #hasFailed = false

  constructor(visitor: StreamFrameVisitor) {
    this.#visitor = visitor
  }

  /** Nothing of a frame is pending: the stream may end here without having lost anything. */
  get isBetweenFrames(): boolean {
    return this.#field === 'type' && this.#collector.pendingBytes === 0
  }

  /** @throws ClusterError `STREAM_FAILED` on bytes that are no frame, or what the visitor throws; it refuses all bytes then */
  push(chunk: Buffer): void {
    if (this.#hasFailed) throw streamFailed('the reader met an error before')
    try {
      this.#read(chunk)
    } catch (error) {
      this.#hasFailed = true
      throw error
    }
  }

  #read(chunk: Buffer): void {
    let at = 0
    while (at < chunk.length) {
      if (this.#field === 'chunk') {
        at = this.#readChunk(chunk, at)
        continue
      }
      const field = this.#collector.take(chunk, at, this.#fieldBytes)
      at = this.#collector.next
      if (field !== undefined) this.#accept(field, chunk.subarray(at))
    }
  }

  /** Passes on as much of the LTX as is here. */
  #readChunk(chunk: Buffer, from: number): number {
    const end = Math.min(chunk.length, from + this.#chunkBytesLeft)
    this.#chunkBytesLeft -= end - from
    if (this.#chunkBytesLeft === 0) this.#expect('chunk-length', 2)
    this.#visitor.ltxData(chunk.subarray(from, end))
    return end
  }

  #accept(field: Buffer, rest: Buffer): void {
    switch (this.#field) {
      case 'type':
        return this.#acceptType(field, rest)
      case 'size':
        return this.#expect('text-length', 4)
      case 'txid':
        this.#txid = field.readBigUInt64BE(0)
        return this.#expect('text-length', 4)
      case 'text-length':
        return this.#acceptTextLength(field.readUInt32BE(0))
      case 'text':
        return this.#acceptText(field)
      case 'timestamp':
        this.#expect('type', 4)
        return this.#visitor.heartbeat(Number(field.readBigInt64BE(0)))
      case 'chunk-length':
        return this.#acceptChunkLength(field.readUInt16BE(0))
      case 'chunk':
        assert(false, 'chunks are read without collecting')
    }
  }

  #expect(field: Field, fieldBytes: number): void {
    this.#field = field
    this.#fieldBytes = fieldBytes
  }

  #acceptType(field: Buffer, rest: Buffer): void {
    this.#type = field.readUInt32BE(0)
    switch (this.#type) {
      case LTX:
        return this.#expect('size', 8)
      case READY:
        return this.#visitor.ready()
      case END:
        return this.#visitor.end()
      case DROPDB:
      case HANDOFF:
        return this.#expect('text-length', 4)
      case HWM:
        return this.#expect('txid', 8)
      case HEARTBEAT:
        return this.#expect('timestamp', 8)
      default:
        throw unknownType(field, rest)
    }
  }

  #acceptTextLength(textBytes: number): void {
    const max = this.#type === HANDOFF ? LEASE_ID_BYTES_MAX : DATABASE_NAME_BYTES_MAX
    if (textBytes === 0 || textBytes > max) throw streamFailed(`a name of ${textBytes} bytes`)
    this.#expect('text', textBytes)
  }

  #acceptText(field: Buffer): void {
    const text = decodeText(field)
    if (text === undefined) throw streamFailed('a name is not UTF-8')
    if (this.#type === LTX) this.#expect('chunk-length', 2)
    else this.#expect('type', 4)
    switch (this.#type) {
      case LTX:
        return this.#visitor.ltxBegin(text)
      case DROPDB:
        return this.#visitor.dropDb(text)
      case HANDOFF:
        return this.#visitor.handoff(text)
      default:
        return this.#visitor.hwm(this.#txid as Txid, text)
    }
  }

  #acceptChunkLength(length: number): void {
    if (length === 0) {
      this.#expect('type', 4)
      this.#visitor.ltxEnd()
      return
    }
    this.#expect('chunk', 0)
    this.#chunkBytesLeft = length
  }
}

function encode(type: number, ...payload: readonly Buffer[]): Buffer {
  const head = Buffer.alloc(4)
  head.writeUInt32BE(type)
  return Buffer.concat([head, ...payload])
}

/** A u32 length and the text. */
function encodeText(text: string, bytesMax: number): Buffer {
  const bytes = Buffer.from(text)
  assert(bytes.length > 0 && bytes.length <= bytesMax, `a name of ${bytes.length} bytes on the stream`)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(bytes.length)
  return Buffer.concat([length, bytes])
}

function unknownType(field: Buffer, rest: Buffer): ClusterError {
  const text = decodeText(Buffer.concat([field, rest.subarray(0, ERROR_TEXT_BYTES_MAX)])) ?? ''
  const line = text.split('\n', 1)[0] ?? ''
  return /^[\x20-\x7e]{4}/.test(line)
    ? streamFailed('the primary reported an error', { primaryError: line })
    : streamFailed(`unknown frame type ${field.readUInt32BE(0)}`)
}

function streamFailed(reason: string, details: Readonly<Record<string, unknown>> = {}): ClusterError {
  const { primaryError } = details
  const suffix = typeof primaryError === 'string' ? `: ${primaryError}` : ''
  return new ClusterError('STREAM_FAILED', `replication stream: ${reason}${suffix}`, { details })
}
