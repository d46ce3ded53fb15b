/**
 * One call of a unary method, by a program that is no node: its own connection, its own token, closed afterwards.
 *
 * Promises: settles by the timeout; nothing is sent twice. Of a write, a rejection says whether the other side can have seen
 * it: it is sent only once the connection is open, so `PEER_UNREACHABLE` and whatever the node named itself mean that nothing
 * was done, and everything else is `WRITE_OUTCOME_UNKNOWN`.
 */
import { Client, connectivityState, credentials, Metadata, type ServiceError } from '@grpc/grpc-js'
import { ClusterError } from '../errors/cluster-error.ts'
import { type ClusterKeys, signToken } from '../request/cluster-token.ts'
import { channelOptions } from './client-connection.ts'
import { fromStatus, isRefusal } from './grpc-errors.ts'
import { PEER_DEFAULTS } from './peer-options.ts'
import { loadPeerProtocol, type PeerProtocol } from './protocol.ts'

/** How a program reaches a node. */
export interface UnaryOptions {
  /** Empty: none. */
  readonly keys: ClusterKeys
  readonly timeoutMs?: number | undefined
  /** Given by callers that ask several times, because loading takes some tens of ms. */
  readonly protocol?: PeerProtocol | undefined
}

export interface UnaryCall {
  readonly service: 'peer' | 'admin'
  readonly method: string
  readonly request: object
  readonly timeoutMs: number
  /** False: asking changes nothing, so a call that may have been seen has failed like any other. */
  readonly isWrite: boolean
}

/**
 * @param address `host:port` of the node's gRPC listener
 * @returns the answer, as the protocol's loader makes it
 * @throws PEER_UNREACHABLE, WRITE_OUTCOME_UNKNOWN, UNAUTHENTICATED, and what the node names
 */
export async function callUnary(address: string, call: UnaryCall, options: UnaryOptions): Promise<unknown> {
  const method = (options.protocol ?? loadPeerProtocol())[call.service][call.method]
  if (method === undefined) throw new ClusterError('PROTOCOL_MISMATCH', `the protocol has no method ${call.method}`)
  const deadline = Date.now() + call.timeoutMs
  const metadata = new Metadata()
  const token = signToken(options.keys, 'call', { clusterId: '', nodeName: '' }, Date.now())
  if (token !== undefined) metadata.set('authorization', `Bearer ${token}`)
  const client = new Client(address, credentials.createInsecure(), channelOptions(PEER_DEFAULTS.messageBytesMax))
  try {
    if (call.isWrite) await connected(client, address, deadline)
    return await new Promise((resolve, reject) => {
      client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        call.request,
        metadata,
        { deadline },
        (error, answer) => {
          if (error === null) resolve(answer)
          else reject(call.isWrite && !isRefusal(error) ? unanswered(error, address) : fromStatus(error, address))
        },
      )
    })
  } finally {
    client.close()
  }
}

/** Resolves when the connection is open, rejects with the first attempt that fails. */
async function connected(client: Client, address: string, deadline: number): Promise<void> {
  const channel = client.getChannel()
  for (;;) {
    const state = channel.getConnectivityState(true)
    if (state === connectivityState.READY) return
    if (state === connectivityState.TRANSIENT_FAILURE || Date.now() >= deadline) {
      throw new ClusterError('PEER_UNREACHABLE', `${address}: no connection could be opened`, {
        details: { peer: address },
      })
    }
    // At the deadline it calls back with an error, and the loop sees the time.
    await new Promise<void>((resolve) => channel.watchConnectivityState(state, deadline, () => resolve()))
  }
}

function unanswered(error: ServiceError, address: string): ClusterError {
  const { summary } = fromStatus(error, address)
  return new ClusterError('WRITE_OUTCOME_UNKNOWN', `a request was sent, but no answer came: ${summary}`, {
    cause: error,
    details: { peer: address, phase: 'sending' },
  })
}
