/**
 * A Litefleet node that stands in the place of a LiteFS node: from its `litefs.yml`, so that moving is changing one flag.
 *
 * The node keeps its own files in `<data.dir>/litefleet`, on the volume that LiteFS used; LiteFS looks at nothing there, and nothing of LiteFS's is read or
 * written. What has no meaning here is told, not passed over in silence.
 */
import path from 'node:path'
import { parseGoAddress } from './go-address.ts'
import { LITEFS_DEFAULTS, type LiteFsConfig } from './litefs-config.ts'
import type { NodeConfig } from './node-config.ts'
import { invalidValue } from './unknown-key.ts'

export interface LiteFsSurroundings {
  /** The file's name, for messages. */
  readonly where: string
  /** Port of the node's gRPC; 0 for a free one, which nobody can be told beforehand. */
  readonly grpcPort: number
  /** Port of the node's HTTP listener, where it is not the file's. */
  readonly httpPort?: number | undefined
  /** Name of the machine, under which LiteFS lets a node with a Consul lease be reached when the file says nothing else; `undefined`: there is a better one. */
  readonly hostname: string | undefined
}

export interface NodeOfLiteFs {
  readonly config: NodeConfig
  /** Keys that were given and mean nothing here, and why. */
  readonly ignored: readonly { readonly key: string; readonly why: string }[]
}

const EVERYWHERE = '0.0.0.0'
const TAKEN = new Set([
  'data.dir',
  'data.retention',
  'http.addr',
  'lease.type',
  'lease.hostname',
  'lease.advertise-url',
  'lease.candidate',
  'lease.databases',
  'lease.consul.url',
  'lease.consul.key',
  'lease.consul.ttl',
  'lease.consul.lock-delay',
  'proxy.db',
])
/** By key, or by section. */
const WHY: Readonly<Record<string, string>> = {
  'lease.promote': 'use "litefleet promote"',
  'data.compress': 'what is sent is not compressed, what comes may be',
  fuse: 'there is no mount',
  proxy: 'there is no proxy; writes are forwarded by the library',
  exec: 'the application opens its node itself',
  backup: 'there are no backups yet',
  'skip-sync': 'reads are served as soon as there is a copy',
  'strict-verify': 'every transaction is verified',
}

/**
 * Pure: files and environment are the caller's.
 * @throws ClusterError `INVALID_OPTION` for what LiteFS takes and a Litefleet node cannot do
 */
export function nodeOfLiteFs(litefs: LiteFsConfig, surroundings: LiteFsSurroundings): NodeOfLiteFs {
  const { data, lease, proxy } = litefs
  const listen = listenOn(litefs, surroundings.where)
  const name = isStaticReplica(litefs) ? undefined : filled(lease.hostname)
  const advertise = advertiseOf(litefs, surroundings, surroundings.httpPort ?? listen.httpPort)
  const names = [...new Set([...(lease.databases ?? []), proxy.db ?? ''])].filter((one) => one !== '')
  const isKept = data.retention === undefined || data.retention <= 0
  const config: NodeConfig = {
    dataDir: path.join(data.dir ?? LITEFS_DEFAULTS.dataDir, 'litefleet'),
    lease: leaseOf(lease),
    listen,
    interop: true,
    ...(name === undefined ? {} : { node: { name } }),
    ...(advertise === undefined ? {} : { advertise }),
    ...(isKept ? {} : { log: { retentionMs: Math.ceil(data.retention) } }),
    ...(names.length === 0 ? {} : { databases: names.map((one) => ({ name: one })) }),
  }
  return { config, ignored: ignoredOf(litefs) }
}

function leaseOf(lease: LiteFsConfig['lease']): NodeConfig['lease'] {
  if (lease.type === 'static')
    return { kind: 'static', primary: lease.candidate === false ? { url: lease['advertise-url']! } : true }
  const url = filled(lease['consul.url'])
  const { 'consul.ttl': ttlMs = 0, 'consul.lock-delay': lockDelayMs = 0 } = lease
  return {
    kind: 'consul',
    key: lease['consul.key']!,
    candidate: lease.candidate ?? true,
    ...(url === undefined ? {} : { url }),
    // LiteFS takes its default for 0 as well.
    ...(ttlMs > 0 ? { ttlMs } : {}),
    ...(lockDelayMs > 0 ? { lockDelayMs } : {}),
  }
}

/** On such a node name and address in the file are the primary's. */
function isStaticReplica({ lease }: LiteFsConfig): boolean {
  return lease.type === 'static' && lease.candidate === false
}

/** Go's notation: without a host it is every address. */
function listenOn({ http }: LiteFsConfig, where: string): { readonly host: string; readonly httpPort: number } {
  const addr = http.addr ?? LITEFS_DEFAULTS.httpAddr
  const { host, port } =
    parseGoAddress(addr) ??
    invalidValue(where, 'http.addr', addr, '":port" or "host:port", with a port number 0 to 65535, in Litefleet')
  return { host: host === '' ? EVERYWHERE : host, httpPort: port }
}

/** Where others reach this node; `undefined`: nobody said it. */
function advertiseOf(
  litefs: LiteFsConfig,
  { where, grpcPort, hostname }: LiteFsSurroundings,
  httpPort: number,
): NodeConfig['advertise'] {
  if (isStaticReplica(litefs)) return undefined
  const { lease } = litefs
  const name = lease.type === 'consul' && httpPort !== 0 ? (filled(lease.hostname) ?? hostname) : undefined
  const url = filled(lease['advertise-url']) ?? (name === undefined ? undefined : `http://${name}:${httpPort}`)
  if (url === undefined) return undefined
  const host = /^https?:\/\//i.test(url) ? (URL.parse(url)?.hostname ?? '') : ''
  if (host === '')
    return invalidValue(where, 'lease.advertise-url', url, 'the URL of this node, such as http://10.0.0.1:20202')
  return { http: url, ...(grpcPort === 0 ? {} : { grpc: `${host}:${grpcPort}` }) }
}

function ignoredOf({ given, data, lease }: LiteFsConfig): NodeOfLiteFs['ignored'] {
  const isOfConsul = (key: string): boolean => key.startsWith('lease.consul.')
  const ignored = given
    .filter((key) => !TAKEN.has(key) || (lease.type === 'static' && isOfConsul(key)))
    .map((key) => ({
      key,
      why: isOfConsul(key)
        ? 'lease.type is static'
        : (WHY[key] ?? WHY[key.split('.')[0]!] ?? 'it is about LiteFS itself'),
    }))
  const keepsAll = data.retention !== undefined && data.retention <= 0
  return keepsAll
    ? [...ignored, { key: 'data.retention', why: 'the log is always pruned; set log.retentionMs for longer' }]
    : ignored
}

function filled(text: string | undefined): string | undefined {
  return text === '' ? undefined : text
}
