/**
 * The newest bytes of the log, kept in memory exactly as they stand in the segment files.
 *
 * Bytes are collected in slabs. A byte that was written and indexed is never changed again, so that views into a slab may
 * be handed to slow readers; a slab that left the cache lives on for as long as somebody holds such a view.
 *
 * Promises: slabs in the cache take at most `bytesMax` bytes; at the bound the oldest leave. The file that owns the bytes
 * is compared by identity, so a replaced file of the same name is another owner.
 */
const SLAB_BYTES_MIN = 64 * 1024
const SLAB_BYTES_MAX = 512 * 1024

interface Slab {
  readonly owner: object
  /** Offset in the owner's file of the first byte of the slab. */
  readonly fileOffset: number
  readonly buffer: Buffer
  used: number
}

/** Bytes `from` … `to` of `buffer`. */
export interface CachedBytes {
  readonly buffer: Buffer
  readonly from: number
  readonly to: number
}

export class TailCache {
  readonly #bytesMax: number
  /** Oldest first. */
  readonly #slabs: Slab[] = []
  #bytes = 0

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  /** Bytes of memory the cache holds. */
  get bytes(): number {
    return this.#bytes
  }

  /** Room for `length` bytes that will stand at `fileOffset`; what the caller writes there is in the cache from then on. */
  reserve(owner: object, fileOffset: number, length: number): CachedBytes {
    const last = this.#slabs.at(-1)
    const slab =
      last !== undefined &&
      last.owner === owner &&
      last.fileOffset + last.used === fileOffset &&
      last.used + length <= last.buffer.length
        ? last
        : this.#addSlab(owner, fileOffset, length, last)
    const from = slab.used
    slab.used += length
    return { buffer: slab.buffer, from, to: slab.used }
  }

  /** All cached bytes from `fileOffset` on that are in one piece; `undefined` when that byte is not cached. */
  find(owner: object, fileOffset: number): CachedBytes | undefined {
    for (let i = this.#slabs.length - 1; i >= 0; i--) {
      const slab = this.#slabs[i]!
      const from = fileOffset - slab.fileOffset
      if (slab.owner === owner && from >= 0 && from < slab.used) return { buffer: slab.buffer, from, to: slab.used }
    }
    return undefined
  }

  /** Forgets what stands at `fileOffset` of the owner and behind. Only for bytes that nobody was given. */
  truncate(owner: object, fileOffset: number): void {
    for (let last = this.#slabs.at(-1); last !== undefined; last = this.#slabs.at(-1)) {
      if (last.owner !== owner || last.fileOffset + last.used <= fileOffset) return
      last.used = Math.max(0, fileOffset - last.fileOffset)
      if (last.used > 0) return
      this.#slabs.pop()
      this.#bytes -= last.buffer.length
    }
  }

  clear(): void {
    this.#slabs.length = 0
    this.#bytes = 0
  }

  #addSlab(owner: object, fileOffset: number, length: number, last: Slab | undefined): Slab {
    const wanted = Math.min(SLAB_BYTES_MAX, last === undefined ? SLAB_BYTES_MIN : last.buffer.length * 2)
    const size = Math.max(length, Math.min(wanted, this.#bytesMax))
    const slab = { owner, fileOffset, buffer: Buffer.allocUnsafeSlow(size), used: 0 }
    // What is larger than the whole cache is not kept, and what was kept before it stays.
    if (size > this.#bytesMax) return slab
    this.#slabs.push(slab)
    this.#bytes += size
    while (this.#bytes > this.#bytesMax) this.#bytes -= this.#slabs.shift()!.buffer.length
    return slab
  }
}
