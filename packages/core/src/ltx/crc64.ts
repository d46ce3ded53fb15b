/**
 * CRC-64/GO-ISO, the checksum of LiteFS and LTX (Go's `hash/crc64` with the table `ISO`): polynomial
 * x^64 + x^4 + x^3 + x + 1, reflected, all ones at the start and in the final exclusive-or. "123456789" gives
 * b90956c775a41001.
 *
 * No table: with so few terms, 64 bits of input are folded by shifts. The register holds the coefficient of x^(63-i) in
 * bit i, so a multiplication by x^k is a shift right by k; what leaves the register stands for x^64 and more, and comes
 * back multiplied by x^4 + x^3 + x + 1 = (x^3 + 1)(x + 1): two short steps instead of four terms. JavaScript has no fast
 * 64-bit integer, hence halves of 32 bits everywhere. Several lanes at once are slower: too many live values.
 *
 * `Crc64Appender` multiplies by x^(8n) for one fixed n, which is what appending n bytes does to the CRC of everything
 * before them. With it the file checksum of an LTX is made from the CRCs of its pages without reading them twice.
 */
import { assert } from '../base/assert.ts'
import { byteSwap32 } from '../sqlite-format/wal-checksum.ts'

/** The running CRC of a sequence of bytes. */
export class Crc64 {
  /** The register before the final exclusive-or: low half, high half. */
  readonly #state = Int32Array.of(-1, -1)

  /** Upper 32 bits of the CRC of everything so far, unsigned. */
  get high(): number {
    return ~this.#state[1]! >>> 0
  }

  /** Lower 32 bits of the CRC of everything so far, unsigned. */
  get low(): number {
    return ~this.#state[0]! >>> 0
  }

  /** Back to the CRC of no bytes, which is 0. */
  reset(): this {
    this.#state[0] = -1
    this.#state[1] = -1
    return this
  }

  update(bytes: Uint8Array, start = 0, end = bytes.length): this {
    assert(start >= 0 && start <= end && end <= bytes.length, `CRC over bytes ${start}–${end} of ${bytes.length}`)
    foldBytes(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), start, end, this.#state)
    return this
  }

  /** Continues with a number as four big-endian bytes. */
  updateUint32BE(value: number): this {
    foldUint32BE(value, this.#state)
    return this
  }

  /** Continues with a block of `appender.blockBytes` bytes of which only the CRC is given. */
  append(appender: Crc64Appender, blockHigh: number, blockLow: number): this {
    const state = this.#state
    appender.shift(~state[1]!, ~state[0]!)
    state[1] = ~(appender.high ^ blockHigh)
    state[0] = ~(appender.low ^ blockLow)
    return this
  }
}

/** Multiplies CRCs by x^(8 · blockBytes): see `Crc64.append`. Its tables take 16 KiB; make one per block length and keep it. */
export class Crc64Appender {
  readonly blockBytes: number
  /** For byte position p of the operand and its value v: low half at (p * 256 + v) * 2, then high half. */
  readonly #table = new Int32Array(8 * 256 * 2)
  readonly #result = new Int32Array(2)

  constructor(blockBytes: number) {
    assert(Number.isSafeInteger(blockBytes) && blockBytes >= 0, `CRC block of ${blockBytes} bytes`)
    this.blockBytes = blockBytes
    const factor = powerOfX(blockBytes * 8)
    const table = this.#table
    // A bit of the operand stands for one power of x; going down from x^0 (bit 63) each one is the last times x.
    let image = factor
    for (let bit = 63; bit >= 0; bit--) {
      const base = (bit >>> 3) * 512
      const step = 1 << (bit & 7)
      table[(step << 1) + base] = image.low
      table[(step << 1) + base + 1] = image.high
      image = timesX(image)
    }
    for (let position = 0; position < 8; position++) {
      const base = position * 512
      for (let value = 1; value < 256; value++) {
        const lowest = value & -value
        if (lowest === value) continue
        const rest = value ^ lowest
        table[base + value * 2] = table[base + lowest * 2]! ^ table[base + rest * 2]!
        table[base + value * 2 + 1] = table[base + lowest * 2 + 1]! ^ table[base + rest * 2 + 1]!
      }
    }
  }

