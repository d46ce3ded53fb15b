/**
 * One segment file of the log (bytes: segment-format.ts) with its index and at most one descriptor.
 *
 * Relies on: one owner, which appends to its newest segment only.
 * Promises: `bytes` and the index speak of whole records only; `syncedBytes` of them survive a power cut. A descriptor is
 * never closed under a running `fdatasync`: its number could be another file's by then.
 */
import path from 'node:path'
import { ClusterError } from '../errors/cluster-error.ts'
import type { Disk } from '../files/disk.ts'
import type { LtxRecord } from '../ltx/ltx-record.ts'
import type { Epoch } from '../position/epoch.ts'
import {
  ENVELOPE_BYTES,
  encodeSegmentHeader,
  type LogTail,
  requestsBlockBytes,
  SEGMENT_HEADER_BYTES,
  type SegmentHeader,
  segmentName,
  writeEnvelope,
  writeRequestsBlock,
} from './segment-format.ts'
import { SegmentIndex } from './segment-index.ts'
import type { TailCache } from './tail-cache.ts'

const REWRITE_BYTES = 1024 * 1024

/** One record and the epoch of the primary that wrote it. */
export interface LogEntry {
  readonly epoch: Epoch
  readonly record: LtxRecord
  /** What the transaction was asked for, as `request-journal.ts` encodes it; only the node that ran it knows. */
  readonly requests?: Buffer | undefined
}

/** Bytes an entry takes in a segment. */
export function entryBytes({ record, requests }: LogEntry): number {
  return ENVELOPE_BYTES + record.bytes.length + requestsBlockBytes(requests)
}

export class Segment {
  readonly file: string
  /** The position before its first record. */
  readonly base: LogTail
  /** False in one that an earlier release began: requests are not written to it. */
  readonly takesRequests: boolean
  readonly index = new SegmentIndex()
  readonly #disk: Disk
  #bytes = SEGMENT_HEADER_BYTES
  #syncedBytes = 0
  #end: LogTail
  #fd: number | undefined
  #flushes = 0
  #isClosing = false
  /** Counts truncations: a sync that ran over one proves nothing about the bytes written after it. */
  #truncations = 0

  constructor(disk: Disk, file: string, { base, takesRequests }: SegmentHeader) {
    this.#disk = disk
    this.file = file
    this.base = base
    this.takesRequests = takesRequests
    this.#end = base
  }

