/**
 * Whether a run of LTX continues without a hole: each begins at the TXID and the checksum at which the one before it ended.
 * A snapshot may begin anew; it contains everything before it.
 */
import { formatChecksum, formatTxid } from '@litefleet/core'
import type { LtxItem } from './ltx-source.ts'

interface End {
  readonly txid: bigint
  readonly checksum: bigint
  readonly epoch: number
}

export class LtxContinuity {
  #end: End | undefined
  #count = 0

  get count(): number {
    return this.#count
  }

  /** `<txid>/<checksum>` after the last LTX; `undefined` before the first. */
  get end(): string | undefined {
    return this.#end === undefined ? undefined : formatEnd(this.#end)
  }

  /** What is wrong with `item` after all that came before it; `undefined` when it continues. */
  accept(item: LtxItem): string | undefined {
    if (item.kind === 'torn-end') return undefined
    if (item.kind === 'segment') {
      const { txid, checksum } = item.base.position
      const problem = this.#gapTo(txid, checksum)
      this.#end ??= { txid, checksum, epoch: item.base.epoch }
      return problem
    }
    const { header, trailer } = item.ltx
    const epoch = item.epoch ?? this.#end?.epoch ?? 0
    const isSnapshot = header.minTxid === 1n && header.preApplyChecksum === 0n
    const problem =
      this.#end !== undefined && epoch < this.#end.epoch
        ? `epoch ${epoch} after epoch ${this.#end.epoch}`
        : isSnapshot && item.epoch === undefined
          ? undefined
          : this.#gapTo(header.minTxid - 1n, header.preApplyChecksum)
    this.#end = { txid: header.maxTxid, checksum: trailer.postApplyChecksum, epoch }
    this.#count++
    return problem
  }

  #gapTo(txid: bigint, checksum: bigint): string | undefined {
    if (this.#end === undefined || (this.#end.txid === txid && this.#end.checksum === checksum)) return undefined
    return `it begins after ${formatEnd({ txid, checksum, epoch: 0 })}, the one before it ended at ${formatEnd(this.#end)}`
  }
}

function formatEnd({ txid, checksum }: End): string {
  // Both came out of a parsed LTX or segment and are branded there.
  return `${formatTxid(txid as Parameters<typeof formatTxid>[0])}/${formatChecksum(checksum as Parameters<typeof formatChecksum>[0])}`
}
