/**
 * The epochs that the records of a log tell of, for a log whose epoch table was lost.
 *
 * Each record carries its epoch, and each segment the epoch of the record before it, so the starts of all epochs that began within
 * the log are exact. The one in which the log begins gets the log's own beginning as its start: where it truly began is lost.
 */
import { type Epoch, type EpochStart, type EpochTable, NO_EPOCH } from '../position/epoch.ts'
import type { Checksum } from '../position/checksum.ts'
import { nextTxid, type Txid } from '../position/txid.ts'
import type { Segment } from './segment.ts'
import { ENVELOPE_BYTES, parseEnvelope } from './segment-format.ts'

/** @param segments oldest first, contiguous */
export function loggedEpochs(segments: readonly Segment[]): EpochTable {
  const first = segments[0]
  if (first === undefined) return []
  const starts: EpochStart[] = []
  let current: Epoch = NO_EPOCH
  const begin = (epoch: Epoch, firstTxid: Txid, checksumBefore: Checksum): void => {
    if (epoch === current) return
    current = epoch
    if (starts.at(-1)?.firstTxid === firstTxid) starts.pop()
    starts.push({ epoch, firstTxid, checksumBefore })
  }
  begin(first.base.epoch, nextTxid(first.base.position.txid), first.base.position.checksum)
  for (const segment of segments) {
    if (segment.end.epoch === current) continue
    for (let i = 0; i < segment.index.count; i++) {
      const before = i === 0 ? segment.base.position.checksum : segment.index.checksum(i - 1)
      begin(epochAt(segment, i) ?? current, (segment.base.position.txid + BigInt(i + 1)) as Txid, before)
    }
    if (segment !== segments.at(-1)) segment.close()
  }
  return starts
}

function epochAt(segment: Segment, record: number): Epoch | undefined {
  const bytes = Buffer.alloc(ENVELOPE_BYTES)
  if (!segment.read(bytes, segment.index.offset(record), bytes.length)) return undefined
  return parseEnvelope(bytes, 0)?.epoch
}