  /** Halves of the last product, signed. */
  get high(): number {
    return this.#result[1]!
  }

  get low(): number {
    return this.#result[0]!
  }

  /** Multiplies; the product is in `high` and `low` until the next call. */
  shift(high: number, low: number): void {
    const t = this.#table
    const a = (low & 255) << 1
    const b = 512 + (((low >>> 8) & 255) << 1)
    const c = 1024 + (((low >>> 16) & 255) << 1)
    const d = 1536 + ((low >>> 24) << 1)
    const e = 2048 + ((high & 255) << 1)
    const f = 2560 + (((high >>> 8) & 255) << 1)
    const g = 3072 + (((high >>> 16) & 255) << 1)
    const h = 3584 + ((high >>> 24) << 1)
    this.#result[0] = t[a]! ^ t[b]! ^ t[c]! ^ t[d]! ^ t[e]! ^ t[f]! ^ t[g]! ^ t[h]!
    this.#result[1] = t[a + 1]! ^ t[b + 1]! ^ t[c + 1]! ^ t[d + 1]! ^ t[e + 1]! ^ t[f + 1]! ^ t[g + 1]! ^ t[h + 1]!
  }
}

/**
 * Continues a raw register over bytes `start` to `end` of a view. For hot paths that keep their own view.
 * @param state the register before the final exclusive-or: low half, high half
 */
export function foldBytes(view: DataView, start: number, end: number, state: Int32Array): void {
  let low = state[0]!
  let high = state[1]!
  let at = start
  for (const last = end - 8; at <= last; at += 8) {
    const l = low ^ view.getInt32(at, true)
    const h = high ^ view.getInt32(at + 4, true)
    const l1 = l ^ ((l >>> 1) | (h << 31))
    const h1 = h ^ (h >>> 1)
    const over1 = l << 31
    const over = over1 ^ ((over1 >>> 3) | (l1 << 29))
    const back = over ^ (over >>> 1)
    low = l1 ^ ((l1 >>> 3) | (h1 << 29))
    high = h1 ^ (h1 >>> 3) ^ back ^ (back >>> 3)
  }
  for (; at < end; at++) {
    const t = ((low ^ view.getUint8(at)) & 255) << 24
    low = (low >>> 8) | (high << 24)
    high = (high >>> 8) ^ t ^ (t >>> 1) ^ (t >>> 3) ^ (t >>> 4)
  }
  state[0] = low
  state[1] = high
}

/** Continues a raw register with a number as four big-endian bytes. */
export function foldUint32BE(value: number, state: Int32Array): void {
  const l = state[0]! ^ byteSwap32(value)
  state[0] = state[1]! ^ (l << 31) ^ (l << 29) ^ (l << 28)
  state[1] = l ^ (l >>> 1) ^ (l >>> 3) ^ (l >>> 4)
}

/** A CRC, or a polynomial: coefficient of x^(63-i) in bit i of the 64 bits. Signed or unsigned halves. */
export interface Halves {
  readonly high: number
  readonly low: number
}

/** The product with x^(8 · byteCount): what one difference in a CRC becomes after `byteCount` more bytes. Some microseconds. */
export function shiftByBytes(halves: Halves, byteCount: number): Halves {
  return multiply(halves, powerOfX(byteCount * 8))
}

function timesX({ high, low }: Halves): Halves {
  const over = low & 1
  return { high: (high >>> 1) ^ (-over & 0xd8000000), low: (low >>> 1) | (high << 31) }
}

/** x^exponent modulo the polynomial. */
function powerOfX(exponent: number): Halves {
  let result: Halves = { high: 0x80000000 | 0, low: 0 }
  let base: Halves = { high: 0x40000000, low: 0 }
  for (let rest = exponent; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) result = multiply(result, base)
    base = multiply(base, base)
  }
  return result
}

function multiply(a: Halves, b: Halves): Halves {
  let high = 0
  let low = 0
  let shifted = b
  for (let bit = 63; bit >= 0; bit--) {
    const mask = -(((bit >= 32 ? a.high : a.low) >>> (bit & 31)) & 1)
    high ^= shifted.high & mask
    low ^= shifted.low & mask
    shifted = timesX(shifted)
  }
  return { high, low }
}
