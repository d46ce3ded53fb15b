/**
 * Reads the head of the wal-index of a live database: how far the WAL is committed, and how much of it is backfilled.
 *
 * The wal-index, not the content of the `-wal`, says where the committed frames end: spilled frames of an open or rolled
 * back transaction stand in the WAL with valid checksums.
 *
 * A writer in another process stores its header twice, second copy first. In between the copies differ, and reading again
 * helps, except when that process was stopped just there. Then either copy that carries a valid checksum of its own is a
 * committed state, because recovery after that writer's death would find its commit frame in the WAL. The first copy,
 * the older one, is preferred; nothing of ours can be missing from it, since the stopped writer holds the write lock.
 */
import { ClusterError } from '../errors/cluster-error.ts'
import type { LiveFiles } from '../files/live-files.ts'
import {
  parseWalCheckpointInfo,
  parseWalIndexHeader,
  WAL_INDEX_HEADER_BYTES,
  WAL_INDEX_HEADERS_BYTES,
  WAL_INDEX_PREFIX_BYTES,
  type WalCheckpointInfo,
  type WalIndexHeader,
} from '../sqlite-format/wal-index.ts'

/** Two microseconds each; a running writer needs far less between its two copies. */
const READ_TRIES = 200

export class WalIndexReader {
  readonly #files: LiveFiles
  readonly #bytes = Buffer.alloc(WAL_INDEX_PREFIX_BYTES)
  /** The bytes of `#header`, so that an unchanged header is neither checked nor built again. */
  readonly #known = Buffer.alloc(WAL_INDEX_HEADERS_BYTES)
  #header: WalIndexHeader | undefined

  constructor(files: LiveFiles) {
    this.#files = files
  }

  /**
   * The header as of now: one read of 96 bytes, a bounded number of them while a writer is storing.
   * @throws ClusterError `CORRUPT_DATA` when no copy is valid
   */
  header(): WalIndexHeader {
    const bytes = this.#bytes
    for (let tries = 0; tries < READ_TRIES; tries++) {
      const count = this.#read(WAL_INDEX_HEADERS_BYTES)
      if (this.#header !== undefined && bytes.compare(this.#known, 0, WAL_INDEX_HEADERS_BYTES, 0, count) === 0) {
        return this.#header
      }
      const header = count < WAL_INDEX_HEADERS_BYTES ? undefined : parseWalIndexHeader(bytes)
      if (header !== undefined) return this.#remember(header)
    }
    const header = this.#eitherCopy()
    if (header !== undefined) return header
    throw new ClusterError('CORRUPT_DATA', `${this.#files.shmPath}: the wal-index header is not valid`, {
      details: { file: this.#files.shmPath },
      hint: 'Restart the node: SQLite rebuilds the wal-index when the database is opened.',
    })
  }

  /** The state of checkpoints as of now; others may change it at any moment. */
  checkpointInfo(): WalCheckpointInfo {
    const count = this.#read(WAL_INDEX_PREFIX_BYTES)
    const info = parseWalCheckpointInfo(this.#bytes.subarray(0, count))
    if (info !== undefined) return info
    throw new ClusterError('CORRUPT_DATA', `${this.#files.shmPath}: the wal-index is too short`, {
      details: { file: this.#files.shmPath },
    })
  }

  #read(length: number): number {
    return this.#files.disk.read('wal-index.read-header', this.#files.shmFd, this.#bytes, 0, length, 0)
  }

  #remember(header: WalIndexHeader): WalIndexHeader {
    this.#bytes.copy(this.#known, 0, 0, WAL_INDEX_HEADERS_BYTES)
    this.#header = header
    return header
  }

  #eitherCopy(): WalIndexHeader | undefined {
    for (const offset of [0, WAL_INDEX_HEADER_BYTES]) {
      const copy = this.#bytes.subarray(offset, offset + WAL_INDEX_HEADER_BYTES)
      const header = parseWalIndexHeader(Buffer.concat([copy, copy]))
      if (header !== undefined) return header
    }
    return undefined
  }
}
