/** Reads what `PlainWriter` wrote. Throws `CORRUPT_DATA` for anything else, never reads beyond the end. */
import { ClusterError } from '../errors/cluster-error.ts'
import type { PlainValue } from './plain-value.ts'
import { DEPTH_MAX, TAG } from './plain-writer.ts'

export class PlainReader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length
  }

  value(depth = 0): PlainValue {
    const tag = this.byte()
    if (tag >= TAG.small) return tag - TAG.small
    switch (tag) {
      case TAG.null:
        return null
      case TAG.undefined:
        return undefined
      case TAG.false:
        return false
      case TAG.true:
        return true
      case TAG.positive:
        return this.varint()
      case TAG.negative:
        return -this.varint()
      case TAG.double:
        return this.#bytes.readDoubleBE(this.#take(8))
      case TAG.bigint64:
        return this.#bytes.readBigInt64BE(this.#take(8))
      case TAG.bigintDigits:
        return this.#bigintDigits()
      case TAG.utf8:
      case TAG.utf16:
        return this.#string(tag)
      case TAG.bytes:
        return new Uint8Array(this.#copy(this.varint()))
      case TAG.buffer:
        return this.#copy(this.varint())
      case TAG.date:
        return new Date(this.#bytes.readDoubleBE(this.#take(8)))
      case TAG.array:
        return this.#array(depth)
      case TAG.object:
        return this.#object(depth)
      default:
        throw damaged()
    }
  }

  byte(): number {
    return this.#bytes[this.#take(1)] as number
  }

  varint(): number {
    let value = 0
    for (let shift = 1; ; shift *= 128) {
      const byte = this.byte()
      value += (byte & 0x7f) * shift
      if (value > Number.MAX_SAFE_INTEGER) throw damaged()
      if (byte < 0x80) return value
    }
  }

  string(): string {
    return this.#string(this.byte())
  }

  /** What was not read yet; it counts as read. */
  rest(): Buffer {
    return this.#bytes.subarray(this.#take(this.#bytes.length - this.#at))
  }

  /** A count of things that take at least one byte each, so that damage cannot ask for endless memory. */
  count(): number {
    const count = this.varint()
    if (count > this.#bytes.length - this.#at) throw damaged()
    return count
  }

  #string(tag: number): string {
    if (tag !== TAG.utf8 && tag !== TAG.utf16) throw damaged()
    const length = this.varint()
    const start = this.#take(length)
    return this.#bytes.toString(tag === TAG.utf8 ? 'utf8' : 'utf16le', start, start + length)
  }

  #bigintDigits(): bigint {
    const digits = this.string()
    if (!/^-?\d+$/.test(digits)) throw damaged()
    return BigInt(digits)
  }

  #array(depth: number): PlainValue {
    if (depth >= DEPTH_MAX) throw damaged()
    const values: PlainValue[] = []
    for (let left = this.count(); left > 0; left--) values.push(this.value(depth + 1))
    return values
  }

  #object(depth: number): PlainValue {
    if (depth >= DEPTH_MAX) throw damaged()
    const object: Record<string, PlainValue> = {}
    for (let left = this.count(); left > 0; left--) setOwn(object, this.string(), this.value(depth + 1))
    return object
  }

  /** A copy, because the answer outlives the message it came in. */
  #copy(length: number): Buffer {
    const start = this.#take(length)
    return Buffer.from(this.#bytes.subarray(start, start + length))
  }

  #take(count: number): number {
    const start = this.#at
    if (count > this.#bytes.length - start) throw damaged()
    this.#at = start + count
    return start
  }
}

/** Assigns an own property whatever its name: `__proto__` would otherwise change the prototype. */
export function setOwn<T>(object: Record<string, T>, key: string, value: T): void {
  if (key === '__proto__')
    Object.defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true })
  else object[key] = value
}

function damaged(): ClusterError {
  return new ClusterError('CORRUPT_DATA', 'an encoded value is damaged')
}
