/**
 * What a node says of itself to operators: the value behind `Admin.Status`, and its translation to and from the wire.
 */
import type { Epoch, EpochTable } from '../position/epoch.ts'
import type { Position } from '../position/position.ts'
import type { NodeCard, RoleName } from './hello.ts'
import {
  decodeEpoch,
  decodeEpochs,
  decodeMember,
  decodePosition,
  decodeRole,
  encodeEpochs,
  encodeMember,
  encodePosition,
  type WireEpochStart,
  encodeRole,
  type Member,
  type WireMember,
  type WirePosition,
} from './wire-messages.ts'

export interface NodeStatus {
  readonly protocolVersion: number
  /** Empty while the node has not joined a cluster. */
  readonly clusterId: string
  readonly nodeId: string
  readonly nodeName: string
  readonly region: string
  readonly role: RoleName
  /** Why the node is detached and what keeps it from office, or to whom it hands off; empty otherwise. */
  readonly roleDetail: string
  /** Epoch of this node's time in office; `NO_EPOCH` when it is not in office. */
  readonly term: Epoch
  /** On the primary: itself. */
  readonly primary: NodeCard | undefined
  readonly databases: readonly DatabaseStatus[]
  /** Every node this one knows, itself included. */
  readonly members: readonly Member[]
  readonly process: ProcessFacts
}

export interface DatabaseStatus {
  readonly name: string
  readonly state: 'ready' | 'seeding' | 'stopped'
  /** Why it is not ready; empty otherwise. */
  readonly stateReason: string
  readonly position: Position
  readonly epoch: Epoch
  readonly durable: Position
  /** Age of what this node serves, in ms; 0 on the primary, `undefined` before anything arrived. */
  readonly lagMs: number | undefined
  readonly pageSize: number
  readonly pageCount: number
  readonly logBytes: number
  readonly logRecords: number
  readonly walBytes: number
  readonly queuedWrites: number
  /** Divergence reports kept on this node. */
  readonly divergences: number
  /** Which epoch wrote which TXIDs: the newest 256 of them. */
  readonly epochs: EpochTable
  /** On the primary: every connected replica. */
  readonly replicas: readonly ReplicaStatus[]
}

export interface ReplicaStatus {
  readonly nodeId: string
  readonly nodeName: string
  readonly region: string
  /** False for a LiteFS node: it acknowledges nothing. */
  readonly counted: boolean
  /** `undefined` before its first report of this database. */
  readonly durable: Position | undefined
  readonly applied: Position | undefined
  readonly epoch: Epoch
}

export interface ProcessFacts {
  readonly pid: number
  readonly uptimeMs: number
  readonly rssBytes: number
  readonly litefleetVersion: string
  readonly nodeVersion: string
  readonly sqliteVersion: string
  /** `linux-x64` for example. */
  readonly platform: string
}

export interface WireStatus
  extends Omit<NodeStatus, 'role' | 'term' | 'primary' | 'databases' | 'members' | 'process'> {
  readonly term: string
  readonly role: string | number
  readonly primary?: WireMember | null
  readonly databases: readonly WireDatabaseStatus[]
  readonly members: readonly WireMember[]
  readonly process?: (Omit<ProcessFacts, 'rssBytes'> & { readonly rssBytes: string }) | null
}

interface WireDatabaseStatus {
  readonly name: string
  readonly state: string
  readonly stateReason: string
  readonly position?: WirePosition | null
  readonly epoch: string
  readonly durable?: WirePosition | null
  readonly lagMs?: number
  readonly pageSize: number
  readonly pageCount: string
  readonly logBytes: string
  readonly logRecords: string
  readonly walBytes: string
  readonly queuedWrites: number
  readonly divergences: number
  readonly epochs: readonly WireEpochStart[]
  readonly replicas: readonly {
    readonly nodeId: string
    readonly nodeName: string
    readonly region: string
    readonly counted: boolean
    readonly durable?: WirePosition | null
    readonly applied?: WirePosition | null
    readonly epoch: string
  }[]
}

