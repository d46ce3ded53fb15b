/** Asks a node for its status: what the command line and the server use on other nodes. */
import { decodeStatus, type NodeStatus, type WireStatus } from './node-status.ts'
import { callUnary, type UnaryOptions } from './unary-call.ts'

const TIMEOUT_MS = 3_000

/**
 * @param address `host:port` of the node's gRPC listener
 * @throws PEER_UNREACHABLE, UNAUTHENTICATED, INVALID_REQUEST when the answer is malformed
 */
export async function fetchStatus(address: string, options: UnaryOptions): Promise<NodeStatus> {
  const { timeoutMs = TIMEOUT_MS } = options
  const call = { service: 'admin', method: 'Status', request: {}, timeoutMs, isWrite: false } as const
  return decodeStatus((await callUnary(address, call, options)) as WireStatus)
}
