/**
 * The checksum of one page as LiteFS 0.5.14 counts it (ltx v0.3.14, `ChecksumPage`): CRC-64/GO-ISO over the page number
 * as four big-endian bytes and the page, with bit 63 set.
 *
 * `PageCrc` also gives the CRC with its true bit 63, because those same bytes (number, then page) stand in an LTX file,
 * and its file checksum is made from these CRCs: see `appenderFor`.
 */
import { assert } from '../base/assert.ts'
import { isValidPageSize } from '../sqlite-format/database-header.ts'
import { Crc64Appender, foldBytes, foldUint32BE } from './crc64.ts'

/** Bytes of the page header in an LTX: the page number. */
export const PAGE_HEADER_BYTES = 4

/** One per page size: the only lengths a page has in an LTX. */
const APPENDERS: ReadonlyMap<number, Crc64Appender> = new Map(
  [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536].map((size) => [size, new Crc64Appender(PAGE_HEADER_BYTES + size)]),
)

/** What appends a page of this size (with its number in front) to the CRC of a file, given the page's CRC. */
export function appenderFor(pageSize: number): Crc64Appender {
  const appender = APPENDERS.get(pageSize)
  assert(appender !== undefined, `page size ${pageSize}`)
  return appender
}

/**
 * Computes one page's checksum.
 * @param bytes holds the page at `offset`
 * @param out receives the upper half (flag set) at `outIndex` and the lower half after it
 */
export function pageChecksum(
  pgno: number,
  bytes: Uint8Array,
  offset: number,
  pageSize: number,
  out: Uint32Array,
  outIndex = 0,
): void {
  assert(offset >= 0 && offset + pageSize <= bytes.length, 'page beyond the end of its buffer')
  const state = Int32Array.of(-1, -1)
  foldUint32BE(pgno, state)
  foldBytes(new DataView(bytes.buffer, bytes.byteOffset + offset, pageSize), 0, pageSize, state)
  out[outIndex] = ~state[1]! | 0x80000000
  out[outIndex + 1] = ~state[0]!
}

/** Computes CRCs of many pages of one size; the results stay readable until the next page. */
export class PageCrc {
  readonly pageSize: number
  readonly #state = new Int32Array(2)

  constructor(pageSize: number) {
    assert(isValidPageSize(pageSize), `page size ${pageSize}`)
    this.pageSize = pageSize
  }

  /** Upper half of the CRC with its true bit 63, unsigned. */
  get crcHigh(): number {
    return ~this.#state[1]! >>> 0
  }

  /** Lower half, unsigned: the same for CRC and checksum. */
  get low(): number {
    return ~this.#state[0]! >>> 0
  }

  /** Upper half of the page checksum: bit 63 set. */
  get high(): number {
    return (~this.#state[1]! | 0x80000000) >>> 0
  }

  /** @param view a view in which the page begins at `offset` */
  compute(pgno: number, view: DataView, offset: number): void {
    const state = this.#state
    state[0] = -1
    state[1] = -1
    foldUint32BE(pgno, state)
    foldBytes(view, offset, offset + this.pageSize, state)
  }
}
