/** Gathers what an operator wants to know of a node into plain data. */
import type { DatabaseFacts } from '../engine/engine.ts'
import { isClusterError } from '../errors/cluster-error.ts'
import type { NodeRole, PrimaryInfo } from '../leadership/node-role.ts'
import type { NodeCard } from '../peer/hello.ts'
import type { DatabaseStatus, NodeStatus, ReplicaStatus } from '../peer/node-status.ts'
import { PROTOCOL_VERSION } from '../peer/protocol.ts'
import type { Member } from '../peer/wire-messages.ts'
import { type Epoch, NO_EPOCH } from '../position/epoch.ts'
import type { ReplicaStanding } from '../position/replica-positions.ts'
import { versionOfSqlite } from '../sqlite/sqlite-library.ts'
import { FRAME_HEADER_BYTES } from '../sqlite-format/wal-frame.ts'
import { LITEFLEET_VERSION } from './version.ts'

/** The newest; a table is kept for ever. */
const EPOCHS_TOLD = 256

export interface StatusParts {
  readonly card: NodeCard
  readonly clusterId: string
  readonly role: NodeRole
  readonly term: Epoch
  /** What keeps this node from the office. */
  readonly failure: unknown
  readonly primary: PrimaryInfo | undefined
  readonly databases: readonly DatabaseFacts[]
  readonly members: readonly Member[]
  /** Connected replicas of a database; empty on a replica. */
  standings(database: string): readonly ReplicaStanding[]
  /** Connected LiteFS replicas, by name. */
  readonly liteFs: readonly string[]
}

export function nodeStatus(parts: StatusParts): NodeStatus {
  const { card, clusterId, role, term, failure, primary, databases, members } = parts
  return {
    protocolVersion: PROTOCOL_VERSION,
    clusterId,
    nodeId: card.nodeId,
    nodeName: card.nodeName,
    region: card.region,
    role: role.kind,
    roleDetail: roleDetail(role, failure),
    term,
    primary: primary === undefined ? undefined : cardOf(primary),
    databases: databases.map((facts) => databaseStatus(facts, parts)),
    members,
    process: {
      pid: process.pid,
      uptimeMs: Math.round(process.uptime() * 1000),
      rssBytes: process.memoryUsage.rss(),
      litefleetVersion: LITEFLEET_VERSION,
      nodeVersion: process.version,
      sqliteVersion: versionOfSqlite(),
      platform: `${process.platform}-${process.arch}`,
    },
  }
}

function roleDetail(role: NodeRole, failure: unknown): string {
  const why = isClusterError(failure) ? failure.summary : failure instanceof Error ? failure.message : ''
  if (role.kind === 'detached') return why === '' ? role.reason : `${role.reason}: ${why}`
  if (role.kind === 'candidate') return why
  return role.kind === 'handing-off' ? role.to : ''
}

function databaseStatus(facts: DatabaseFacts, { standings, liteFs }: StatusParts): DatabaseStatus {
  const {
    name,
    state,
    position,
    epoch,
    durable,
    lagMs,
    pageSize,
    pageCount,
    logBytes,
    logRecords,
    walFrames,
    queuedWrites,
    divergences,
    epochs,
  } = facts
  return {
    name,
    state: state.kind,
    stateReason: state.kind === 'ready' ? '' : state.reason,
    position,
    epoch,
    durable,
    lagMs,
    pageSize,
    pageCount,
    logBytes,
    logRecords,
    walBytes: walFrames * (pageSize + FRAME_HEADER_BYTES),
    queuedWrites,
    divergences,
    epochs: epochs.slice(-EPOCHS_TOLD),
    replicas: [...standings(name).map(replicaStatus), ...liteFs.map(liteFsStatus)],
  }
}

function replicaStatus({ nodeId, name, region, report }: ReplicaStanding): ReplicaStatus {
  const { durable, applied, epoch = NO_EPOCH } = report ?? {}
  return { nodeId, nodeName: name, region, counted: true, durable, applied, epoch }
}

function liteFsStatus(name: string): ReplicaStatus {
  return {
    nodeId: '',
    nodeName: name,
    region: '',
    counted: false,
    durable: undefined,
    applied: undefined,
    epoch: NO_EPOCH,
  }
}

function cardOf(primary: PrimaryInfo): NodeCard {
  return {
    nodeId: primary.nodeId,
    nodeName: primary.name,
    region: primary.region,
    grpcAddress: primary.grpcAddress ?? '',
    httpUrl: primary.advertiseUrl,
    isCandidate: true,
    role: 'primary',
  }
}
