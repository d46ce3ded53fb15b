/**
 * SQLite's passive checkpoint on a connection of its own. It copies frames into the main file as far as the oldest reader
 * allows, waits for nobody, and discards nothing: the WAL stays until a writer restarts it.
 */
import type { Statement } from 'better-sqlite3'
import type { Connection } from './connection.ts'
import { isBusy } from './sqlite-error.ts'

export interface CheckpointResult {
  /** Frames in the WAL; −1 when unknown. */
  readonly logFrames: number
  /** Of these, frames now in the main file; −1 when unknown. */
  readonly checkpointedFrames: number
  /** Another checkpoint was running, or a reader on slot 0 forbids it. */
  readonly busy: boolean
}

export class PassiveCheckpoint {
  readonly #statement: Statement

  /** @param connection of its own: a checkpoint cannot run on one that is inside a transaction */
  constructor(connection: Connection) {
    this.#statement = connection.prepare('PRAGMA wal_checkpoint(PASSIVE)').raw()
  }

  /** @throws SqliteError for anything but a lock held by somebody else */
  run(): CheckpointResult {
    try {
      const row = this.#statement.get()
      const [busy, logFrames, checkpointedFrames] = Array.isArray(row) ? row.map(Number) : []
      return { logFrames: logFrames ?? -1, checkpointedFrames: checkpointedFrames ?? -1, busy: busy !== 0 }
    } catch (error) {
      if (isBusy(error)) return { logFrames: -1, checkpointedFrames: -1, busy: true }
      throw error
    }
  }
}

/** Everything committed is in the main file. */
export function isComplete(result: CheckpointResult): boolean {
  return !result.busy && result.logFrames >= 0 && result.logFrames === result.checkpointedFrames
}
