/**
 * A Litefleet node that stands in the place of a LiteFS node: from its `litefs.yml`, so that moving is changing one flag.
 *
 * The node keeps its own files in `<data.dir>/litefleet`, on the volume that LiteFS used; LiteFS looks at nothing there, and nothing of LiteFS's is read or
 * written. What has no meaning here is told, not passed over in silence.
 */
import path from 'node:path'
import type { LiteFsConfig } from './litefs-config.ts'
import type { NodeConfig } from './node-config.ts'

export interface NodeOfLiteFs {
  readonly config: NodeConfig
  /** Keys that were given and mean nothing here, and why. */
  readonly ignored: readonly { readonly key: string; readonly why: string }[]
}

const DATA_DIR = '/var/lib/litefs'
const HTTP_ADDR = ':20202'
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

/** @param grpcPort of the node, for the address under which others reach it */
export function nodeOfLiteFs(litefs: LiteFsConfig, grpcPort: number): NodeOfLiteFs {
  const { data, http, lease, proxy } = litefs
  const isStaticReplica = lease.type === 'static' && lease.candidate === false
  const names = [...new Set([...(lease.databases ?? []), ...(proxy.db === undefined ? [] : [proxy.db])])]
  // On a replica with a static lease these are the primary's.
  const own = isStaticReplica ? {} : { name: filled(lease.hostname), url: filled(lease['advertise-url']) }
  const isKept = data.retention === undefined || data.retention <= 0
  const config: NodeConfig = {
    dataDir: path.join(data.dir ?? DATA_DIR, 'litefleet'),
    lease: leaseOf(lease),
    listen: listenOn(http.addr ?? HTTP_ADDR),
    interop: true,
    ...(own.name === undefined ? {} : { node: { name: own.name } }),
    ...(own.url === undefined ? {} : { advertise: addressesOf(own.url, grpcPort) }),
    ...(isKept ? {} : { log: { retentionMs: data.retention } }),
    ...(names.length === 0 ? {} : { databases: names.map((name) => ({ name })) }),
  }
  return { config, ignored: ignoredOf(litefs) }
}

function leaseOf(lease: LiteFsConfig['lease']): NodeConfig['lease'] {
  if (lease.type === 'static')
    return { kind: 'static', primary: lease.candidate === false ? { url: lease['advertise-url']! } : true }
  const url = filled(lease['consul.url'])
  const { 'consul.ttl': ttlMs, 'consul.lock-delay': lockDelayMs } = lease
  return {
    kind: 'consul',
    key: lease['consul.key']!,
    candidate: lease.candidate ?? true,
    ...(url === undefined ? {} : { url }),
    ...(ttlMs === undefined ? {} : { ttlMs }),
    ...(lockDelayMs === undefined ? {} : { lockDelayMs }),
  }
}

/** Go's notation: without a host it is every address. */
function listenOn(addr: string): { readonly host: string; readonly httpPort: number } {
  const at = addr.lastIndexOf(':')
  const host = addr.slice(0, at).replace(/^\[(.*)\]$/, '$1')
  return { host: host === '' ? EVERYWHERE : host, httpPort: Number(addr.slice(at + 1)) }
}

function addressesOf(url: string, grpcPort: number): { readonly http: string; readonly grpc: string } {
  return { http: url, grpc: `${URL.parse(url)?.hostname ?? ''}:${grpcPort}` }
}

function ignoredOf({ given, data }: LiteFsConfig): NodeOfLiteFs['ignored'] {
  const ignored = given
    .filter((key) => !TAKEN.has(key))
    .map((key) => ({ key, why: WHY[key] ?? WHY[key.split('.')[0]!] ?? 'it is about LiteFS itself' }))
  const keepsAll = data.retention !== undefined && data.retention <= 0
  return keepsAll
    ? [...ignored, { key: 'data.retention', why: 'the log is always pruned; set log.retentionMs for longer' }]
    : ignored
}

function filled(text: string | undefined): string | undefined {
  return text === '' ? undefined : text
}
