/**
 * Stands in for the WAL applier of a replica: records become one new state of the virtual file.
 *
 * Promises, as the real one: a record whose pages do not make the checksum it promises is `CORRUPT_DATA`, and nothing of
 * the batch is visible. A checkpoint makes what was applied durable in the file.
 */
import type { CheckpointOutcome } from '../../packages/core/src/apply/checkpoint-outcome.ts'
import { assert } from '../../packages/core/src/base/assert.ts'
import { ClusterError } from '../../packages/core/src/errors/cluster-error.ts'
import type { LtxRecord } from '../../packages/core/src/ltx/ltx-record.ts'
import { formatPosition, type Position, samePosition } from '../../packages/core/src/position/position.ts'
import type { SqliteFile } from './sqlite-file.ts'
import type { SqliteImage } from './sqlite-image.ts'

/** Commits in the WAL at which a checkpoint is due. */
const CHECKPOINT_COMMITS = 12

export class VirtualApplier {
  readonly needsPause = false
  readonly walBytes = 0
  readonly #file: SqliteFile
  readonly #beforeApply: () => void
  #position: Position

  /** @param beforeApply the process may die there, or its disk may fail */
  constructor(file: SqliteFile, position: Position, beforeApply: () => void) {
    this.#file = file
    this.#position = position
    this.#beforeApply = beforeApply
  }

  get position(): Position {
    return this.#position
  }

  apply(records: readonly LtxRecord[]): void {
    this.#beforeApply()
    let image = this.#file.current
    let position = this.#position
    for (const record of records) {
      assert(
        samePosition(record.preApply, position),
        `a record after ${formatPosition(record.preApply)} is applied to ${formatPosition(position)}`,
      )
      image = imageAfter(image, record)
      if (image.checksum !== record.postApply.checksum) {
        throw new ClusterError(
          'CORRUPT_DATA',
          `the pages of ${formatPosition(record.postApply)} do not make its checksum`,
        )
      }
      position = record.postApply
    }
    this.#file.commit(image, false)
    this.#position = position
  }

  checkpoint(): CheckpointOutcome {
    const isDue = this.#file.walCommits >= CHECKPOINT_COMMITS
    const copiedFrames = isDue ? this.#file.walCommits : 0
    if (isDue) this.#file.checkpoint()
    return { kind: isDue ? 'restarted' : 'not-due', copiedFrames, pendingFrames: this.#file.walCommits }
  }

  settled(): Promise<void> {
    return Promise.resolve()
  }
}

export function imageAfter(image: SqliteImage, record: LtxRecord): SqliteImage {
  const changed = new Map<number, Buffer>()
  for (let i = 0; i < record.pageCount; i++) changed.set(record.pgno(i), Buffer.from(record.page(i)))
  return image.with(changed, record.header.commit)
}
