/**
 * Transaction id of one database: starts at 0 (nothing written), one more for each committed transaction.
 * Text form: 16 lowercase hex digits, as in LiteFS file names and `-pos` files.
 */
declare const brand: unique symbol
export type Txid = bigint & { readonly [brand]: 'Txid' }

export const ZERO_TXID = 0n as Txid
const MAX = (1n << 64n) - 1n

/** Checks the range (0 … 2^64-1) and brands. Throws `RangeError`. */
export function txid(value: bigint): Txid {
  if (value < 0n || value > MAX) throw new RangeError(`TXID out of range: ${value}`)
  return value as Txid
}

export function nextTxid(value: Txid): Txid {
  return txid(value + 1n)
}

export function formatTxid(value: Txid): string {
  return value.toString(16).padStart(16, '0')
}

/** Parses exactly 16 lowercase hex digits; `undefined` for anything else. */
export function parseTxid(text: string): Txid | undefined {
  return /^[0-9a-f]{16}$/.test(text) ? (BigInt(`0x${text}`) as Txid) : undefined
}
