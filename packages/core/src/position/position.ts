/**
 * Where a database stands: its TXID and the checksum of the whole database after it.
 *
 * The pair, not the number, names a state: two histories can both have a TXID 7, only one of them has this checksum.
 * Text form (LiteFS `-pos` files): `<txid>/<checksum>`, 33 characters.
 */
import { type Checksum, formatChecksum, NO_CHECKSUM, parseChecksum } from './checksum.ts'
import { formatTxid, parseTxid, type Txid, ZERO_TXID } from './txid.ts'

export interface Position {
  readonly txid: Txid
  readonly checksum: Checksum
}

/** Nothing written yet. */
export const ZERO_POSITION: Position = Object.freeze({ txid: ZERO_TXID, checksum: NO_CHECKSUM })

export function samePosition(a: Position, b: Position): boolean {
  return a.txid === b.txid && a.checksum === b.checksum
}

export function formatPosition(position: Position): string {
  return `${formatTxid(position.txid)}/${formatChecksum(position.checksum)}`
}

/** Parses the text form; `undefined` when it is not one. */
export function parsePosition(text: string): Position | undefined {
  const [left, right, ...rest] = text.split('/')
  if (left === undefined || right === undefined || rest.length > 0) return undefined
  const txid = parseTxid(left)
  const checksum = parseChecksum(right)
  return txid === undefined || checksum === undefined ? undefined : { txid, checksum }
}