const STATES: readonly DatabaseStatus['state'][] = ['ready', 'seeding', 'stopped']

export function encodeStatus(status: NodeStatus): WireStatus {
  return {
    ...status,
    role: encodeRole(status.role),
    term: String(status.term),
    primary: status.primary === undefined ? null : encodeMember({ ...status.primary, positions: [] }),
    databases: status.databases.map(encodeDatabase),
    members: status.members.map(encodeMember),
    process: { ...status.process, rssBytes: String(status.process.rssBytes) },
  }
}

/** @throws INVALID_REQUEST when the answer is malformed */
export function decodeStatus(wire: WireStatus): NodeStatus {
  const { primary, process } = wire
  return {
    protocolVersion: wire.protocolVersion,
    clusterId: wire.clusterId,
    nodeId: wire.nodeId,
    nodeName: wire.nodeName,
    region: wire.region,
    role: decodeRole(wire.role),
    roleDetail: wire.roleDetail,
    term: decodeEpoch(wire.term),
    primary: primary === undefined || primary === null ? undefined : cardOf(decodeMember(primary)),
    databases: wire.databases.map(decodeDatabase),
    members: wire.members.map(decodeMember),
    process: {
      pid: process?.pid ?? 0,
      uptimeMs: process?.uptimeMs ?? 0,
      rssBytes: Number(process?.rssBytes ?? 0),
      litefleetVersion: process?.litefleetVersion ?? '',
      nodeVersion: process?.nodeVersion ?? '',
      sqliteVersion: process?.sqliteVersion ?? '',
      platform: process?.platform ?? '',
    },
  }
}

function encodeDatabase(database: DatabaseStatus): WireDatabaseStatus {
  const { lagMs, ...rest } = database
  return {
    ...rest,
    position: encodePosition(database.position),
    epoch: String(database.epoch),
    durable: encodePosition(database.durable),
    ...(lagMs === undefined ? {} : { lagMs }),
    pageCount: String(database.pageCount),
    epochs: encodeEpochs(database.epochs),
    logBytes: String(database.logBytes),
    logRecords: String(database.logRecords),
    walBytes: String(database.walBytes),
    replicas: database.replicas.map((replica) => ({
      ...replica,
      durable: replica.durable === undefined ? null : encodePosition(replica.durable),
      applied: replica.applied === undefined ? null : encodePosition(replica.applied),
      epoch: String(replica.epoch),
    })),
  }
}

function decodeDatabase(wire: WireDatabaseStatus): DatabaseStatus {
  return {
    name: wire.name,
    state: STATES.find((state) => state === wire.state) ?? 'stopped',
    stateReason: wire.stateReason,
    position: decodePosition(wire.position),
    epoch: decodeEpoch(wire.epoch),
    durable: decodePosition(wire.durable),
    lagMs: wire.lagMs,
    pageSize: wire.pageSize,
    pageCount: Number(wire.pageCount),
    logBytes: Number(wire.logBytes),
    logRecords: Number(wire.logRecords),
    walBytes: Number(wire.walBytes),
    queuedWrites: wire.queuedWrites,
    divergences: wire.divergences,
    epochs: decodeEpochs(wire.epochs),
    replicas: wire.replicas.map((replica) => ({
      nodeId: replica.nodeId,
      nodeName: replica.nodeName,
      region: replica.region,
      counted: replica.counted,
      durable: decodeOptionalPosition(replica.durable),
      applied: decodeOptionalPosition(replica.applied),
      epoch: decodeEpoch(replica.epoch),
    })),
  }
}

function decodeOptionalPosition(wire: WirePosition | null | undefined): Position | undefined {
  return wire === undefined || wire === null ? undefined : decodePosition(wire)
}

function cardOf({ nodeId, nodeName, region, grpcAddress, httpUrl, role, isCandidate }: Member): NodeCard {
  return { nodeId, nodeName, region, grpcAddress, httpUrl, role, isCandidate }
}
