/**
 * xxHash32, the checksum inside LZ4 frames (LZ4 Frame Format 1.6: descriptor byte and content checksum, both with seed 0),
 * after the xxHash specification 0.1.1. Incremental: any number of `update` calls gives the hash of the joined bytes.
 */
const PRIME_1 = 0x9e3779b1 | 0
const PRIME_2 = 0x85ebca77 | 0
const PRIME_3 = 0xc2b2ae3d | 0
const PRIME_4 = 0x27d4eb2f | 0
const PRIME_5 = 0x165667b1 | 0
const STRIPE_BYTES = 16

export class Xxh32 {
  /** The four accumulators. */
  readonly #lanes = Int32Array.of((PRIME_1 + PRIME_2) | 0, PRIME_2, 0, -PRIME_1)
  /** Bytes that do not fill a stripe yet. */
  readonly #rest = new Uint8Array(STRIPE_BYTES)
  #restBytes = 0
  #totalBytes = 0

  update(bytes: Uint8Array): this {
    let at = 0
    this.#totalBytes += bytes.length
    if (this.#restBytes > 0) {
      at = Math.min(STRIPE_BYTES - this.#restBytes, bytes.length)
      this.#rest.set(bytes.subarray(0, at), this.#restBytes)
      this.#restBytes += at
      if (this.#restBytes < STRIPE_BYTES) return this
      this.#stripes(this.#rest, 0, STRIPE_BYTES)
      this.#restBytes = 0
    }
    const end = bytes.length - ((bytes.length - at) % STRIPE_BYTES)
    this.#stripes(bytes, at, end)
    this.#rest.set(bytes.subarray(end))
    this.#restBytes = bytes.length - end
    return this
  }

  /** The hash of everything so far, unsigned. */
  digest(): number {
    const lanes = this.#lanes
    let hash =
      this.#totalBytes >= STRIPE_BYTES
        ? rotate(lanes[0]!, 1) + rotate(lanes[1]!, 7) + rotate(lanes[2]!, 12) + rotate(lanes[3]!, 18)
        : PRIME_5
    hash = (hash + this.#totalBytes) | 0
    const view = new DataView(this.#rest.buffer)
    let at = 0
    for (; at + 4 <= this.#restBytes; at += 4)
      hash = Math.imul(rotate((hash + Math.imul(view.getInt32(at, true), PRIME_3)) | 0, 17), PRIME_4)
    for (; at < this.#restBytes; at++)
      hash = Math.imul(rotate((hash + Math.imul(view.getUint8(at), PRIME_5)) | 0, 11), PRIME_1)
    hash = Math.imul(hash ^ (hash >>> 15), PRIME_2)
    hash = Math.imul(hash ^ (hash >>> 13), PRIME_3)
    return (hash ^ (hash >>> 16)) >>> 0
  }

  #stripes(bytes: Uint8Array, start: number, end: number): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const lanes = this.#lanes
    let a = lanes[0]!
    let b = lanes[1]!
    let c = lanes[2]!
    let d = lanes[3]!
    for (let at = start; at < end; at += STRIPE_BYTES) {
      a = round(a, view.getInt32(at, true))
      b = round(b, view.getInt32(at + 4, true))
      c = round(c, view.getInt32(at + 8, true))
      d = round(d, view.getInt32(at + 12, true))
    }
    lanes[0] = a
    lanes[1] = b
    lanes[2] = c
    lanes[3] = d
  }
}

function round(lane: number, word: number): number {
  return Math.imul(rotate((lane + Math.imul(word, PRIME_2)) | 0, 13), PRIME_1)
}

function rotate(x: number, bits: number): number {
  return (x << bits) | (x >>> (32 - bits))
}
