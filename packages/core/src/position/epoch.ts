/**
 * Epochs: one for each time a node starts acting as primary. Larger epochs are later.
 *
 * The table `epoch → (first TXID, checksum before it)` of a database is kept for ever. It decides whether another node is
 * behind, ahead or on a lost history, because TXIDs alone repeat after a failover.
 */
import type { Checksum } from './checksum.ts'
import type { Position } from './position.ts'
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

/** A history as far as a node knows it. */
export interface History {
  readonly epochs: EpochTable
  /** After its last transaction. */
  readonly end: Position
  /** Epoch of that transaction; `undefined`: as the table says. */
  readonly epoch?: Epoch | undefined
}

/**
 * The last position that two histories share. Behind it they are different transactions, or one of them has ended.
 *
 * The newest start that stands in both tables is common; what follows it in either table is not the other's. Tables may lack
 * their oldest starts (they travel in a bounded header): then what is older than the other's first start counts as common,
 * and only the checksums of the databases can tell.
 * @returns `checksum` of the database there where one of the histories knows it; `undefined` where neither does
 */
export function lastShared(a: History, b: History): { readonly txid: Txid; readonly checksum: Checksum | undefined } {
  // One epoch is one history: who ended in an epoch that wrote the same TXID of the other one is a part of it, whatever its own
  // table says. It may be an older one after a crash.
  for (const [part, whole] of [
    [a, b],
    [b, a],
  ] as const) {
    const { epoch, end } = part
    const isWithin = epoch !== undefined && epoch !== NO_EPOCH && epochOf(whole.epochs, end.txid) === epoch
    if (isWithin && end.txid <= whole.end.txid) return end
  }
  const ours = comparable(a.epochs, b.epochs)
  const theirs = comparable(b.epochs, a.epochs)
  let common = -1
  while (common + 1 < ours.length && common + 1 < theirs.length && sameStart(ours[common + 1]!, theirs[common + 1]!))
    common++
  let shared: { txid: Txid; checksum: Checksum | undefined } = a.end.txid <= b.end.txid ? a.end : b.end
  for (const start of [ours[common + 1], theirs[common + 1]]) {
    if (start === undefined || start.firstTxid > shared.txid) continue
    shared = { txid: (start.firstTxid - 1n) as Txid, checksum: start.checksumBefore }
  }
  return shared
}

/** Without what is older than anything the other table says. */
function comparable(table: EpochTable, other: EpochTable): EpochTable {
  const first = other[0]
  if (first === undefined || first.firstTxid === 1n) return table
  return table.filter((start) => start.epoch >= first.epoch)
}

function sameStart(a: EpochStart, b: EpochStart): boolean {
  return a.epoch === b.epoch && a.firstTxid === b.firstTxid && a.checksumBefore === b.checksumBefore
}
