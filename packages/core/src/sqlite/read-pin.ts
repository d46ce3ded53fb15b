/**
 * A held snapshot of the database, for copying it page by page from the files while commits go on.
 *
 * While the pin is held: for a page with a frame in (`backfilledFrames`, `mxFrame`], the newest such frame is its content
 * and stays in the WAL; every other page is in the main file, and no later version is copied over it. When everything was
 * backfilled the reader has slot 0: then the whole snapshot is in the main file and only the WAL may restart.
 *
 * Relies on: one connection of its own. SQLite does not say which snapshot a reader got, so the wal-index header is read
 * before and after; when it moved in between (another process committed) the reader begins again.
 */
import { assert } from '../base/assert.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { Connection } from './connection.ts'
import type { WalIndexReader } from './wal-index-reader.ts'

/** The snapshot that is held. */
export interface PinnedSnapshot {
  /** Last frame of the snapshot. */
  readonly mxFrame: number
  /** Frames known to be in the main file. */
  readonly backfilledFrames: number
  /** Size of the database in pages. */
  readonly pageCount: number
  readonly salt1: number
  readonly salt2: number
}

/** Another process commits between begin and check at most every few times. */
const PIN_TRIES = 1000

export class ReadPin {
  readonly #connection: Connection
  readonly #walIndex: WalIndexReader

  /** @param connection of its own, used for nothing else */
  constructor(connection: Connection, walIndex: WalIndexReader) {
    this.#connection = connection
    this.#walIndex = walIndex
  }

  get isHeld(): boolean {
    return this.#connection.inTransaction
  }

  /**
   * Begins to hold the newest snapshot.
   * @throws ClusterError `DATABASE_BUSY` when other processes commit too fast to say which snapshot was taken
   */
  pin(): PinnedSnapshot {
    assert(!this.isHeld, 'the pin is held already')
    const begin = this.#connection.prepare('BEGIN')
    const pageCount = this.#connection.prepare('PRAGMA page_count').pluck()
    for (let tries = 0; tries < PIN_TRIES; tries++) {
      const before = this.#walIndex.header()
      begin.run()
      try {
        const pages = pageCount.get()
        assert(typeof pages === 'number', 'PRAGMA page_count answers a number')
        const { backfilledFrames } = this.#walIndex.checkpointInfo()
        const after = this.#walIndex.header()
        const isSame = before.salt1 === after.salt1 && before.salt2 === after.salt2 && before.mxFrame === after.mxFrame
        if (isSame) {
          const { mxFrame, salt1, salt2 } = after
          return { mxFrame, backfilledFrames: Math.min(backfilledFrames, mxFrame), pageCount: pages, salt1, salt2 }
        }
      } catch (error) {
        this.release()
        throw error
      }
      this.release()
    }
    throw new ClusterError('DATABASE_BUSY', `${this.#connection.name}: no snapshot could be pinned among other writers`)
  }

  /** Lets the snapshot go. Does nothing when none is held. */
  release(): void {
    if (this.isHeld) this.#connection.prepare('COMMIT').run()
  }
}
