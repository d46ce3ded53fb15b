/**
 * Position map: where a replica stands in each database, the body of its `POST /stream` (LiteFS 0.5.14, http/http.go).
 * All integers are big-endian: u32 count; for each database u32 name length, name, u64 TXID, u64 checksum. LiteFS sorts by
 * the bytes of the name; so do we. A reader needs no order.
 */
import { assert } from '../base/assert.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import { checksum } from '../position/checksum.ts'
import type { Position } from '../position/position.ts'
import type { Txid } from '../position/txid.ts'
import { DATABASE_NAME_BYTES_MAX } from './stream-frame.ts'
import { decodeText } from './wire-text.ts'

/** Most databases in a map. */
export const POSITION_MAP_ENTRIES_MAX = 65536
/** Longest encoded map. Who collects a request body stops there. */
export const POSITION_MAP_BYTES_MAX = 4 + POSITION_MAP_ENTRIES_MAX * (4 + DATABASE_NAME_BYTES_MAX + 16)

/** @param positions by database name */
export function encodePositionMap(positions: ReadonlyMap<string, Position>): Buffer {
  assert(positions.size <= POSITION_MAP_ENTRIES_MAX, `position map of ${positions.size} databases`)
  const entries = [...positions].map(([name, position]) => ({ name: Buffer.from(name), position }))
  entries.sort((a, b) => a.name.compare(b.name))
  const count = Buffer.alloc(4)
  count.writeUInt32BE(entries.length)
  const parts: Buffer[] = [count]
  for (const { name, position } of entries) {
    assert(
      name.length > 0 && name.length <= DATABASE_NAME_BYTES_MAX,
      `a name of ${name.length} bytes in a position map`,
    )
    const length = Buffer.alloc(4)
    length.writeUInt32BE(name.length)
    const numbers = Buffer.alloc(16)
    numbers.writeBigUInt64BE(position.txid, 0)
    numbers.writeBigUInt64BE(position.checksum, 8)
    parts.push(length, name, numbers)
  }
  return Buffer.concat(parts)
}

/** Reads a whole map. @throws ClusterError `INVALID_REQUEST` */
export function parsePositionMap(bytes: Uint8Array): Map<string, Position> {
  const map = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const positions = new Map<string, Position>()
  const need = (at: number, fieldBytes: number): void => {
    if (at + fieldBytes > map.length) throw malformed(`it ends after ${map.length} bytes`)
  }
  need(0, 4)
  const count = map.readUInt32BE(0)
  if (count > POSITION_MAP_ENTRIES_MAX) throw malformed(`${count} databases`)
  let at = 4
  for (let i = 0; i < count; i++) {
    need(at, 4)
    const nameBytes = map.readUInt32BE(at)
    at += 4
    if (nameBytes === 0 || nameBytes > DATABASE_NAME_BYTES_MAX) throw malformed(`a name of ${nameBytes} bytes`)
    need(at, nameBytes + 16)
    const name = decodeText(map.subarray(at, at + nameBytes))
    at += nameBytes
    if (name === undefined) throw malformed('a name is not UTF-8')
    if (positions.has(name)) throw malformed(`database "${name}" twice`)
    positions.set(name, readPosition(map, at, name))
    at += 16
  }
  if (at !== map.length) throw malformed(`${map.length - at} bytes follow`)
  return positions
}

function readPosition(map: Buffer, at: number, name: string): Position {
  const value = map.readBigUInt64BE(at + 8)
  try {
    return { txid: map.readBigUInt64BE(at) as Txid, checksum: checksum(value) }
  } catch (cause) {
    throw malformed(`the checksum of database "${name}" has no flag`, cause)
  }
}

function malformed(reason: string, cause?: unknown): ClusterError {
  return new ClusterError('INVALID_REQUEST', `position map: ${reason}`, { cause })
}
