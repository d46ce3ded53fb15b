/**
 * Writes plain values and SQL values as bytes, exactly: what `PlainReader` reads back is deeply equal, with -0, NaN, bigint,
 * `undefined`, `Date`, strings that are not well-formed Unicode, and `Buffer` told from `Uint8Array`.
 *
 * One byte says what follows:
 *   0 null · 1 undefined · 2 false · 3 true
 *   4 integer ≥ 0, varint · 5 integer < 0, varint of its opposite · 6 double, 8 bytes big-endian
 *   7 bigint that fits 64 bits, 8 bytes big-endian · 8 other bigint, its decimal digits as a string
 *   9 string, varint byte length, UTF-8 · 10 string, varint byte length, UTF-16LE (not well-formed)
 *   11 Uint8Array, varint length · 12 Buffer, varint length · 13 Date, double
 *   14 array, varint count, values · 15 object, varint count, (string with its tag, value) …
 *   64 … 255 the integer 0 … 191
 * A varint holds 7 bits per byte, lowest first, high bit set on all but the last.
 *
 * Canonical form, for hashing: keys sorted, every kind of bytes written as 11. Equal requests then give equal bytes whatever
 * order their keys were in and whether or not they crossed the network.
 */
import { ClusterError } from '../errors/cluster-error.ts'
import type { PlainValue } from './plain-value.ts'
import type { SqlValue } from './sql-value.ts'

export const TAG = {
  null: 0,
  undefined: 1,
  false: 2,
  true: 3,
  positive: 4,
  negative: 5,
  double: 6,
  bigint64: 7,
  bigintDigits: 8,
  utf8: 9,
  utf16: 10,
  bytes: 11,
  buffer: 12,
  date: 13,
  array: 14,
  object: 15,
  small: 64,
} as const

/** Arrays and objects inside one another; deeper is taken for a cycle. */
export const DEPTH_MAX = 100

export interface PlainWriterOptions {
  /** Default: false. */
  readonly canonical?: boolean | undefined
  /** Default: 2^31 − 1. */
  readonly bytesMax?: number | undefined
}

/** Thrown by a writer that reached its `bytesMax`. */
export class WriterFull extends Error {
  override readonly name = 'WriterFull'
}

/** Reused by its owner: `reset()` starts the next value in the same memory. */
export class PlainWriter {
  readonly isCanonical: boolean
  readonly #bytesMax: number
  #bytes = Buffer.allocUnsafe(1024)
  #at = 0

  constructor(options: PlainWriterOptions = {}) {
    this.isCanonical = options.canonical ?? false
    this.#bytesMax = options.bytesMax ?? 0x7fffffff
  }

  /** What was written since the last reset. Valid until the next call. */
  get written(): Buffer {
    return this.#bytes.subarray(0, this.#at)
  }

  get length(): number {
    return this.#at
  }

  /** The first `length` bytes written, for keeps. */
  copy(length = this.#at): Buffer {
    const copy = Buffer.allocUnsafe(length)
    this.#bytes.copy(copy, 0, 0, length)
    return copy
  }

  reset(): void {
    this.#at = 0
    // One large value must not keep its memory for ever.
    if (this.#bytes.length > 1 << 20) this.#bytes = Buffer.allocUnsafe(1024)
  }

  /** @throws INVALID_REQUEST for what is not a plain value, WriterFull */
  value(value: PlainValue | SqlValue, depth = 0): void {
    switch (typeof value) {
      case 'string':
        return this.string(value)
      case 'number':
        return this.#number(value)
      case 'bigint':
        return this.#bigint(value)
      case 'boolean':
        return this.byte(value ? TAG.true : TAG.false)
      case 'undefined':
        return this.byte(TAG.undefined)
      case 'object':
        return value === null ? this.byte(TAG.null) : this.#object(value, depth)
      default:
        throw notPlain(value)
    }
  }

  byte(value: number): void {
    this.#reserve(1)
    this.#bytes[this.#at++] = value
  }

  /** The bytes of a string that has one character per byte, without a tag. */
  latin1(text: string): void {
    this.#reserve(text.length)
    this.#at += this.#bytes.write(text, this.#at, 'latin1')
  }

  /** An integer 0 … 2^53-1. */
  varint(value: number): void {
    this.#reserve(8)
    let rest = value
    while (rest > 0x7fffffff) {
      this.#bytes[this.#at++] = (rest % 128) | 0x80
      rest = Math.floor(rest / 128)
    }
    while (rest > 0x7f) {
      this.#bytes[this.#at++] = (rest & 0x7f) | 0x80
      rest >>>= 7
    }
    this.#bytes[this.#at++] = rest
  }

  string(value: string): void {
    if (!value.isWellFormed()) return this.#raw(TAG.utf16, Buffer.from(value, 'utf16le'))
    // A length in one byte when even the longest UTF-8 form fits: then no second pass is needed to know it.
    if (value.length <= 42) {
      this.#reserve(2 + value.length * 3)
      const start = this.#at + 2
      const length = this.#bytes.write(value, start)
      this.#bytes[this.#at] = TAG.utf8
      this.#bytes[this.#at + 1] = length
      this.#at = start + length
      return
    }
    const length = Buffer.byteLength(value)
    this.byte(TAG.utf8)
    this.varint(length)
    this.#reserve(length)
    this.#at += this.#bytes.write(value, this.#at)
  }

  #number(value: number): void {
    if (!Number.isSafeInteger(value) || Object.is(value, -0)) return this.#double(TAG.double, value)
    if (value >= 0 && value < 256 - TAG.small) return this.byte(TAG.small + value)
    this.byte(value < 0 ? TAG.negative : TAG.positive)
    this.varint(Math.abs(value))
  }

