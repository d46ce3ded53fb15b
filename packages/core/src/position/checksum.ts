/**
 * A LiteFS checksum: CRC-64/GO-ISO with bit 63 set to say "present"; 0 means "none".
 * Text form: 16 lowercase hex digits.
 */
declare const brand: unique symbol
export type Checksum = bigint & { readonly [brand]: 'Checksum' }

export const CHECKSUM_FLAG = 1n << 63n
/** No checksum: the position before the first transaction. */
export const NO_CHECKSUM = 0n as Checksum
/** The checksum of a database without pages (dropped or empty). */
export const EMPTY_CHECKSUM = CHECKSUM_FLAG as Checksum

/** Brands a checksum read from outside: 0, or a 64-bit value with the flag. Throws `RangeError`. */
export function checksum(value: bigint): Checksum {
  if (value !== 0n && (value < CHECKSUM_FLAG || value >> 64n !== 0n))
    throw new RangeError(`not a checksum: ${value.toString(16)}`)
  return value as Checksum
}

/** Builds a checksum from its two 32-bit halves and sets the flag. */
export function checksumFromHalves(high: number, low: number): Checksum {
  return ((BigInt((high | 0x80000000) >>> 0) << 32n) | BigInt(low >>> 0)) as Checksum
}

export function formatChecksum(value: Checksum): string {
  return value.toString(16).padStart(16, '0')
}

/** Parses exactly 16 lowercase hex digits that are 0 or carry the flag; `undefined` for anything else. */
export function parseChecksum(text: string): Checksum | undefined {
  if (!/^[0-9a-f]{16}$/.test(text)) return undefined
  const value = BigInt(`0x${text}`)
  return value === 0n || value >= CHECKSUM_FLAG ? (value as Checksum) : undefined
}
