/**
 * Looks at the log of a database that is not open, for what a node asks before it opens anything. Changes nothing.
 *
 * Promises: damage makes the answer less, never wrong: an epoch that is answered was there.
 */
import path from 'node:path'
import type { Disk } from '../files/disk.ts'
import type { Epoch } from '../position/epoch.ts'
import { newestEpochIn } from './epoch-file.ts'
import {
  ENVELOPE_BYTES,
  parseEnvelope,
  parseRequestsHeader,
  parseSegmentHeader,
  parseSegmentName,
  REQUESTS_HEADER_BYTES,
  SEGMENT_HEADER_BYTES,
} from './segment-format.ts'

/**
 * The newest epoch that the log in this directory knows, from its table and from the newest segment whose header is whole;
 * 0 when there is none. Throws `UNSUPPORTED_FORMAT`.
 */
export function surveyNewestEpoch(disk: Disk, directory: string): Epoch {
  let newest = newestEpochIn(disk, directory)
  const names = disk.list('log.survey', directory).filter((name) => parseSegmentName(name) !== undefined)
  for (const name of names.toReversed()) {
    const inSegment = newestInSegment(disk, path.join(directory, name))
    if (inSegment === undefined) continue
    if (inSegment > newest) newest = inSegment
    break
  }
  return newest
}

/** Epochs never go down within a log, so the last record that can be made out has the newest one. */
function newestInSegment(disk: Disk, file: string): Epoch | undefined {
  const fd = disk.open('log.survey', file, 'r')
  try {
    const read = (at: number, length: number): Buffer => {
      const bytes = Buffer.alloc(length)
      return bytes.subarray(0, disk.read('log.survey', fd, bytes, 0, length, at))
    }
    const base = parseSegmentHeader(read(0, SEGMENT_HEADER_BYTES), file)?.base
    if (base === undefined) return undefined
    let newest = base.epoch
    for (let at = SEGMENT_HEADER_BYTES; ; ) {
      const envelope = parseEnvelope(read(at, ENVELOPE_BYTES), 0)
      if (envelope === undefined) return newest
      newest = envelope.epoch
      at += ENVELOPE_BYTES + envelope.ltxBytes
      at += parseRequestsHeader(read(at, REQUESTS_HEADER_BYTES), envelope.txid) ?? 0
    }
  } finally {
    disk.close('log.survey', fd)
  }
}
