/**
 * The configuration of a node that runs without an application around it: one YAML or JSON document (JSON is YAML), or flags.
 *
 * ```yaml
 * dataDir: ./data                          # relative paths start at the file's directory
 * node: { name: gru-1, region: gru }
 * lease: { kind: static, primary: true }   # on a replica: primary: { url: http://10.0.0.1:4200 }
 *                                          # or { kind: host, directory: ./lease }, or { kind: etcd, endpoints: [http://10.0.0.9:2379] }
 * listen: { host: 127.0.0.1, grpcPort: 4201, httpPort: 4200 }
 * advertise: { grpc: "10.0.0.1:4201", http: "http://10.0.0.1:4200" }
 * voters: [gru-1, gru-2, fra-1]           # whose majority the await level "majority" speaks of; the same on every node
 * peers: ["dns:fleet.internal:4201"]      # where a candidate finds others that it never met; also "host:port"
 * clusterKeyFile: ./cluster.key            # one secret, or two lines while it is rotated; else LITEFLEET_CLUSTER_KEY
 * interop: false                          # true: LiteFS nodes may read; { handoff: true }: and move the office
 * log: { retentionMs: 600000 }
 * ledger: { retentionMs: 86400000, rowsMax: 10000000 }   # what is remembered of applied writes, per database
 * databases:
 *   - bank.db
 *   - { name: shop.db, migrations: ./migrations }
 * ```
 *
 * The names are those of `openCluster`. What `openCluster` checks itself (ranges, names, the lease) is left to it; here the
 * shape is checked, so that a misspelt key never passes as an absent one.
 */
import path from 'node:path'
import type { ClusterOptions } from '@litefleet/core'
import { invalidValue, rejectUnknownKeys } from './unknown-key.ts'
import { parseYaml, valueOf } from './yaml-document.ts'

export interface ConfiguredDatabase {
  readonly name: string
  /** Directory of `*.sql` files, run once by the primary in order of their names. */
  readonly migrations?: string | undefined
}

export interface NodeConfig {
  readonly dataDir?: string | undefined
  readonly node?: ClusterOptions['node']
  readonly lease?: ClusterOptions['lease'] | undefined
  readonly listen?: ClusterOptions['listen']
  readonly advertise?: ClusterOptions['advertise']
  readonly voters?: ClusterOptions['voters']
  readonly peers?: ClusterOptions['peers']
  /** File that holds the cluster key, or two keys on two lines. */
  readonly clusterKeyFile?: string | undefined
  readonly interop?: ClusterOptions['interop']
  readonly log?: ClusterOptions['log']
  readonly ledger?: ClusterOptions['ledger']
  readonly databases?: readonly ConfiguredDatabase[] | undefined
}

const KNOWN = [
  'dataDir',
  'node',
  'lease',
  'listen',
  'advertise',
  'voters',
  'peers',
  'clusterKeyFile',
  'interop',
  'log',
  'ledger',
  'databases',
]

/**
 * Parses and checks. Relative paths are resolved against `directory`.
 * @param where what the text is, for messages, e.g. the file's name
 * @throws INVALID_OPTION with the place in the document
 */
export function parseNodeConfig(text: string, where: string, directory: string): NodeConfig {
  const value = valueOf(parseYaml(text, where), where)
  // An empty file is an empty configuration.
  if (value === null || value === undefined) return {}
  const given = requireMap(value, where, 'document')
  rejectUnknownKeys(given, KNOWN, where)
  return {
    ...optional(
      'dataDir',
      mapped(given['dataDir'], (v) => path.resolve(directory, requireText(v, where, 'dataDir'))),
    ),
    ...optional('node', section(given, 'node', ['name', 'region'], where)),
    ...optional('lease', lease(given, where, directory)),
    ...optional('listen', section(given, 'listen', ['host', 'grpcPort', 'httpPort'], where)),
    ...optional('advertise', section(given, 'advertise', ['grpc', 'http'], where)),
    ...optional(
      'voters',
      mapped(given['voters'], (v) => texts(v, where, 'voters', 'a list of names of nodes')),
    ),
    ...optional(
      'peers',
      mapped(given['peers'], (v) => texts(v, where, 'peers', 'a list of "host:port" and "dns:name:port"')),
    ),
    ...optional(
      'clusterKeyFile',
      mapped(given['clusterKeyFile'], (v) => path.resolve(directory, requireText(v, where, 'clusterKeyFile'))),
    ),
    ...optional(
      'interop',
      mapped(given['interop'], (v) => interop(v, given, where)),
    ),
    ...optional('log', section(given, 'log', undefined, where)),
    ...optional('ledger', section(given, 'ledger', undefined, where)),
    ...optional(
      'databases',
      mapped(given['databases'], (v) => databases(v, where, directory)),
    ),
  }
}

