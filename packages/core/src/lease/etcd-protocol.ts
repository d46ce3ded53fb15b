/**
 * The part of etcd's API that a lease uses, as gRPC needs it, and its messages as the protocol's loader makes them: 64-bit numbers are decimal
 * text, bytes are buffers. Source of the format: `proto/etcdserverpb/rpc.proto`.
 */
import { loadPackageDefinition, type MethodDefinition, type ServiceDefinition } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import { assert } from '../base/assert.ts'
import { protoDirectory } from '../base/proto-directory.ts'

export interface KeyValue {
  readonly createRevision: string
  readonly modRevision: string
  readonly value: Buffer
}

export interface RangeResponse {
  readonly header: { readonly revision: string }
  readonly kvs: readonly KeyValue[]
}

export interface TxnResponse {
  readonly header: { readonly revision: string }
  readonly succeeded: boolean
  readonly responses: readonly { readonly responseRange?: RangeResponse | null }[]
}

export interface WatchResponse {
  readonly created: boolean
  readonly canceled: boolean
  readonly compactRevision: string
  readonly cancelReason: string
  readonly events: readonly { readonly type: 'PUT' | 'DELETE'; readonly kv: KeyValue }[]
}

/** In seconds; 0 of a keep-alive: the lease is over. */
export interface LeaseResponse {
  readonly ID: string
  readonly TTL: string
}

export type EtcdMethod = MethodDefinition<object, unknown>

export interface EtcdProtocol {
  readonly range: EtcdMethod
  readonly txn: EtcdMethod
  readonly watch: EtcdMethod
  readonly leaseGrant: EtcdMethod
  readonly leaseRevoke: EtcdMethod
  readonly leaseKeepAlive: EtcdMethod
  readonly authenticate: EtcdMethod
}

/** Reads and compiles the file, which takes some tens of ms: once for each lease. */
export function loadEtcdProtocol(): EtcdProtocol {
  const definition = loadSync('etcdserverpb/rpc.proto', {
    includeDirs: [protoDirectory()],
    keepCase: false,
    longs: String,
    enums: String,
    defaults: true,
    oneofs: true,
  })
  const loaded = loadPackageDefinition(definition)['etcdserverpb'] as unknown as Record<
    string,
    { service?: ServiceDefinition }
  >
  const method = (service: string, name: string): EtcdMethod => {
    const found = loaded[service]?.service?.[name]
    assert(found !== undefined, `the protocol file defines no ${service}/${name}`)
    return found
  }
  return {
    range: method('KV', 'Range'),
    txn: method('KV', 'Txn'),
    watch: method('Watch', 'Watch'),
    leaseGrant: method('Lease', 'LeaseGrant'),
    leaseRevoke: method('Lease', 'LeaseRevoke'),
    leaseKeepAlive: method('Lease', 'LeaseKeepAlive'),
    authenticate: method('Auth', 'Authenticate'),
  }
}
