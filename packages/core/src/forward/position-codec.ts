/** A position in the compact form of the channel: value txid, value checksum, both as signed 64-bit integers. */
import { ClusterError } from '../errors/cluster-error.ts'
import { CHECKSUM_FLAG, checksum, NO_CHECKSUM } from '../position/checksum.ts'
import type { Position } from '../position/position.ts'
import { txid } from '../position/txid.ts'
import type { PlainReader } from '../request/plain-reader.ts'
import type { PlainWriter } from '../request/plain-writer.ts'

export function writePosition(writer: PlainWriter, position: Position): void {
  writer.value(BigInt.asIntN(64, position.txid))
  writer.value(BigInt.asIntN(64, position.checksum))
}

/** @throws CORRUPT_DATA */
export function readPosition(reader: PlainReader): Position {
  const at = read64(reader)
  const sum = read64(reader)
  if (sum !== NO_CHECKSUM && sum < CHECKSUM_FLAG) throw damaged()
  return { txid: txid(at), checksum: checksum(sum) }
}

function read64(reader: PlainReader): bigint {
  const value = reader.value()
  if (typeof value === 'bigint') return BigInt.asUintN(64, value)
  throw damaged()
}

function damaged(): ClusterError {
  return new ClusterError('CORRUPT_DATA', 'an encoded position is damaged')
}
