/** Asks a node for what operators want with its office: what the command line does, and a node that was asked instead of the primary. */
import { callUnary, type UnaryOptions } from './unary-call.ts'

export interface OfficeReply {
  /** Name of the primary. */
  readonly primary: string
}

const TIMEOUT_MS = 10_000

export interface PromoteOptions extends UnaryOptions {
  /** Without a primary: take office although others have, or may have, transactions that the node lacks. Default: false. */
  readonly acceptLoss?: boolean | undefined
}

/**
 * Has the node at this address (`host:port`) become the primary.
 * @throws HANDOFF_FAILED, PROMOTION_REFUSED, NO_PRIMARY, PEER_UNREACHABLE, UNAUTHENTICATED
 */
export function sendPromote(address: string, options: PromoteOptions): Promise<OfficeReply> {
  return ask(address, 'Promote', { acceptLoss: options.acceptLoss === true }, options)
}

/** Has the primary hand its office to the node of this name, or to the one that is furthest. Throws as `sendPromote`. */
export function sendHandOff(address: string, to: string | undefined, options: UnaryOptions): Promise<OfficeReply> {
  return ask(address, 'HandOff', { to: to ?? '' }, options)
}

/** Has the node at this address, which is the primary, hand its office to another one. Throws as `sendPromote`; NOT_PRIMARY. */
export function sendDemote(address: string, options: UnaryOptions): Promise<OfficeReply> {
  return ask(address, 'Demote', {}, options)
}

async function ask(address: string, method: string, request: object, options: UnaryOptions): Promise<OfficeReply> {
  const { timeoutMs = TIMEOUT_MS } = options
  const call = { service: 'admin', method, request: { ...request, timeoutMs }, timeoutMs, isWrite: false } as const
  return (await callUnary(address, call, options)) as OfficeReply
}
