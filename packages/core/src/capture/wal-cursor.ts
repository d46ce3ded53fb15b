/**
 * How far the WAL was captured: a frame of one WAL generation, and the running checksum there.
 *
 * Salts name the generation: every restart of the WAL changes them. A cursor at frame 0 stands before the first frame of
 * its generation, and its checksums are 0 because the WAL's header gives the true ones. Salts 0 and 0 name a WAL that was
 * never written; such a cursor proves nothing about what the database holds.
 */
import type { WalIndexHeader } from '../sqlite-format/wal-index.ts'

export interface WalCursor {
  /** As the numbers stand big-endian in the WAL header. */
  readonly salt1: number
  readonly salt2: number
  /** The last frame captured, from 1; 0 = none of this generation. */
  readonly frame: number
  /** Running checksum of that frame, unsigned. */
  readonly checksum1: number
  readonly checksum2: number
}

/** The end of everything committed. */
export function cursorAtEnd(header: WalIndexHeader): WalCursor {
  const { salt1, salt2, mxFrame } = header
  if (mxFrame === 0) return cursorAtStart(header)
  return { salt1, salt2, frame: mxFrame, checksum1: header.frameChecksum1, checksum2: header.frameChecksum2 }
}

/** Before the first frame of a generation. */
export function cursorAtStart(generation: { readonly salt1: number; readonly salt2: number }): WalCursor {
  return { salt1: generation.salt1, salt2: generation.salt2, frame: 0, checksum1: 0, checksum2: 0 }
}

export function isSameGeneration(
  a: { readonly salt1: number; readonly salt2: number },
  b: { readonly salt1: number; readonly salt2: number },
): boolean {
  return a.salt1 === b.salt1 && a.salt2 === b.salt2
}
