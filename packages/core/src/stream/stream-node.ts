/** What the stream server asks of the node it stands in. */
import type { Epoch } from '../position/epoch.ts'
import type { StreamableDatabase } from './streamable-database.ts'

export interface StreamNode {
  /** LiteFS node id: 16 uppercase hex digits, random and not zero, new in each process. */
  readonly nodeId: string
  /** `LFSC` and 16 uppercase hex digits; `undefined` while the node has none. */
  clusterId(): string | undefined
  /** Does this node hold the lease, with margin, at this moment (I4)? Asked before every send. */
  isPrimary(): boolean
  /** Epoch of this node's time in office; `NO_EPOCH` when it is not the primary. */
  term(): Epoch
  /** Records of older epochs are refused here: what this node promised the newest candidate that asked. */
  promised(): Epoch
  /** Facts for `/info` and for the first line of `/events`. */
  facts(): NodeFacts
  databases(): readonly StreamableDatabase[]
  database(name: string): StreamableDatabase | undefined
  /** Calls `listener` for each database the node gets from now on. Answers how to stop. */
  onDatabaseAdded(listener: (database: StreamableDatabase) => void): () => void
}

export interface NodeFacts {
  readonly isPrimary: boolean
  /** May this node become primary? */
  readonly candidate: boolean
  /** The data directory. */
  readonly path: string
  /** Own name on the primary, the primary's on a connected replica, empty otherwise. */
  readonly primaryHostname: string
  readonly name: string
  readonly region?: string | undefined
  /** `host:port` of the peer service. */
  readonly grpc?: string | undefined
}
