/**
 * Which records may go (I11). Whole segments only, oldest first, and the segment with the newest record never.
 *
 * A segment goes when it is old or the log is large, unless one of these keeps it:
 * - the database file does not hold its records yet: then nothing removes it, because a crash would need it;
 * - a connected replica still needs it: then only the stated limit `retentionBytesMax` removes it, and that replica gets a
 *   snapshot instead.
 */
import type { Txid } from '../position/txid.ts'
import type { ResolvedLogOptions } from './log-options.ts'

export interface PrunableSegment {
  readonly bytes: number
  readonly lastTxid: Txid
  /** When its newest record was written, in ms since the epoch. */
  readonly newestMs: number
}

export interface RetentionState {
  /** Bytes of the whole log. */
  readonly logBytes: number
  readonly nowMs: number
  /** Connected replicas need the records after this TXID; `undefined` when none is connected. */
  readonly keepAfter: Txid | undefined
  /** The database file itself holds everything up to this TXID. */
  readonly durableInDatabase: Txid
}

/**
 * How many segments to remove from the front.
 * @param segments oldest first, without the one that holds the newest record
 */
export function prunableCount(
  segments: readonly PrunableSegment[],
  options: ResolvedLogOptions,
  state: RetentionState,
): number {
  let logBytes = state.logBytes
  let count = 0
  for (const segment of segments) {
    const isOld = segment.newestMs < state.nowMs - options.retentionMs
    const isNeeded = state.keepAfter !== undefined && segment.lastTxid > state.keepAfter
    if (segment.lastTxid > state.durableInDatabase) break
    if (isNeeded && logBytes <= options.retentionBytesMax) break
    if (!isOld && logBytes <= options.retentionBytes) break
    logBytes -= segment.bytes
    count++
  }
  return count
}