  /**
   * Makes a new file with a durable header; the name is made durable by the caller. A file of that name is overwritten.
   * The header has to be durable because it alone says where the log stands once older segments are pruned.
   */
  static create(disk: Disk, directory: string, base: LogTail): Segment {
    const segment = new Segment(disk, path.join(directory, segmentName(base)), { base, takesRequests: true })
    segment.#fd = disk.open('log.new-segment', segment.file, 'w+')
    try {
      disk.write('log.new-segment', segment.#fd, encodeSegmentHeader(base), 0, SEGMENT_HEADER_BYTES, 0)
      segment.syncNow()
    } catch (error) {
      segment.close()
      disk.remove('log.new-segment', segment.file)
      throw error
    }
    return segment
  }

  /** Size of header and whole records. */
  get bytes(): number {
    return this.#bytes
  }

  get syncedBytes(): number {
    return this.#syncedBytes
  }

  /** The position after its last record. */
  get end(): LogTail {
    return this.#end
  }

  /** For recovery, which finds out what a file holds: notes one record that stands behind those known. */
  note(ltxBytes: number, end: LogTail, timestampMs: number): void {
    this.index.push(this.#bytes, ltxBytes, end.position.checksum, timestampMs)
    this.#bytes += ENVELOPE_BYTES + ltxBytes
    this.#end = end
  }

  /** Notes a block of requests behind the record noted last. */
  noteRequests(blockBytes: number): void {
    this.#bytes += blockBytes
  }

  /** Where the block of requests behind record `i` stands, and how long it is; 0 bytes when there is none. */
  requestsAt(i: number): { readonly offset: number; readonly bytes: number } {
    const offset = this.index.offset(i) + ENVELOPE_BYTES + this.index.ltxBytes(i)
    const next = i + 1 < this.index.count ? this.index.offset(i + 1) : this.#bytes
    return { offset, bytes: next - offset }
  }

  /** For recovery: what the file holds was made durable. */
  noteSynced(): void {
    this.#syncedBytes = this.#bytes
  }

  /**
   * Writes entries of `length` bytes behind the last record: in one write from the cache, which keeps them, or without a
   * cache each from its own buffers. When it throws, the file may hold a part of them and the caller calls `truncate`.
   */
  append(entries: readonly LogEntry[], length: number, cache: TailCache | undefined): void {
    if (cache === undefined) this.#writeEach(entries)
    else this.#writeGathered(entries, length, cache)
    for (const { epoch, record, requests } of entries) {
      this.note(record.bytes.length, { position: record.postApply, epoch }, record.header.timestampMs)
      this.noteRequests(requestsBlockBytes(requests))
    }
  }

  #writeGathered(entries: readonly LogEntry[], length: number, cache: TailCache): void {
    const { buffer, from } = cache.reserve(this, this.#bytes, length)
    let at = from
    for (const entry of entries) {
      const { epoch, record, requests } = entry
      writeEnvelope(buffer, at, { ltxBytes: record.bytes.length, epoch, txid: record.txid })
      record.bytes.copy(buffer, at + ENVELOPE_BYTES)
      if (requests !== undefined)
        writeRequestsBlock(buffer, at + ENVELOPE_BYTES + record.bytes.length, record.txid, requests)
      at += entryBytes(entry)
    }
    this.#disk.write('log.append', this.fd(), buffer, from, length, this.#bytes)
  }

  #writeEach(entries: readonly LogEntry[]): void {
    let at = this.#bytes
    const write = (bytes: Buffer): void => {
      this.#disk.write('log.append', this.fd(), bytes, 0, bytes.length, at)
      at += bytes.length
    }
    for (const { epoch, record, requests } of entries) {
      const envelope = Buffer.alloc(ENVELOPE_BYTES)
      writeEnvelope(envelope, 0, { ltxBytes: record.bytes.length, epoch, txid: record.txid })
      write(envelope)
      write(record.bytes)
      if (requests === undefined) continue
      const block = Buffer.allocUnsafe(requestsBlockBytes(requests))
      writeRequestsBlock(block, 0, record.txid, requests)
      write(block)
    }
  }

  /** Cuts the file to `bytes`, where `count` records and `end` are. */
  truncate(bytes: number, count: number, end: LogTail): void {
    this.#disk.truncate('log.truncate', this.fd(), bytes)
    this.#truncations++
    this.#bytes = bytes
    this.#syncedBytes = Math.min(this.#syncedBytes, bytes)
    this.#end = end
    this.index.truncate(count)
  }

  /**
   * Writes once more what was never synced, after a sync that failed: the kernel may take those pages for clean, and would say at the next
   * sync that all is well. Throws with a part of it written.
   */
  rewriteUnsynced(): void {
    const buffer = Buffer.allocUnsafe(Math.min(REWRITE_BYTES, this.#bytes - this.#syncedBytes))
    for (let at = this.#syncedBytes; at < this.#bytes; at += buffer.length) {
      const length = Math.min(buffer.length, this.#bytes - at)
      if (!this.read(buffer, at, length))
        throw new ClusterError('STORAGE_FAILED', `${this.file} ends before byte ${at + length}`)
      this.#disk.write('log.rewrite', this.fd(), buffer, 0, length, at)
    }
  }

  /** Cuts off the file what was never synced, and only there: the index goes on speaking of it. */
  cutUnsynced(): void {
    this.#disk.truncate('log.truncate', this.fd(), this.#syncedBytes)
  }

  /** Reads `length` bytes at `offset` into `target`; false when the file is shorter. */
  read(target: Buffer, offset: number, length: number): boolean {
    return this.#disk.read('log.read', this.fd(), target, 0, length, offset) === length
  }

  /** Makes everything appended so far durable, off the event loop. False when the file was truncated meanwhile. */
  async sync(): Promise<boolean> {
    const bytes = this.#bytes
    const truncations = this.#truncations
    const fd = this.fd()
    this.#flushes++
    try {
      await this.#disk.dataSync('log.sync', fd)
    } finally {
      this.#flushes--
      if (this.#isClosing) this.close()
    }
    if (truncations !== this.#truncations) return false
    this.#syncedBytes = Math.max(this.#syncedBytes, bytes)
    return true
  }

  /** The same, blocking. */
  syncNow(): void {
    this.#disk.dataSyncNow('log.sync', this.fd())
    this.#syncedBytes = this.#bytes
  }

  /** The descriptor, opened when there is none. */
  fd(): number {
    this.#fd ??= this.#disk.open('log.open-segment', this.file, 'r+')
    return this.#fd
  }

  /**
   * Closes the descriptor, at the end of a running sync if there is one. Using the segment opens it again. An error says nothing:
   * what has to be durable was synced before, and the descriptor is gone whatever the answer.
   */
  close(): void {
    this.#isClosing = this.#flushes > 0
    if (this.#isClosing || this.#fd === undefined) return
    const fd = this.#fd
    this.#fd = undefined
    try {
      this.#disk.close('log.close-segment', fd)
    } catch {
      // See above: taken for a failed sync, it would cost records that are whole.
    }
  }
}
