/**
 * Chunked body: an LTX inside a stream frame (LiteFS 0.5.14, internal/chunk). Any number of chunks, each a big-endian u16
 * length from 1 to 65535 and that many bytes, then a length of 0. Where one chunk ends means nothing.
 *
 * Written into one new Buffer with one copy: a body in pieces would cost an HTTP/2 write for each piece.
 */
import { assert } from '../base/assert.ts'

/** Most bytes in one chunk. */
export const CHUNK_BYTES_MAX = 65535

const LENGTH_BYTES = 2

/** Ends a body that was written with `encodeChunks`. */
export const CHUNKS_END: Buffer = Buffer.alloc(LENGTH_BYTES)

/** All of `bytes` as chunks, without the end: for a body that is written piece by piece, then `CHUNKS_END`. */
export function encodeChunks(bytes: Buffer): Buffer {
  const target = Buffer.allocUnsafeSlow(chunkedBytes(bytes.length))
  writeChunks(bytes, target, 0)
  return target
}

/** A whole body: chunks and end. `prefix` (the frame header) goes in front, so that a record is one write. */
export function encodeChunked(bytes: Buffer, prefix: Buffer = Buffer.alloc(0)): Buffer {
  const target = Buffer.allocUnsafeSlow(prefix.length + chunkedBytes(bytes.length) + LENGTH_BYTES)
  prefix.copy(target, 0)
  const end = writeChunks(bytes, target, prefix.length)
  target.writeUInt16BE(0, end)
  return target
}

/** Many whole bodies one after the other, each behind `prefix` and before `suffix`, in one Buffer: one write for a batch of records. */
export function encodeChunkedBatch(bodies: readonly Buffer[], prefix: Buffer, suffix: Buffer): Buffer {
  let bytes = bodies.length * (prefix.length + LENGTH_BYTES + suffix.length)
  for (const body of bodies) bytes += chunkedBytes(body.length)
  const target = Buffer.allocUnsafeSlow(bytes)
  let at = 0
  for (const body of bodies) {
    at += prefix.copy(target, at)
    at = target.writeUInt16BE(0, writeChunks(body, target, at))
    at += suffix.copy(target, at)
  }
  return target
}

function chunkedBytes(byteLength: number): number {
  return byteLength + Math.ceil(byteLength / CHUNK_BYTES_MAX) * LENGTH_BYTES
}

/** Returns where it ended. */
function writeChunks(bytes: Buffer, target: Buffer, offset: number): number {
  let at = offset
  for (let from = 0; from < bytes.length; from += CHUNK_BYTES_MAX) {
    const to = Math.min(from + CHUNK_BYTES_MAX, bytes.length)
    target.writeUInt16BE(to - from, at)
    at += LENGTH_BYTES
    at += bytes.copy(target, at, from, to)
  }
  assert(at <= target.length, 'chunked body longer than computed')
  return at
}
