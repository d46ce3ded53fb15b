/**
 * The first message of both sides of a channel: who is speaking, of which cluster, in which protocol version.
 *
 * Promises: two nodes that do not belong together never exchange anything else, and both are told why by name. A
 * dialling node without a cluster id adopts the answering node's; an answering node without one turns everybody away
 * until it has joined.
 */
import { ClusterError } from '../errors/cluster-error.ts'
import type { EpochTable } from '../position/epoch.ts'
import { PROTOCOL_VERSION } from './protocol.ts'

/** The kinds of `NodeRole` in `leadership/`, as they travel. */
export type RoleName = 'detached' | 'replica' | 'candidate' | 'primary' | 'handing-off' | 'closed'

/** What a node says of itself to others. */
export interface NodeCard {
  /** 16 lowercase hex digits, new in each process. */
  readonly nodeId: string
  readonly nodeName: string
  readonly region: string
  /** `host:port` at which other nodes reach it. */
  readonly grpcAddress: string
  /** URL of its HTTP listener. */
  readonly httpUrl: string
  readonly role: RoleName
  /** It may become the primary. */
  readonly isCandidate: boolean
}

export interface DatabaseEpochs {
  readonly database: string
  readonly epochs: EpochTable
}

export interface Hello extends NodeCard {
  readonly protocolVersion: number
  /** Empty while the node has not joined a cluster. */
  readonly clusterId: string
  readonly databases: readonly DatabaseEpochs[]
  /** Proof of the cluster key by the answering side; empty without one. */
  readonly tokenAnswer: string
}

/** What this node puts into its hellos; asked anew for each channel. */
export type LocalHello = Omit<Hello, 'protocolVersion' | 'tokenAnswer'>

/**
 * The answering side's check of a dialling node.
 * @throws PROTOCOL_MISMATCH, CLUSTER_MISMATCH
 */
export function admitDialler(theirs: Hello, ours: LocalHello): void {
  requireProtocol(theirs)
  if (ours.clusterId === '') {
    throw new ClusterError('CLUSTER_MISMATCH', `node "${ours.nodeName}" has not joined a cluster yet`, {
      hint: 'It joins as soon as it reaches its primary.',
    })
  }
  if (theirs.clusterId !== '') requireCluster(theirs, ours)
}

/**
 * The dialling side's check of the answering node.
 * @throws PROTOCOL_MISMATCH, CLUSTER_MISMATCH
 */
export function admitAnswerer(theirs: Hello, ours: LocalHello): void {
  requireProtocol(theirs)
  if (ours.clusterId !== '') requireCluster(theirs, ours)
}

function requireProtocol(theirs: Hello): void {
  if (theirs.protocolVersion === PROTOCOL_VERSION) return
  throw new ClusterError(
    'PROTOCOL_MISMATCH',
    `node "${theirs.nodeName}" speaks protocol ${theirs.protocolVersion}, this node ${PROTOCOL_VERSION}`,
    {
      details: { theirs: theirs.protocolVersion, ours: PROTOCOL_VERSION, node: theirs.nodeName },
      hint: 'Bring both nodes to the same release.',
    },
  )
}

function requireCluster(theirs: Hello, ours: LocalHello): void {
  if (theirs.clusterId === ours.clusterId) return
  throw new ClusterError(
    'CLUSTER_MISMATCH',
    `node "${theirs.nodeName}" belongs to cluster ${theirs.clusterId}, this node to ${ours.clusterId}`,
    {
      details: { theirs: theirs.clusterId, ours: ours.clusterId, node: theirs.nodeName },
      hint: 'Check the address of the primary. To move a node to another cluster, give it an empty data directory.',
    },
  )
}
