/**
 * The document of `GET /info`: LiteFS's fields in LiteFS's order, and ours under `litefleet`, which LiteFS ignores.
 *
 *   {"clusterID"?: "LFSC…", "isPrimary": bool, "candidate": bool, "path": "…", "primary": {"hostname": "…"},
 *    "litefleet": {"protocol": 1, "name": "…", "region"?: "…", "grpc"?: "host:port",
 *                  "databases"?: {"<name>": {"position": "<txid>/<checksum>", "epoch": n}}}}
 */
import { type Epoch, epoch } from '../position/epoch.ts'
import { formatPosition, type Position, parsePosition } from '../position/position.ts'
import type { NodeFacts } from './stream-node.ts'
import type { StreamableDatabase } from './streamable-database.ts'
import { STREAM_PROTOCOL } from './stream-protocol.ts'

export interface NodeInfo {
  readonly clusterId: string | undefined
  readonly isPrimary: boolean
  readonly candidate: boolean
  readonly path: string
  /** Empty when the node knows no primary. */
  readonly primaryHostname: string
  /** `undefined` for a LiteFS node. */
  readonly litefleet: LitefleetInfo | undefined
}

export interface LitefleetInfo {
  readonly protocol: number
  readonly name: string
  readonly region: string | undefined
  /** `host:port` of the peer service. */
  readonly grpc: string | undefined
  /** Empty for a caller without a cluster token. */
  readonly databases: ReadonlyMap<string, { readonly position: Position; readonly epoch: Epoch }>
}

/** @param databases `undefined` leaves them out, for callers that did not prove that they know the key. */
export function formatNodeInfo(
  facts: NodeFacts,
  clusterId: string | undefined,
  databases: readonly StreamableDatabase[] | undefined,
): string {
  const document = {
    clusterID: clusterId,
    isPrimary: facts.isPrimary,
    candidate: facts.candidate,
    path: facts.path,
    primary: { hostname: facts.primaryHostname },
    litefleet: {
      protocol: STREAM_PROTOCOL,
      name: facts.name,
      region: facts.region,
      grpc: facts.grpc,
      databases: databases && Object.fromEntries(databases.map(describe)),
    },
  }
  return `${JSON.stringify(document, null, 2)}\n`
}

/** Parses the document of any LiteFS or Litefleet node; `undefined` when it is none. */
export function parseNodeInfo(text: string): NodeInfo | undefined {
  const document = asRecord(parseJson(text))
  if (document === undefined || typeof document['isPrimary'] !== 'boolean') return undefined
  const litefleet = asRecord(document['litefleet'])
  return {
    clusterId: asText(document['clusterID']),
    isPrimary: document['isPrimary'],
    candidate: document['candidate'] === true,
    path: asText(document['path']) ?? '',
    primaryHostname: asText(asRecord(document['primary'])?.['hostname']) ?? '',
    litefleet: litefleet && parseLitefleet(litefleet),
  }
}

function describe(database: StreamableDatabase): [string, { position: string; epoch: number }] {
  const tail = database.tail()
  return [database.name, { position: formatPosition(tail.position), epoch: tail.epoch }]
}

function parseLitefleet(document: Readonly<Record<string, unknown>>): LitefleetInfo {
  const databases = new Map<string, { position: Position; epoch: Epoch }>()
  for (const [name, value] of Object.entries(asRecord(document['databases']) ?? {})) {
    const entry = asRecord(value)
    const position = parsePosition(asText(entry?.['position']) ?? '')
    const number = entry?.['epoch']
    if (position !== undefined && Number.isSafeInteger(number) && (number as number) >= 0)
      databases.set(name, { position, epoch: epoch(number as number) })
  }
  return {
    protocol: typeof document['protocol'] === 'number' ? document['protocol'] : 0,
    name: asText(document['name']) ?? '',
    region: asText(document['region']),
    grpc: asText(document['grpc']),
    databases,
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function asRecord(value: unknown): Readonly<Record<string, unknown>> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined
}

function asText(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}
