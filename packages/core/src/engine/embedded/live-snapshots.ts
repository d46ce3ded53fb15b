/**
 * Copies of a live database, taken without stopping its writers.
 *
 * The state is pinned by a read transaction only while its pages are copied into a spool file on this node; what is sent is
 * read from there, at the pace of whoever receives it. Position and pin are taken in one turn of the event loop: everything
 * committed is captured first, and when another process commits in between, it is done again.
 *
 * Bound: the stream server limits how many are built at a time; each takes the size of the database on disk.
 */
import path from 'node:path'
import { livePageMap } from '../../capture/live-page-map.ts'
import { headerNow } from '../../capture/wal-continuity.ts'
import type { LiveFiles } from '../../files/live-files.ts'
import { ClusterError } from '../../errors/cluster-error.ts'
import type { PageChecksums } from '../../ltx/page-checksums.ts'
import type { Position } from '../../position/position.ts'
import type { TrackedPosition } from '../../position/position-tracker.ts'
import { countedAs } from '../../snapshot/first-page.ts'
import { packPageMap, type PinnedPages } from '../../snapshot/page-source.ts'
import {
  openDifferenceSpool,
  openImageSpool,
  openSnapshotSpool,
  type SnapshotSpool,
  type SpoolRequest,
} from '../../snapshot/snapshot-writer.ts'
import type { Connection } from '../../sqlite/connection.ts'
import { type PinnedSnapshot, ReadPin } from '../../sqlite/read-pin.ts'
import { WalIndexReader } from '../../sqlite/wal-index-reader.ts'
import type { DatabaseStore } from './database-store.ts'

export interface LiveSnapshotsOptions {
  readonly store: DatabaseStore
  readonly nodeId: bigint
  /** Captures and announces everything committed; answers where the database stands in this turn. */
  settle(): TrackedPosition
}

interface Pinned {
  readonly connection: Connection
  readonly pin: ReadPin
  readonly position: Position
  readonly pages: PinnedPages
}

/** Other processes commit between capture and pin at most every few times. */
const PIN_TRIES = 100

export class LiveSnapshots {
  readonly #options: LiveSnapshotsOptions
  readonly #open = new Set<SnapshotSpool>()
  #count = 0

  constructor(options: LiveSnapshotsOptions) {
    this.#options = options
  }

  /** An LTX snapshot (min TXID 1). Throws when `signal` is aborted, `STORAGE_FAILED`, `DATABASE_BUSY`. */
  openSnapshot(signal: AbortSignal): SnapshotSpool {
    const { store, nodeId } = this.#options
    const timestampMs = Math.floor(store.options.clock.nowMs())
    return this.#copy(signal, (request) => openSnapshotSpool({ ...request, timestampMs, nodeId }))
  }

  /**
   * The LTX of the pages that a database with these page checksums does not have.
   * @returns `undefined` when there can be none: another page size, or a history too short
   */
  openDifference(from: PageChecksums, signal: AbortSignal): SnapshotSpool | undefined {
    const { store, nodeId } = this.#options
    const { pageSize, checksums } = store.file
    if (from.pageSize !== pageSize) return undefined
    const timestampMs = Math.floor(store.options.clock.nowMs())
    return this.#copy(signal, (request) =>
      // Read in the turn of the pin: they are those of the pinned state.
      request.position.txid < 2n
        ? undefined
        : openDifferenceSpool({ ...request, checksums, from, timestampMs, nodeId }),
    )
  }

  /** The plain database file. Throws as `openSnapshot`. */
  openImage(signal: AbortSignal): SnapshotSpool {
    return this.#copy(signal, openImageSpool)
  }

  /** Ends every copy. */
  async close(): Promise<void> {
    await Promise.all([...this.#open].map((spool) => spool.close()))
    await Promise.allSettled([...this.#open].map((spool) => spool.done))
  }

  #copy<Spool extends SnapshotSpool | undefined>(signal: AbortSignal, open: (request: SpoolRequest) => Spool): Spool {
    const { store } = this.#options
    signal.throwIfAborted()
    const { connection, pin, position, pages } = this.#pin()
    const unpin = (): void => {
      pin.release()
      connection.close()
    }
    let spool: Spool
    try {
      const spoolFile = path.join(store.spoolDirectory, `sent-${++this.#count}`)
      spool = open({ disk: store.options.disk, pages, position, spoolFile, signal })
    } catch (error) {
      unpin()
      throw error
    }
    if (spool === undefined) {
      unpin()
      return spool
    }
    this.#open.add(spool)
    // Either way the copy has ended: the WAL may go on.
    const opened: SnapshotSpool = spool
    const ended = (): void => {
      this.#open.delete(opened)
      unpin()
    }
    spool.done.then(ended, ended)
    return spool
  }

  #pin(): Pinned {
    const { store, settle } = this.#options
    const { files, pageSize } = store.file
    const connection = store.file.connect({ readonly: true })
    const pin = new ReadPin(connection, new WalIndexReader(files))
    try {
      for (let tries = 0; tries < PIN_TRIES; tries++) {
        // Looked at before everything is captured: a commit that comes after that shows in the pin.
        const before = headerNow(files)
        const { position } = settle()
        const pinned = pin.pin()
        if (before.mxFrame === pinned.mxFrame && before.salt1 === pinned.salt1 && before.salt2 === pinned.salt2) {
          const pages = countedAs(files.disk, pagesOf(files, pageSize, pinned), store.file.checksums)
          return { connection, pin, position, pages }
        }
        pin.release()
      }
    } catch (error) {
      pin.release()
      connection.close()
      throw error
    }
    connection.close()
    throw new ClusterError(
      'DATABASE_BUSY',
      `database "${store.options.name}": other processes commit too fast to take a snapshot`,
    )
  }
}

function pagesOf(files: LiveFiles, pageSize: number, pinned: PinnedSnapshot): PinnedPages {
  return {
    databaseFd: files.databaseFd,
    walFd: files.walFd,
    pageSize,
    pageCount: pinned.pageCount,
    wal: packPageMap(livePageMap(files, pinned.mxFrame, pinned.backfilledFrames)),
  }
}
