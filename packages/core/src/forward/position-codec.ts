/** A position in the compact form of the channel: value txid, value checksum, both as signed 64-bit integers. */
import { ClusterError } from '../errors/cluster-error.ts'
import { checksum } from '../position/checksum.ts'
import type { Position } from '../position/position.ts'
import { txid } from '../position/txid.ts'
import type { PlainReader } from '../request/plain-reader.ts'
import type { PlainWriter } from '../request/plain-writer.ts'

export function writePosition(writer: PlainWriter, position: Position): void {
  writer.value(BigInt.asIntN(64, position.txid))
  writer.value(BigInt.asIntN(64, position.checksum))
}

/** @throws CORRUPT_DATA, RangeError */
export function readPosition(reader: PlainReader): Position {
  return { txid: txid(read64(reader)), checksum: checksum(read64(reader)) }
}

function read64(reader: PlainReader): bigint {
  const value = reader.value()
  if (typeof value === 'bigint') return BigInt.asUintN(64, value)
  throw new ClusterError('CORRUPT_DATA', 'an encoded position is damaged')
}
