/**
 * Epochs: one for each time a node starts acting as primary. Larger epochs are later.
 *
 * The table `epoch → (first TXID, checksum before it)` of a database is kept for ever. It decides whether another node is
 * behind, ahead or on a lost history, because TXIDs alone repeat after a failover.
 */
import type { Checksum } from './checksum.ts'
import type { Txid } from './txid.ts'

declare const brand: unique symbol
/** A positive safe integer; 0 means "no primary yet" or a LiteFS primary, which has none. */
export type Epoch = number & { readonly [brand]: 'Epoch' }

export const NO_EPOCH = 0 as Epoch

/** Checks the range and brands. Throws `RangeError`. */
export function epoch(value: number): Epoch {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`not an epoch: ${value}`)
  return value as Epoch
}

/** The start of one epoch in one database. */
export interface EpochStart {
  readonly epoch: Epoch
  /** The first TXID written in this epoch. */
  readonly firstTxid: Txid
  /** Checksum of the database before that transaction. */
  readonly checksumBefore: Checksum
}

/** Starts in ascending order of epoch and TXID. */
export type EpochTable = readonly EpochStart[]

/** The epoch that wrote `txid` according to the table, `NO_EPOCH` before its first entry. */
export function epochOf(table: EpochTable, txid: Txid): Epoch {
  for (let i = table.length - 1; i >= 0; i--) {
    const start = table[i]
    if (start !== undefined && start.firstTxid <= txid) return start.epoch
  }
  return NO_EPOCH
}
