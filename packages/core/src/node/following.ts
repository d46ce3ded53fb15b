/**
 * The replication stream into this node: one sink to the primary it follows, another one when the primary changes.
 *
 * Changes happen one after the other, in the order they were asked for, because a sink must be closed before its databases are
 * followed through the next. Relies on: `followed` answers the databases that take part; one that is added later is told of.
 */
import { ClusterError } from '../errors/cluster-error.ts'
import type { DatabaseName } from '../request/database-name.ts'
import type { StreamReceiver } from '../stream/stream-receiver.ts'
import { StreamSink, type StreamSinkParts } from '../stream/stream-sink.ts'

/** A database that can be followed: on a primary it has no receiver. */
export interface Followed {
  readonly name: DatabaseName
  readonly receiver: StreamReceiver | undefined
}

export interface FollowingParts extends Omit<StreamSinkParts, 'primaryUrl' | 'onFailure'> {
  databases(): readonly Followed[]
  /** A connection was lost or refused, a change failed; `database` is undefined for what they share. */
  onFailure(error: unknown, database: DatabaseName | undefined): void
}

export class Following {
  readonly #parts: FollowingParts
  #sink: StreamSink | undefined
  #primaryUrl: string | undefined
  #changes: Promise<void> = Promise.resolve()
  #isClosed = false

  constructor(parts: FollowingParts) {
    this.#parts = parts
  }

  /** Follows the primary at this URL, and no other; `undefined`: none. A connection to the same URL goes on: it may carry a snapshot. */
  follow(primaryUrl: string | undefined): void {
    this.#change(async () => {
      if (this.#sink?.isConnected === true && this.#primaryUrl === primaryUrl) return
      this.#primaryUrl = primaryUrl
      await this.#connectAnew()
    })
  }

  /**
   * Ends the connection and makes another one to the same primary, which has to greet this node anew. Resolves when nothing that the old one
   * delivered is on its way to a receiver; rejects with `DATABASE_BUSY` when one takes too long.
   */
  async renew(): Promise<void> {
    let isQuiet = true
    this.#change(async () => {
      isQuiet = await this.#connectAnew()
    })
    await this.#changes
    if (!isQuiet) throw new ClusterError('DATABASE_BUSY', 'a database is still taking in what was sent')
  }

  /** A database was opened. */
  added(database: Followed): void {
    this.#add(database)
  }

  /** The stream of this database begins again, from the position it then has. */
  restart(database: Followed): void {
    this.#change(async () => {
      await this.#sink?.unfollow(database.name)
      if (!this.#isClosed) this.#add(database)
    })
  }

  /** Resolves when every change asked for so far was made: after `follow(undefined)` no receiver is called any more. */
  async settled(): Promise<void> {
    await this.#changes
  }

  /** Resolves when no receiver is called any more, or was busy for too long. Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true
    await this.#changes
    await this.#sink?.close()
    this.#sink = undefined
  }

  /** Answers whether all receivers of the old connection were done. */
  async #connectAnew(): Promise<boolean> {
    const isQuiet = (await this.#sink?.close()) ?? true
    this.#sink = undefined
    const primaryUrl = this.#primaryUrl
    if (primaryUrl === undefined || this.#isClosed) return isQuiet
    const { databases, onFailure } = this.#parts
    this.#sink = new StreamSink({
      ...this.#parts,
      primaryUrl,
      onFailure: (error, _delayMs, database) => onFailure(error, database),
    })
    for (const database of databases()) this.#add(database)
    return isQuiet
  }

  #add(database: Followed): void {
    if (this.#sink !== undefined && database.receiver !== undefined) this.#sink.follow(database.name, database.receiver)
  }

  #change(work: () => Promise<void>): void {
    this.#changes = this.#changes.then(work).catch((error: ClusterError) => this.#parts.onFailure(error, undefined))
  }
}
