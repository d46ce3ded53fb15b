/** A replica's database for tests: its live files, the checkpointing connection and the applier. */
import { type Clock, systemClock } from '../../base/clock.ts'
import { type Disk, realDisk } from '../../files/disk.ts'
import { LiveFiles } from '../../files/live-files.ts'
import { PageChecksums } from '../../ltx/page-checksums.ts'
import { type Position, ZERO_POSITION } from '../../position/position.ts'
import { type Connection, openConnection } from '../../sqlite/connection.ts'
import { SqliteDatabase } from '../../sqlite/sqlite-library.ts'
import { type ApplyOptions, resolveApplyOptions } from '../apply-options.ts'
import { WalApplier } from '../wal-applier.ts'

export interface TestReplicaOptions {
  readonly path: string
  readonly pageSize: number
  /** Default: nothing applied yet. */
  readonly position?: Position | undefined
  readonly checksums?: PageChecksums | undefined
  readonly options?: ApplyOptions | undefined
  readonly disk?: Disk | undefined
  /** Default: the system's. */
  readonly clock?: Clock | undefined
}

export class TestReplica {
  readonly path: string
  readonly files: LiveFiles
  readonly connection: Connection
  applier: WalApplier
  readonly #options: TestReplicaOptions

  /** The file must exist: see `createEmpty`. */
  constructor(options: TestReplicaOptions) {
    this.#options = options
    this.path = options.path
    this.connection = openConnection(options.path, { synchronous: 'normal' })
    this.files = LiveFiles.open(options.disk ?? realDisk, options.path)
    this.files.track(this.connection)
    const { checksums, position } = options
    this.applier = this.#openApplier(checksums ?? new PageChecksums(options.pageSize), position ?? ZERO_POSITION)
  }

  /** A new file with one page, in WAL mode, and a replica on it that has applied nothing. */
  static createEmpty(options: TestReplicaOptions): TestReplica {
    const database = new SqliteDatabase(options.path)
    database.pragma(`page_size = ${options.pageSize}`)
    database.pragma('journal_mode = WAL')
    database.close()
    return new TestReplica(options)
  }

  /** The database as a new reader sees it. */
  image(): Buffer {
    return readImage(this.path)
  }

  /** Closes the applier alone and opens it again where it was, so that it loads the wal-index as it stands. */
  reopenApplier(): void {
    const { checksums, position } = this.applier
    this.applier.close()
    this.applier = this.#openApplier(checksums, position)
  }

  close(): void {
    this.applier.close()
    this.connection.close()
    this.files.close()
  }

  #openApplier(checksums: PageChecksums, position: Position): WalApplier {
    return WalApplier.open({
      files: this.files,
      checkpointer: this.connection,
      checksums,
      position,
      pageSize: this.#options.pageSize,
      options: resolveApplyOptions(this.#options.options),
      clock: this.#options.clock ?? systemClock,
    })
  }
}

/** Opens a reader, takes the logical image, closes it. */
export function readImage(path: string): Buffer {
  const reader = new SqliteDatabase(path, { readonly: true })
  try {
    return reader.serialize()
  } finally {
    reader.close()
  }
}
