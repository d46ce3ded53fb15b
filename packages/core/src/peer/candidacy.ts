/**
 * What a candidate asks other nodes before it takes office, and what they answer; and what a primary says when it gives its office away.
 * Field comments are in `proto/litefleet/v1/peer.proto`.
 */
import type { Epoch } from '../position/epoch.ts'
import type { DatabaseStanding } from '../position/replica-report.ts'
import { callUnary, type UnaryOptions } from './unary-call.ts'
import { decodeEpoch, decodeReport, encodeReport, type WireReport } from './wire-messages.ts'

export interface Candidacy {
  /** Empty: the candidate founds a cluster. */
  readonly clusterId: string
  readonly nodeName: string
  readonly nodeId: string
  /** Of the lease that the candidate holds. */
  readonly epoch: Epoch
}

export interface Standing {
  /** Empty: the node has not joined a cluster, and has no data. */
  readonly clusterId: string
  readonly nodeName: string
  readonly nodeId: string
  readonly httpUrl: string
  /** It takes and acknowledges nothing of older epochs from now on. False: it promised that to a newer candidate. */
  readonly promised: boolean
  readonly promisedEpoch: Epoch
  readonly databases: readonly DatabaseStanding[]
}

export interface Succession {
  readonly clusterId: string
  readonly nodeName: string
  readonly epoch: Epoch
  readonly successor: string
  /** For how long others leave the lease alone, in ms. */
  readonly holdMs: number
}

export interface WireCandidacy extends Omit<Candidacy, 'epoch'> {
  readonly epoch: string
}

export interface WireStanding extends Omit<Standing, 'promisedEpoch' | 'databases'> {
  readonly promisedEpoch: string
  readonly databases: readonly { readonly report?: WireReport | null; readonly isWhole: boolean }[]
}

export interface WireSuccession extends Omit<Succession, 'epoch'> {
  readonly epoch: string
}

/** @throws INVALID_REQUEST */
export function decodeCandidacy({ epoch, ...rest }: WireCandidacy): Candidacy {
  return { ...rest, epoch: decodeEpoch(epoch) }
}

export function encodeStanding({ databases, promisedEpoch, ...rest }: Standing): WireStanding {
  return {
    ...rest,
    promisedEpoch: String(promisedEpoch),
    databases: databases.map(({ isWhole, ...report }) => ({ report: encodeReport(report), isWhole })),
  }
}

/** @throws INVALID_REQUEST */
export function decodeSuccession({ epoch, ...rest }: WireSuccession): Succession {
  return { ...rest, epoch: decodeEpoch(epoch) }
}

/**
 * Asks one node.
 * @param address where to connect, `host:port`
 * @throws PEER_UNREACHABLE, CLUSTER_MISMATCH, INVALID_REQUEST, and what the node names
 */
export async function askStanding(
  address: string,
  candidacy: Candidacy,
  options: UnaryOptions & { readonly timeoutMs: number },
): Promise<Standing> {
  const request: WireCandidacy = { ...candidacy, epoch: String(candidacy.epoch) }
  const { timeoutMs } = options
  const call = { service: 'peer', method: 'Stand', request, timeoutMs, isWrite: false } as const
  const { promisedEpoch, databases, ...rest } = (await callUnary(address, call, options)) as WireStanding
  return {
    ...rest,
    promisedEpoch: decodeEpoch(promisedEpoch),
    databases: databases.flatMap(({ report, isWhole }) =>
      report === undefined || report === null ? [] : [{ ...decodeReport(report), isWhole }],
    ),
  }
}

/** Tells one node who is to follow. Throws as `askStanding`. */
export async function tellSuccession(
  address: string,
  succession: Succession,
  options: UnaryOptions & { readonly timeoutMs: number },
): Promise<void> {
  const request: WireSuccession = { ...succession, epoch: String(succession.epoch) }
  const { timeoutMs } = options
  await callUnary(address, { service: 'peer', method: 'Succeed', request, timeoutMs, isWrite: false }, options)
}
