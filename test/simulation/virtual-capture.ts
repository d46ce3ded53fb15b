/**
 * Stands in for the WAL capture: each committed state that was not captured yet becomes one LTX record.
 *
 * Promises, as the real one: each record continues the position before it and makes the state after the commit.
 */
import { LtxRecordBuilder } from '../../packages/core/src/ltx/ltx-encoder.ts'
import type { LtxRecord } from '../../packages/core/src/ltx/ltx-record.ts'
import { NO_CHECKSUM } from '../../packages/core/src/position/checksum.ts'
import type { Position } from '../../packages/core/src/position/position.ts'
import { nextTxid } from '../../packages/core/src/position/txid.ts'
import type { SqliteFile } from './sqlite-file.ts'
import { PAGE_SIZE, SqliteImage } from './sqlite-image.ts'

export interface VirtualCaptureParts {
  readonly file: SqliteFile
  readonly position: Position
  /** The state at `position`. */
  readonly image: SqliteImage
  readonly nodeId: bigint
  nowMs(): number
  /** A process may die after everything was captured. */
  afterCapture(): void
}

export class VirtualCapture {
  readonly #parts: VirtualCaptureParts
  #position: Position
  #image: SqliteImage

  constructor(parts: VirtualCaptureParts) {
    this.#parts = parts
    this.#position = parts.position
    this.#image = parts.image
  }

  get position(): Position {
    return this.#position
  }

  /** Everything committed and not captured yet, one record for each transaction. */
  capture(): readonly LtxRecord[] {
    const { states } = this.#parts.file
    const records: LtxRecord[] = []
    for (const image of states.slice(states.lastIndexOf(this.#image) + 1)) records.push(this.#take(image))
    if (records.length > 0) this.#parts.afterCapture()
    return records
  }

  /** The same, as one record whatever number of transactions it was. */
  captureMerged(): LtxRecord | undefined {
    const { current } = this.#parts.file
    return current === this.#image ? undefined : this.#take(current)
  }

  #take(image: SqliteImage): LtxRecord {
    const record = recordOf(this.#image, image, this.#position, this.#parts)
    this.#image = image
    this.#position = record.postApply
    return record
  }
}

function recordOf(
  before: SqliteImage,
  after: SqliteImage,
  position: Position,
  { nodeId, nowMs }: Pick<VirtualCaptureParts, 'nodeId' | 'nowMs'>,
): LtxRecord {
  const txid = nextTxid(position.txid)
  const pgnos = after.changedSince(before)
  const builder = new LtxRecordBuilder({
    pageSize: PAGE_SIZE,
    commit: after.pages.length,
    minTxid: txid,
    maxTxid: txid,
    timestampMs: nowMs(),
    preApplyChecksum: position.txid === 0n ? NO_CHECKSUM : position.checksum,
    walOffset: 0,
    walBytes: 0,
    walSalt1: 0,
    walSalt2: 0,
    nodeId,
    pageCount: pgnos.length,
  })
  for (const pgno of pgnos) builder.addPage(pgno, after.pages[pgno - 1] as Buffer, 0)
  return builder.finish(after.checksum)
}
