/**
 * Changing the "compressed" flag of an LTX. The file checksum covers the flag and the *uncompressed* page block (see
 * ltx-header.ts), so the same transaction has two file checksums, one for each form. A CRC is linear: what a difference
 * in the header makes of the checksum follows from the lengths alone, without reading the pages again.
 */
import { assert } from '../base/assert.ts'
import { Crc64, shiftByBytes } from './crc64.ts'
import { LTX_HEADER_BYTES, LTX_TRAILER_BYTES, writeLtxFlags } from './ltx-header.ts'

/**
 * Sets or clears the flag in an LTX and corrects the file checksum in its last 8 bytes.
 * @param ltx header first and trailer last, with a right file checksum; the page block is not looked at
 * @param plainBytes size of this LTX when uncompressed
 */
export function setLtxCompressed(ltx: Buffer, compressed: boolean, plainBytes: number): void {
  assert(ltx.length >= LTX_HEADER_BYTES + LTX_TRAILER_BYTES, 'an LTX has header and trailer')
  const before = new Crc64().update(ltx, 0, LTX_HEADER_BYTES)
  writeLtxFlags(ltx, compressed)
  const after = new Crc64().update(ltx, 0, LTX_HEADER_BYTES)
  const coveredBehindHeader = plainBytes - LTX_HEADER_BYTES - 8
  const change = shiftByBytes({ high: before.high ^ after.high, low: before.low ^ after.low }, coveredBehindHeader)
  const at = ltx.length - 8
  // Bit 63 is the flag "present" and stays.
  ltx.writeUInt32BE((ltx.readUInt32BE(at) ^ (change.high & 0x7fffffff)) >>> 0, at)
  ltx.writeUInt32BE((ltx.readUInt32BE(at + 4) ^ change.low) >>> 0, at + 4)
}
