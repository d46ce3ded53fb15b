/**
 * The messages of the channel as proto-loader's plain objects, and their translation to and from the values of this
 * package.
 *
 * Relies on: the loader's settings in `protocol.ts` (64-bit numbers as decimal text, enums by name, defaults filled in,
 * the name of the chosen field of a oneof in the oneof's own name). Field comments are in
 * `proto/litefleet/v1/peer.proto`.
 * Promises: whatever a peer sends is either translated or refused as `INVALID_REQUEST`; nothing unchecked goes further.
 */
import { ClusterError } from '../errors/cluster-error.ts'
import { checksum } from '../position/checksum.ts'
import { type Epoch, epoch, type EpochTable } from '../position/epoch.ts'
import type { Position } from '../position/position.ts'
import type { ReplicaReport } from '../position/replica-report.ts'
import { txid } from '../position/txid.ts'
import type { Hello, NodeCard, RoleName } from './hello.ts'

export interface WirePosition {
  readonly txid: string
  readonly checksum: string
}

export interface WireReport {
  readonly database: string
  readonly epoch: string
  readonly durable?: WirePosition | null
  readonly applied?: WirePosition | null
}

export interface WireEpochStart {
  readonly epoch: string
  readonly firstTxid: string
  readonly checksumBefore: string
}

export interface WireHello {
  readonly protocolVersion: number
  readonly clusterId: string
  readonly nodeName: string
  readonly nodeId: string
  readonly region: string
  readonly grpcAddress: string
  readonly httpUrl: string
  readonly role: string | number
  readonly databases: readonly {
    readonly database: string
    readonly epochs: readonly WireEpochStart[]
  }[]
  readonly tokenAnswer: string
  readonly isCandidate: boolean
}

export interface WireMember {
  readonly nodeId: string
  readonly nodeName: string
  readonly region: string
  readonly grpcAddress: string
  readonly httpUrl: string
  readonly role: string | number
  readonly positions: readonly WireReport[]
  readonly isCandidate: boolean
}

export type WireRequestKind = 'REQUEST_KIND_WRITE' | 'REQUEST_KIND_CALL' | 'REQUEST_KIND_RESOLVE'

export interface WireRequest {
  readonly id: number
  readonly timeoutMs: number
  readonly kind: WireRequestKind
  readonly body: Uint8Array
}

export interface WireReply {
  readonly id: number
  readonly answer?: Buffer
  readonly failure?: Buffer
  readonly refusal?: { readonly code: string; readonly message: string }
}

/** Exactly one field is set. */
export interface PeerMessage {
  readonly hello?: WireHello
  readonly requests?: { readonly requests: readonly WireRequest[] }
  readonly replies?: { readonly replies: readonly WireReply[] }
  readonly positions?: { readonly reports: readonly WireReport[] }
  readonly membership?: { readonly members: readonly WireMember[] }
  readonly ping?: { readonly nonce: number }
  readonly pong?: { readonly nonce: number }
  readonly goodbye?: { readonly reason: string }
}

/** A node of the cluster as the primary describes it to the others. */
export interface Member extends NodeCard {
  readonly positions: readonly ReplicaReport[]
}

const ROLE_PREFIX = 'NODE_ROLE_'
const ROLES: readonly RoleName[] = ['detached', 'replica', 'candidate', 'primary', 'handing-off', 'closed']

export function encodeRole(role: RoleName): string {
  return ROLE_PREFIX + role.toUpperCase().replace('-', '_')
}

/**
 * A role this version does not know is no reason to refuse a message: such a node is `detached` to us. It arrives as the
 * number of the enum, because there is no name for it.
 */
export function decodeRole(role: string | number): RoleName {
  const name = String(role).slice(ROLE_PREFIX.length).toLowerCase().replace('_', '-')
  return ROLES.find((role) => role === name) ?? 'detached'
}

export function encodePosition(position: Position): WirePosition {
  return { txid: position.txid.toString(), checksum: position.checksum.toString() }
}

export function decodePosition(wire: WirePosition | null | undefined): Position {
  return checked('position', () => ({
    txid: txid(BigInt(wire?.txid ?? 0)),
    checksum: checksum(BigInt(wire?.checksum ?? 0)),
  }))
}

export function decodeEpoch(digits: string): Epoch {
  return checked('epoch', () => epoch(Number(digits)))
}

export function encodeReport(report: ReplicaReport): WireReport {
  return {
    database: report.database,
    epoch: String(report.epoch),
    durable: encodePosition(report.durable),
    applied: encodePosition(report.applied),
  }
}

export function decodeReport(wire: WireReport): ReplicaReport {
  return {
    database: wire.database,
    epoch: decodeEpoch(wire.epoch),
    durable: decodePosition(wire.durable),
    applied: decodePosition(wire.applied),
  }
}

export function encodeHello(hello: Hello): WireHello {
  return {
    ...hello,
    role: encodeRole(hello.role),
    databases: hello.databases.map(({ database, epochs }) => ({ database, epochs: encodeEpochs(epochs) })),
  }
}

export function decodeHello(wire: WireHello): Hello {
  return {
    ...decodeCard(wire),
    protocolVersion: wire.protocolVersion,
    clusterId: wire.clusterId,
    databases: wire.databases.map(({ database, epochs }) => ({ database, epochs: decodeEpochs(epochs) })),
    tokenAnswer: wire.tokenAnswer,
  }
}

export function encodeMember(member: Member): WireMember {
  return { ...member, role: encodeRole(member.role), positions: member.positions.map(encodeReport) }
}

export function decodeMember(wire: WireMember): Member {
  return { ...decodeCard(wire), positions: wire.positions.map(decodeReport) }
}

function decodeCard(wire: Omit<WireMember, 'positions'>): NodeCard {
  return {
    nodeId: wire.nodeId,
    nodeName: wire.nodeName,
    region: wire.region,
    grpcAddress: wire.grpcAddress,
    httpUrl: wire.httpUrl,
    role: decodeRole(wire.role),
    isCandidate: wire.isCandidate,
  }
}

export function encodeEpochs(table: EpochTable): readonly WireEpochStart[] {
  return table.map((start) => ({
    epoch: String(start.epoch),
    firstTxid: start.firstTxid.toString(),
    checksumBefore: start.checksumBefore.toString(),
  }))
}

/** @throws INVALID_REQUEST */
export function decodeEpochs(wire: readonly WireEpochStart[]): EpochTable {
  return wire.map((start) =>
    checked('epoch table', () => ({
      epoch: epoch(Number(start.epoch)),
      firstTxid: txid(BigInt(start.firstTxid)),
      checksumBefore: checksum(BigInt(start.checksumBefore)),
    })),
  )
}

function checked<T>(what: string, translate: () => T): T {
  try {
    return translate()
  } catch (error) {
    throw new ClusterError('INVALID_REQUEST', `a peer sent a malformed ${what}`, { cause: error })
  }
}
