/**
 * Reads one LTX (format: ltx-header.ts) of any size from chunks of any length, compressed or not.
 *
 * Promises: the same checks as `decodeLtxRecord`. Header rules and page order are checked as the pages come; whether the
 * bytes are the right ones is known only at the end, so nothing a visitor was given may be believed before `end` is called.
 * Memory: one page and, when compressed, one LZ4 block (64 KiB from LiteFS, at most 4 MiB).
 * After an error, its own or the visitor's, the reader refuses everything.
 */
import { ByteCollector } from '../base/byte-collector.ts'
import { LtxChecksummer } from './ltx-checksummer.ts'
import {
  corruptLtx,
  LTX_HEADER_BYTES,
  LTX_TRAILER_BYTES,
  type LtxHeader,
  type LtxTrailer,
  parseLtxHeader,
  parseLtxTrailer,
} from './ltx-header.ts'
import { Lz4FrameReader } from './lz4-frame.ts'
import { PAGE_HEADER_BYTES } from './page-checksum.ts'

export interface LtxVisitor {
  /** The header kept the rules of the format; the file checksum is not known yet. */
  header(header: LtxHeader): void
  /**
   * @param bytes the page, valid during the call
   * @param checksumHigh upper half of its checksum, flag set, unsigned
   */
  page(pgno: number, bytes: Buffer, checksumHigh: number, checksumLow: number): void
  /** The LTX is whole, its file checksum is right and, for a snapshot, so is the checksum of the database. */
  end(trailer: LtxTrailer): void
}

type Part = 'header' | 'pages' | 'trailer' | 'complete' | 'failed'

const PAGE_BYTES_MAX = 65536

export class LtxStreamReader {
  readonly #visitor: LtxVisitor
  /** Header and trailer, and pages when they are not compressed. */
  readonly #outer = new ByteCollector(PAGE_BYTES_MAX)
  #part: Part = 'header'
  #header: LtxHeader | undefined
  #checksummer: LtxChecksummer | undefined
  #pages: PageBlockReader | undefined
  #frame: Lz4FrameReader | undefined

  constructor(visitor: LtxVisitor) {
    this.#visitor = visitor
  }

  /** `end` was called on the visitor: the LTX is whole. */
  get isComplete(): boolean {
    return this.#part === 'complete'
  }

  /** @throws ClusterError `CORRUPT_DATA`, or what the visitor throws */
  push(chunk: Buffer): void {
    if (this.#part === 'failed') throw corruptLtx('the reader met an error before')
    try {
      let at = 0
      while (at < chunk.length) at = this.#read(chunk, at)
    } catch (error) {
      this.#part = 'failed'
      throw error
    }
  }

  /** To be called when the source has ended. @throws ClusterError `CORRUPT_DATA` unless the LTX is whole */
  finish(): void {
    if (this.#part !== 'complete') throw corruptLtx(`it ends too early (${this.#part})`)
  }

  /** Reads on and returns where it stopped. */
  #read(chunk: Buffer, from: number): number {
    switch (this.#part) {
      case 'header':
        return this.#readHeader(chunk, from)
      case 'pages':
        return this.#readPages(chunk, from)
      case 'trailer':
        return this.#readTrailer(chunk, from)
      default:
        throw corruptLtx(`${chunk.length - from} bytes follow the trailer`)
    }
  }

  #readHeader(chunk: Buffer, from: number): number {
    const bytes = this.#outer.take(chunk, from, LTX_HEADER_BYTES)
    if (bytes !== undefined) {
      const header = parseLtxHeader(bytes)
      const checksummer = new LtxChecksummer(header, bytes)
      const pages = new PageBlockReader(header.pageSize, checksummer, this.#visitor)
      this.#header = header
      this.#checksummer = checksummer
      this.#pages = pages
      if (header.compressed) this.#frame = new Lz4FrameReader((content) => readCompressed(pages, content))
      this.#part = 'pages'
      this.#visitor.header(header)
    }
    return this.#outer.next
  }

  #readPages(chunk: Buffer, from: number): number {
    const pages = this.#pages!
    if (this.#frame === undefined) {
      const at = pages.read(chunk, from)
      if (pages.isComplete) this.#part = 'trailer'
      return at
    }
    const at = this.#frame.push(chunk, from)
    if (this.#frame.isComplete) {
      if (!pages.isComplete) throw corruptLtx('the LZ4 frame ends before the page block')
      this.#part = 'trailer'
    }
    return at
  }

  #readTrailer(chunk: Buffer, from: number): number {
    const bytes = this.#outer.take(chunk, from, LTX_TRAILER_BYTES)
    if (bytes !== undefined) {
      const trailer = parseLtxTrailer(bytes, this.#header!)
      const problem = this.#checksummer!.end(trailer.postApplyChecksum)
      if (this.#checksummer!.fileChecksum !== trailer.fileChecksum) throw corruptLtx('the file checksum is wrong')
      if (problem !== undefined) throw corruptLtx(problem)
      this.#part = 'complete'
      this.#visitor.end(trailer)
    }
    return this.#outer.next
  }
}

/** Reads the uncompressed page block, up to and with its end mark. */
class PageBlockReader {
  readonly #pageSize: number
  readonly #checksummer: LtxChecksummer
  readonly #visitor: LtxVisitor
  readonly #collector = new ByteCollector(PAGE_BYTES_MAX)
  /** Number of the page whose bytes come next; 0 when a page number comes next. */
  #pgno = 0
  #isComplete = false

  constructor(pageSize: number, checksummer: LtxChecksummer, visitor: LtxVisitor) {
    this.#pageSize = pageSize
    this.#checksummer = checksummer
    this.#visitor = visitor
  }

  get isComplete(): boolean {
    return this.#isComplete
  }

  /** Reads on from `chunk` at `from` and returns where it stopped: the end of the chunk, or behind the end mark. */
  read(chunk: Buffer, from: number): number {
    let at = from
    while (!this.#isComplete) {
      const field = this.#collector.take(chunk, at, this.#pgno === 0 ? PAGE_HEADER_BYTES : this.#pageSize)
      at = this.#collector.next
      if (field === undefined) break
      if (this.#pgno !== 0) this.#accept(field)
      else if ((this.#pgno = field.readUInt32BE(0)) === 0) this.#isComplete = true
    }
    return at
  }

  #accept(page: Buffer): void {
    const pgno = this.#pgno
    this.#pgno = 0
    const view = new DataView(page.buffer, page.byteOffset, page.byteLength)
    const problem = this.#checksummer.page(pgno, view, 0)
    if (problem !== undefined) throw corruptLtx(problem)
    this.#visitor.page(pgno, page, this.#checksummer.high, this.#checksummer.low)
  }
}

function readCompressed(pages: PageBlockReader, content: Buffer): void {
  const end = pages.read(content, 0)
  if (end !== content.length) throw corruptLtx('the LZ4 frame goes on after the page block')
}
