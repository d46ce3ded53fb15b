/**
 * The running checksum of SQLite's write-ahead log and wal-index header (SQLite "WAL-mode File Format", "Checksum
 * Algorithm"): two 32-bit sums over pairs of 32-bit words,
 *
 *     s0 += x[i] + s1
 *     s1 += x[i+1] + s0
 *
 * The words are read in the byte order that the magic of the WAL names. The words given here are native words of a
 * little-endian host; `bigEndian` swaps each one first. A state of (0, 0) starts a checksum.
 */

/**
 * Continues the checksum in `state` over `count` words.
 * @param words native words
 * @param start index of the first word
 * @param count number of words, even
 * @param state the two sums, read and replaced; `>>> 0` gives the unsigned value that SQLite stores
 * @param bigEndian true when the WAL's magic ends in 1
 */
export function walChecksum(
  words: Uint32Array,
  start: number,
  count: number,
  state: Int32Array,
  bigEndian: boolean,
): void {
  let s0 = state[0]!
  let s1 = state[1]!
  const end = start + count
  if (bigEndian) {
    for (let i = start; i < end; i += 2) {
      s0 = (s0 + swap(words[i]!) + s1) | 0
      s1 = (s1 + swap(words[i + 1]!) + s0) | 0
    }
  } else {
    for (let i = start; i < end; i += 2) {
      s0 = (s0 + words[i]! + s1) | 0
      s1 = (s1 + words[i + 1]! + s0) | 0
    }
  }
  state[0] = s0
  state[1] = s1
}

/** The 32-bit value with its four bytes reversed, unsigned. */
export function byteSwap32(x: number): number {
  return swap(x) >>> 0
}

function swap(x: number): number {
  return (x << 24) | ((x & 0xff00) << 8) | ((x >>> 8) & 0xff00) | (x >>> 24)
}
