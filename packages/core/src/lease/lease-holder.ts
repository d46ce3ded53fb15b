/**
 * Who holds a lease, as it is written where all nodes can read it.
 *
 * JSON. `hostname` and `advertise-url` are LiteFS's and are all that LiteFS reads; the other fields are ours, and
 * without `grpc` the holder is a LiteFS node:
 *   {"hostname": "gru-1", "advertise-url": "http://10.0.0.1:4200",
 *    "name": "gru-1", "node-id": "<16 hex>", "grpc": "10.0.0.1:4201", "region": "gru", "protocol": 1}
 */
export interface LeaseHolder {
  readonly hostname: string
  /** URL of its HTTP listener: where replicas stream from. */
  readonly advertiseUrl: string
  /** `host:port` of its peer service; `undefined` for a LiteFS node. */
  readonly grpcAddress: string | undefined
  /** Name of the node; a LiteFS node's host name. */
  readonly name: string
  /** Empty when not known. */
  readonly nodeId: string
  readonly region: string
  /** Version of the peer protocol; `undefined` when not known. */
  readonly protocol: number | undefined
}

export function formatLeaseHolder(holder: LeaseHolder): string {
  return JSON.stringify({
    hostname: holder.hostname,
    'advertise-url': holder.advertiseUrl,
    name: holder.name,
    'node-id': holder.nodeId,
    grpc: holder.grpcAddress,
    region: holder.region,
    protocol: holder.protocol,
  })
}

/** Parses what a Litefleet or LiteFS node wrote; `undefined` when it is neither. */
export function parseLeaseHolder(text: string): LeaseHolder | undefined {
  const document = parseObject(text)
  if (document === undefined) return undefined
  const { hostname, 'advertise-url': advertiseUrl, protocol } = document
  if (typeof hostname !== 'string' || typeof advertiseUrl !== 'string') return undefined
  return {
    hostname,
    advertiseUrl,
    grpcAddress: filledText(document['grpc']),
    name: filledText(document['name']) ?? hostname,
    nodeId: filledText(document['node-id']) ?? '',
    region: filledText(document['region']) ?? '',
    protocol: typeof protocol === 'number' ? protocol : undefined,
  }
}

export function sameHolder(a: LeaseHolder | undefined, b: LeaseHolder | undefined): boolean {
  if (a === undefined || b === undefined) return a === b
  return formatLeaseHolder(a) === formatLeaseHolder(b)
}

function parseObject(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

function filledText(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}
