/**
 * Every operational failure has one code here, and each code answers two questions:
 * what happened to the write (if there was one), and may the caller retry.
 * `docs/errors.md` is generated from this table.
 */

/** What became of the write. `none`: the failure does not concern a write. */
export type Outcome = 'not-applied' | 'applied' | 'unknown' | 'none'

/**
 * `never`: the same call fails again. `at-primary`: ask the node named in the details.
 * `after-backoff`: wait, then repeat. `same-request-id`: repeat with the same request id only.
 */
export type Retry = 'never' | 'at-primary' | 'after-backoff' | 'same-request-id'

export interface ErrorTraits {
  readonly outcome: Outcome
  readonly retry: Retry
  /** One sentence for the reference. */
  readonly meaning: string
}

export const errorTable = {
  // opening and configuration
  INVALID_OPTION: {
    outcome: 'none',
    retry: 'never',
    meaning: 'An option has an unknown name or a value out of range.',
  },
  UNSUPPORTED_PLATFORM: {
    outcome: 'none',
    retry: 'never',
    meaning: 'This operating system, Node.js or SQLite cannot run a node.',
  },
  SECOND_SQLITE_COPY: {
    outcome: 'none',
    retry: 'never',
    meaning: 'Two copies of better-sqlite3 are loaded in this process; each would drop the locks of the other.',
  },
  DATA_DIR_IN_USE: {
    outcome: 'none',
    retry: 'after-backoff',
    meaning: 'Another live process owns this data directory.',
  },
  INSECURE_LISTENER: { outcome: 'none', retry: 'never', meaning: 'A listener beyond loopback needs a cluster key.' },
  LISTEN_FAILED: {
    outcome: 'none',
    retry: 'after-backoff',
    meaning: 'The address of a listener cannot be bound: in use, or not of this machine.',
  },
  UNSUPPORTED_FORMAT: {
    outcome: 'none',
    retry: 'never',
    meaning: 'A file on disk was written by a newer version of Litefleet; it was left as it is.',
  },
  NOT_A_DATABASE: {
    outcome: 'none',
    retry: 'never',
    meaning: 'The file is not a SQLite database, or has a page size that cannot be used.',
  },
  INVALID_DATABASE_NAME: {
    outcome: 'none',
    retry: 'never',
    meaning: 'The database name cannot be used as a file name of LiteFS.',
  },
  CORRUPT_DATA: {
    outcome: 'none',
    retry: 'never',
    meaning: 'Bytes on disk or on the wire do not match their checksum.',
  },
  STORAGE_FAILED: {
    outcome: 'none',
    retry: 'after-backoff',
    meaning: 'The operating system refused a file operation (disk full, I/O error).',
  },
  CLOSED: { outcome: 'not-applied', retry: 'never', meaning: 'The node, database or connection was closed.' },
  // membership
  CLUSTER_MISMATCH: { outcome: 'not-applied', retry: 'never', meaning: 'The peer belongs to another cluster.' },
  PROTOCOL_MISMATCH: { outcome: 'not-applied', retry: 'never', meaning: 'The peer speaks another protocol version.' },
  UNAUTHENTICATED: {
    outcome: 'not-applied',
    retry: 'never',
    meaning: 'The peer or caller did not prove that it knows the cluster key.',
  },
  PEER_UNREACHABLE: {
    outcome: 'not-applied',
    retry: 'after-backoff',
    meaning: 'There is no working connection to the other node; the request was not handed to it.',
  },
  PEER_QUEUE_FULL: {
    outcome: 'not-applied',
    retry: 'after-backoff',
    meaning: 'Too many requests wait for an answer of the other node.',
  },
  NO_SUCH_NODE: {
    outcome: 'not-applied',
    retry: 'after-backoff',
    meaning: 'No connected node has this name or region.',
  },
  LEASE_UNAVAILABLE: {
    outcome: 'not-applied',
    retry: 'after-backoff',
    meaning:
      'The service that keeps the lease cannot be reached, or refuses. A primary stays in office while its lease lasts; nobody else can take it.',
  },
  // writes: where they may run
  NO_PRIMARY: {
    outcome: 'not-applied',
    retry: 'after-backoff',
    meaning: 'No primary was known or reachable before the deadline.',
  },
  NOT_PRIMARY: { outcome: 'not-applied', retry: 'at-primary', meaning: 'This node is not the primary.' },
  PRIMARY_IS_LITEFS: {
    outcome: 'not-applied',
    retry: 'never',
    meaning: 'The primary is a LiteFS node, which cannot run forwarded writes.',
  },
  HOP_LIMIT: {
    outcome: 'not-applied',
    retry: 'after-backoff',
    meaning: 'A forwarded request is never forwarded again.',
  },
  // writes: admission
  WRITE_QUEUE_FULL: {
    outcome: 'not-applied',
    retry: 'after-backoff',
    meaning: 'The writer queue of the database is full.',
  },
  DEADLINE_EXCEEDED: {
    outcome: 'not-applied',
    retry: 'after-backoff',
    meaning: 'The deadline passed before the write began.',
  },
  DATABASE_BUSY: {
    outcome: 'not-applied',
    retry: 'after-backoff',
    meaning: 'Another process held the write lock of the database until the deadline.',
  },
  INVALID_REQUEST: {
    outcome: 'not-applied',
    retry: 'never',
    meaning: 'The request is malformed: a wrong type, an unknown field, a value SQLite cannot store.',
  },
  STATEMENT_REFUSED: {
    outcome: 'not-applied',
    retry: 'never',
    meaning: 'The statement would control the transaction or the connection, which belong to the cluster.',
  },
  WRITE_ON_READ_HANDLE: {
    outcome: 'not-applied',
    retry: 'never',
    meaning: 'A local handle only reads; writes go through run(), batch() or a procedure.',
  },
  ASYNC_PROCEDURE: {
    outcome: 'not-applied',
    retry: 'never',
    meaning: 'A procedure returned a promise; it runs inside one transaction and must be synchronous.',
  },
  UNKNOWN_PROCEDURE: {
    outcome: 'not-applied',
    retry: 'never',
    meaning: 'The node that was to run it has not registered a procedure of this name.',
  },
  UNKNOWN_DATABASE: { outcome: 'not-applied', retry: 'never', meaning: 'The node has no database of this name.' },
  AWAIT_LEVEL_REFUSED: {
    outcome: 'not-applied',
    retry: 'never',
    meaning: 'This await level cannot be honoured by this cluster.',
  },
  // writes: identity
  REQUEST_ID_REUSED: {
    outcome: 'not-applied',
    retry: 'never',
    meaning: 'The request id or idempotency key was used before for a different request.',
  },
  REQUEST_ABANDONED: {
    outcome: 'not-applied',
    retry: 'never',
    meaning: 'The request was declared not applied (resolve) before it arrived; it can never run under this id.',
  },
  REQUEST_TOO_OLD: {
    outcome: 'unknown',
    retry: 'never',
    meaning: 'The request is older than the ledger remembers; it was not run now, and may have been applied long ago.',
  },
  LEDGER_FULL: {
    outcome: 'not-applied',
    retry: 'after-backoff',
    meaning: 'The request ledger reached its size bound (`ledger` options); it has room again as requests grow old.',
  },
  ANSWER_DROPPED: {
    outcome: 'applied',
    retry: 'never',
    meaning: 'The write was applied; its answer was too large to be kept or sent.',
  },
  // writes: after the fact
  WRITE_OUTCOME_UNKNOWN: {
    outcome: 'unknown',
    retry: 'same-request-id',
    meaning:
      'The write was sent or committed, but its fate is not known here; `database.resolve(error.requestId)` finds out.',
  },
  CALL_OUTCOME_UNKNOWN: {
    outcome: 'unknown',
    retry: 'never',
    meaning: 'A function was called on another node and no answer came; it may have run.',
  },
  NOT_YET_VISIBLE: {
    outcome: 'applied',
    retry: 'never',
    meaning:
      'The write is committed; the awaited level was not reached in time. Result and position are in the details.',
  },
  DATABASE_STOPPED: {
    outcome: 'not-applied',
    retry: 'after-backoff',
    meaning: 'The database takes no writes on this node after a failure; see the details.',
  },
  // reading and replication
  PRIMARY_OUTDATED: {
    outcome: 'none',
    retry: 'after-backoff',
    meaning: 'The other node took office before a candidate to which this one has promised to follow nobody older.',
  },
  PROMOTION_REFUSED: {
    outcome: 'not-applied',
    retry: 'after-backoff',
    meaning:
      'This node holds the lease, but others have, or may have, transactions that it lacks; it gives the lease back rather than lose them.',
  },
  HANDOFF_FAILED: {
    outcome: 'none',
    retry: 'after-backoff',
    meaning: 'The office could not be given to another node; the one that had it still has it.',
  },
  COPY_NOT_WHOLE: {
    outcome: 'not-applied',
    retry: 'after-backoff',
    meaning:
      'This node has no whole copy of the database: it can neither be read here, nor can this node become its primary.',
  },
  TOO_MANY_READERS: {
    outcome: 'none',
    retry: 'after-backoff',
    meaning: 'Too many iterators and read transactions are open on one database.',
  },
  POSITION_DIVERGED: {
    outcome: 'none',
    retry: 'never',
    meaning: 'The history of this node and the awaited position have parted.',
  },
  WAIT_TIMEOUT: {
    outcome: 'none',
    retry: 'after-backoff',
    meaning: 'The awaited position or condition was not reached in time.',
  },
  SCHEMA_NOT_READY: {
    outcome: 'none',
    retry: 'after-backoff',
    meaning: 'The schema version this node needs has not arrived in time.',
  },
  MIGRATION_FAILED: {
    outcome: 'not-applied',
    retry: 'never',
    meaning: 'A migration failed or its text changed after it ran.',
  },
  UNSUPPORTED_RECORD: {
    outcome: 'none',
    retry: 'never',
    meaning: 'A replicated transaction needs what this version does not do: another page size, another file format.',
  },
  EXPORT_FAILED: {
    outcome: 'none',
    retry: 'after-backoff',
    meaning: 'A database could not be fetched whole from a node.',
  },
  STREAM_FAILED: {
    outcome: 'none',
    retry: 'after-backoff',
    meaning: 'The replication stream broke; the replica reconnects by itself.',
  },
} as const satisfies Record<string, ErrorTraits>

export type ErrorCode = keyof typeof errorTable
