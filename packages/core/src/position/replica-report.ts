/** What a replica says of one of its databases, on the channel to the primary. */
import type { Epoch } from './epoch.ts'
import type { Position } from './position.ts'

export interface ReplicaReport {
  readonly database: string
  /** Epoch of the last record in the replica's log. It tells the primary whose history the positions belong to. */
  readonly epoch: Epoch
  /** End of the replica's log after its last fdatasync. */
  readonly durable: Position
  /** What a new read on the replica sees. Never beyond `durable`. */
  readonly applied: Position
}

/** What a node has of one database, as a candidate is told. */
export interface DatabaseStanding extends ReplicaReport {
  /** It can be read from, and sent on. */
  readonly isWhole: boolean
}

export interface ReplicaIdentity {
  readonly nodeId: string
  readonly name: string
  readonly region: string
}
