/**
 * What a fuzz target is: one decoder, the inputs to start from, and what it may do with any bytes at all.
 *
 * A run ends well when `run` returns, or throws a `ClusterError` of one of `codes`. Everything else is a finding: another
 * error (an `InvariantError` or a `TypeError` means that bytes from outside reached a place that trusted them), more
 * allocated than `bound` says, no end, the end of the process, a file left behind.
 */
import type { Random } from '../support/random.ts'
import type { ErrorCode } from '../../packages/core/src/errors/error-table.ts'

export interface AllocationBound {
  /** Bytes allocated in all during one run, for each byte of input. */
  readonly perByte: number
  /** Bytes on top, whatever the input: windows, blocks, tables. */
  readonly constant: number
}

export interface FuzzTarget {
  readonly name: string
  /** The codes of `ClusterError` that this decoder documents. */
  readonly codes: readonly ErrorCode[]
  readonly bound: AllocationBound
  /** Share of the runs; cheap decoders get more of them. */
  readonly weight: number
  /** Valid inputs, the same in every process. */
  corpus(): readonly Buffer[]
  /** Pieces that mean something to the decoder: mutation puts them anywhere. */
  readonly tokens?: readonly Buffer[] | undefined
  /** Makes lengths and checksums right again as far as it can, so that mutations get past them. Done in half of the runs. */
  repair?(input: Buffer, random: Random): Buffer
  /** Feeds one input. */
  run(input: Buffer): void | Promise<void>
}

/** The property a decoder promised does not hold: a finding like any wrong error. */
export class BrokenPromise extends Error {
  override readonly name = 'BrokenPromise'
}

export function promise(condition: boolean, what: string): void {
  if (!condition) throw new BrokenPromise(what)
}