  #double(tag: number, value: number): void {
    this.#reserve(9)
    this.#bytes[this.#at] = tag
    // Every NaN is written alike; JavaScript cannot tell them apart.
    this.#bytes.writeDoubleBE(Number.isNaN(value) ? Number.NaN : value, this.#at + 1)
    this.#at += 9
  }

  #bigint(value: bigint): void {
    if (BigInt.asIntN(64, value) !== value) {
      this.byte(TAG.bigintDigits)
      return this.string(value.toString())
    }
    this.#reserve(9)
    this.#bytes[this.#at] = TAG.bigint64
    this.#bytes.writeBigInt64BE(value, this.#at + 1)
    this.#at += 9
  }

  #object(value: object, depth: number): void {
    if (depth >= DEPTH_MAX) {
      throw new ClusterError('INVALID_REQUEST', `a value is nested deeper than ${DEPTH_MAX} levels, or contains itself`)
    }
    if (Array.isArray(value)) {
      this.byte(TAG.array)
      this.varint(value.length)
      // By index, so that a hole is written as undefined.
      for (let i = 0; i < value.length; i++) this.value(value[i] as PlainValue, depth + 1)
      return
    }
    if (ArrayBuffer.isView(value)) return this.#view(value)
    if (value instanceof Date) return this.#double(TAG.date, value.getTime())
    if (!isPlainObject(value)) throw notPlain(value)
    const keys = Object.keys(value)
    if (this.isCanonical) keys.sort()
    this.byte(TAG.object)
    this.varint(keys.length)
    for (const key of keys) {
      this.string(key)
      this.value((value as Record<string, PlainValue>)[key], depth + 1)
    }
  }

  #view(value: ArrayBufferView): void {
    const isBytes = value instanceof Uint8Array
    if (!isBytes && !this.isCanonical) throw notPlain(value)
    const bytes = isBytes ? value : new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
    this.#raw(Buffer.isBuffer(value) && !this.isCanonical ? TAG.buffer : TAG.bytes, bytes)
  }

  #raw(tag: number, bytes: Uint8Array): void {
    this.byte(tag)
    this.varint(bytes.length)
    this.#reserve(bytes.length)
    this.#bytes.set(bytes, this.#at)
    this.#at += bytes.length
  }

  #reserve(count: number): void {
    const needed = this.#at + count
    if (needed <= this.#bytes.length) return
    if (needed > this.#bytesMax) throw new WriterFull(`more than ${this.#bytesMax} bytes`)
    const grown = Buffer.allocUnsafe(Math.max(needed, this.#bytes.length * 2))
    this.#bytes.copy(grown, 0, 0, this.#at)
    this.#bytes = grown
  }
}

/** An object literal or the like: its prototype is null, or a top one (of any realm). */
export function isPlainObject(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === null || prototype === Object.prototype || Object.getPrototypeOf(prototype) === null
}

/** The error for a value that is not plain. */
export function notPlain(value: unknown): ClusterError {
  const name = typeof value === 'object' && value !== null ? (value.constructor?.name ?? 'object') : typeof value
  return new ClusterError('INVALID_REQUEST', `a ${name} cannot cross between nodes`, {
    hint: 'Use null, booleans, numbers, bigints, strings, Uint8Array, Date, and arrays and plain objects of them.',
  })
}
