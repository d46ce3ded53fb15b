/**
 * The replica's end of replication: follows one primary with any number of databases.
 *
 * One HTTP/2 connection, one `/stream?filter=<database>` on it for each database, because frames of one body cannot interleave:
 * so neither a large database nor a slow apply holds up the others. A node that gets another primary closes its sink and
 * opens a new one.
 */
import { assert } from '../base/assert.ts'
import type { Clock } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { Epoch } from '../position/epoch.ts'
import type { ClusterKeys } from '../request/cluster-token.ts'
import type { DatabaseName } from '../request/database-name.ts'
import { DatabaseFollower, type FollowerStatus } from './database-follower.ts'
import { PrimaryGreeting } from './primary-greeting.ts'
import { type Connect, PrimaryLink } from './primary-link.ts'
import type { StreamReceiver } from './stream-receiver.ts'
import type { ResolvedStreamSinkOptions } from './stream-sink-options.ts'

export interface StreamSinkParts {
  /** Address of the primary's replication endpoint, `http://host:port`. */
  readonly primaryUrl: string
  /** LiteFS node id of this node: 16 uppercase hex digits. */
  readonly nodeId: string
  readonly nodeName: string
  /** Keys of the cluster; empty = none. */
  readonly keys: ClusterKeys
  /** Follow a primary that cannot prove that it knows the cluster key: LiteFS. */
  readonly interop: boolean
  readonly clusterId: () => string | undefined
  /** A primary of an older epoch is refused; `NO_EPOCH`: none is. */
  readonly promised: () => Epoch
  /** This node is a candidate of this epoch and follows a replica that promised to it. Default: it follows a primary. */
  readonly candidate?: Epoch | undefined
  /** Stores the primary's cluster id durably; called when this node has none, before anything is taken from the primary. */
  readonly adoptClusterId: (clusterId: string) => void | Promise<void>
  readonly clock: Clock
  /** Where to connect for an address, both `host:port`. */
  route(address: string): string
  /** Default: TCP. */
  readonly connect?: Connect | undefined
  /** Jitter in [0, 1). */
  readonly random: () => number
  readonly options: ResolvedStreamSinkOptions
  /** A LiteFS primary gives its lease to this node, and ends the stream. */
  readonly onHandoff?: ((offer: { readonly leaseId: string; readonly from: string }) => void) | undefined
  /** Told of every lost or refused connection; `database` is undefined for the connection they share. */
  readonly onFailure?: ((error: unknown, delayMs: number, database: DatabaseName | undefined) => void) | undefined
}

export class StreamSink {
  readonly #parts: StreamSinkParts
  readonly #link: PrimaryLink
  readonly #greeting: PrimaryGreeting
  readonly #followers = new Map<DatabaseName, DatabaseFollower>()
  #isClosed = false

  constructor(parts: StreamSinkParts) {
    const { clock, random, options } = parts
    this.#parts = parts
    this.#greeting = new PrimaryGreeting(parts)
    this.#link = new PrimaryLink({
      url: parsePrimaryUrl(parts.primaryUrl),
      options,
      clock,
      route: (address) => parts.route(address),
      connect: parts.connect,
      random,
      onFailure: (error, delayMs) => parts.onFailure?.(error, delayMs, undefined),
    })
  }

  get isConnected(): boolean {
    return this.#link.isConnected
  }

  /** Follows `database` from the receiver's position on. A database is followed once. */
  follow(database: DatabaseName, receiver: StreamReceiver): void {
    assert(!this.#isClosed, 'the stream sink is closed')
    assert(!this.#followers.has(database), `database "${database}" is followed already`)
    // LiteFS separates the names in a filter by commas and knows no escape.
    if (database.includes(','))
      throw new ClusterError(
        'INVALID_DATABASE_NAME',
        `database "${database}" cannot be replicated: its name has a comma`,
      )
    const follower = new DatabaseFollower({
      ...this.#parts,
      database,
      receiver,
      link: this.#link,
      greeting: this.#greeting,
      onHandoff: (leaseId) => this.#parts.onHandoff?.({ leaseId, from: this.#parts.primaryUrl }),
      onFailure: (error, delayMs) => this.#parts.onFailure?.(error, delayMs, database),
    })
    this.#followers.set(database, follower)
    this.#link.start()
    follower.start()
  }

  /** Resolves when the receiver is no longer called. */
  async unfollow(database: DatabaseName): Promise<void> {
    const follower = this.#followers.get(database)
    this.#followers.delete(database)
    await follower?.stop()
  }

  status(): readonly FollowerStatus[] {
    return [...this.#followers.values()].map((follower) => follower.status())
  }

  /**
   * Stops following. Waits at most `closeTimeoutMs` for receivers that are busy; answers whether all of them are done.
   * Idempotent.
   */
  async close(): Promise<boolean> {
    this.#isClosed = true
    const { clock, options } = this.#parts
    const stopped = Promise.all([...this.#followers.values()].map((follower) => follower.stop())).then(() => true)
    const areDone = await new Promise<boolean>((resolve) => {
      const timer = clock.setTimer(options.closeTimeoutMs, () => resolve(false))
      void stopped.then((done) => {
        timer.cancel()
        resolve(done)
      })
    })
    await this.#link.stop()
    return areDone
  }
}

function parsePrimaryUrl(text: string): URL {
  const url = URL.parse(text)
  if (url !== null && (url.protocol === 'http:' || url.protocol === 'https:') && url.hostname !== '') return url
  throw new ClusterError('INVALID_OPTION', `the primary's address is no http:// URL: ${text}`)
}
