/** The version of what nodes say to each other, and the protocol files that describe it. */
import { loadPackageDefinition, type ServiceDefinition } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import { assert } from '../base/assert.ts'
import { protoDirectory } from '../base/proto-directory.ts'

/** Covers the channel's compact bodies too. Its history is in the README beside the protocol files. */
export const PROTOCOL_VERSION = 1

/** The services as gRPC needs them. Messages are plain objects, see `wire-messages.ts`. */
export interface PeerProtocol {
  readonly peer: ServiceDefinition
  readonly admin: ServiceDefinition
}

/** Reads and compiles the protocol files, which takes some tens of ms: once per node, then handed to whoever needs it. */
export function loadPeerProtocol(): PeerProtocol {
  const definition = loadSync(['litefleet/v1/peer.proto', 'litefleet/v1/admin.proto'], {
    includeDirs: [protoDirectory()],
    keepCase: false,
    // 64-bit numbers as decimal text: exact, and BigInt reads them.
    longs: String,
    enums: String,
    defaults: true,
    oneofs: true,
  })
  const loaded = loadPackageDefinition(definition)
  return { peer: serviceOf(loaded, 'Peer'), admin: serviceOf(loaded, 'Admin') }
}

function serviceOf(loaded: ReturnType<typeof loadPackageDefinition>, name: string): ServiceDefinition {
  const path = ['litefleet', 'v1', name]
  let at: unknown = loaded
  for (const step of path) at = (at as Record<string, unknown>)[step]
  const { service } = at as { service?: ServiceDefinition }
  assert(service !== undefined, `the protocol files define no service ${path.join('.')}`)
  return service
}