/** `over` wins, section by section and key by key: flags over a file. */
export function mergeNodeConfig(base: NodeConfig, over: NodeConfig): NodeConfig {
  const merged: Record<string, unknown> = { ...base }
  for (const [key, value] of Object.entries(over)) {
    if (value === undefined) continue
    const below = merged[key]
    merged[key] = isMap(value) && isMap(below) && key !== 'lease' ? { ...below, ...value } : value
  }
  return merged
}

const LEASE_KEYS = [
  'kind',
  'candidate',
  'primary',
  'directory',
  'endpoints',
  'key',
  'ttlMs',
  'username',
  'password',
  'caFile',
  'url',
  'lockDelayMs',
]

function interop(value: unknown, given: Readonly<Record<string, unknown>>, where: string): ClusterOptions['interop'] {
  if (typeof value === 'boolean') return value
  if (!isMap(value)) return invalidValue(where, 'interop', value, 'true, false or { handoff: true }')
  const map = section(given, 'interop', ['handoff'], where)
  const handoff = map?.['handoff']
  if (handoff === undefined || typeof handoff === 'boolean') return { handoff }
  return invalidValue(where, 'interop.handoff', handoff, 'true or false')
}

/** Which keys belong to which kind is left to core. */
function lease(
  given: Readonly<Record<string, unknown>>,
  where: string,
  directory: string,
): Readonly<Record<string, unknown>> | undefined {
  const map = section(given, 'lease', LEASE_KEYS, where)
  if (map === undefined) return undefined
  const file = (key: 'directory' | 'caFile') =>
    optional(
      key,
      mapped(map[key], (v) => path.resolve(directory, requireText(v, where, `lease.${key}`))),
    )
  return { ...map, ...file('directory'), ...file('caFile') }
}

function texts(value: unknown, where: string, key: string, accepted: string): readonly string[] {
  if (!Array.isArray(value)) return invalidValue(where, key, value, accepted)
  return value.map((item: unknown, index) => requireText(item, where, `${key}[${index}]`))
}

function databases(value: unknown, where: string, directory: string): readonly ConfiguredDatabase[] {
  if (!Array.isArray(value))
    return invalidValue(where, 'databases', value, 'a list of names, or of { name, migrations }')
  return value.map((item: unknown, index) => {
    const key = `databases[${index}]`
    if (typeof item === 'string') return { name: item }
    const given = requireMap(item, where, key)
    rejectUnknownKeys(given, ['name', 'migrations'], `${where}: ${key}`)
    const name = requireText(given['name'], where, `${key}.name`)
    if (given['migrations'] === undefined) return { name }
    return { name, migrations: path.resolve(directory, requireText(given['migrations'], where, `${key}.migrations`)) }
  })
}

/** A map under `key`; keys outside `known` are refused here, or by core when `known` is left out. */
function section(
  given: Readonly<Record<string, unknown>>,
  key: string,
  known: readonly string[] | undefined,
  where: string,
): Readonly<Record<string, unknown>> | undefined {
  if (given[key] === undefined) return undefined
  const map = requireMap(given[key], where, key)
  if (known !== undefined) rejectUnknownKeys(map, known, `${where}: ${key}`)
  return map
}

function requireMap(value: unknown, where: string, key: string): Readonly<Record<string, unknown>> {
  return isMap(value) ? value : invalidValue(where, key, value, 'a map of keys and values')
}

function isMap(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function requireText(value: unknown, where: string, key: string): string {
  return typeof value === 'string' && value !== '' ? value : invalidValue(where, key, value, 'a text')
}

function mapped<T>(value: unknown, map: (value: unknown) => T): T | undefined {
  return value === undefined ? undefined : map(value)
}

function optional(key: string, value: unknown): Readonly<Record<string, unknown>> {
  return value === undefined ? {} : { [key]: value }
}
