/** Asks a node for its status: what the command line and the server use on other nodes. */
import { Client, credentials, Metadata } from '@grpc/grpc-js'
import { type ClusterKeys, signToken } from '../request/cluster-token.ts'
import { channelOptions } from './client-connection.ts'
import { fromStatus } from './grpc-errors.ts'
import { decodeStatus, type NodeStatus, type WireStatus } from './node-status.ts'
import { PEER_DEFAULTS } from './peer-options.ts'
import { loadPeerProtocol, type PeerProtocol } from './protocol.ts'

export interface StatusRequestOptions {
  /** Empty: none. */
  readonly keys: ClusterKeys
  /** Default: 3,000. */
  readonly timeoutMs?: number | undefined
  /** Given by callers that ask several nodes, because loading takes some tens of ms. */
  readonly protocol?: PeerProtocol | undefined
}

/**
 * @param address `host:port` of the node's gRPC listener
 * @throws PEER_UNREACHABLE, UNAUTHENTICATED
 */
export async function fetchStatus(address: string, options: StatusRequestOptions): Promise<NodeStatus> {
  const method = (options.protocol ?? loadPeerProtocol()).admin['Status']!
  const metadata = new Metadata()
  const token = signToken(options.keys, 'call', { clusterId: '', nodeName: '' }, Date.now())
  if (token !== undefined) metadata.set('authorization', `Bearer ${token}`)
  const client = new Client(address, credentials.createInsecure(), channelOptions(PEER_DEFAULTS.messageBytesMax))
  try {
    return await new Promise<NodeStatus>((resolve, reject) => {
      client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        {},
        metadata,
        { deadline: Date.now() + (options.timeoutMs ?? 3_000) },
        (error, answer) => {
          if (error !== null) reject(fromStatus(error, address))
          else resolve(decodeStatus(answer as WireStatus))
        },
      )
    })
  } finally {
    client.close()
  }
}
