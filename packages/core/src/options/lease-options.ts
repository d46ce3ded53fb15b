/** The option `lease`: where leadership comes from. One kind for the whole cluster; docs/leadership.md says what each promises. */
import path from 'node:path'
import { invalidOption, rejectUnknownOptions } from '../errors/unknown-option.ts'
import { type ConsulAddress, parseConsulUrl } from '../lease/consul-url.ts'

/**
 * One node is the primary for ever: on it `primary: true`; on the others the URL of its HTTP listener, e.g. `http://10.0.0.1:4200`.
 */
export interface StaticLeaseOptions {
  readonly kind: 'static'
  readonly primary: true | { readonly url: string }
}

/** What all kinds with an election share. */
interface ElectedLeaseOptions {
  /**
   * False: this node never becomes the primary. Default: true; on Fly.io, where the environment variables `FLY_REGION` and `PRIMARY_REGION` are
   * set, whether they are equal.
   */
  readonly candidate?: boolean | undefined
}

/** Nodes on one machine elect the primary by a lock of the operating system, which is free as soon as its holder dies. */
export interface HostLeaseOptions extends ElectedLeaseOptions {
  readonly kind: 'host'
  /** The same for all nodes, on a file system of the machine; no node's data directory. Created when missing. */
  readonly directory: string
}

/** Nodes on any number of machines elect the primary by a key in etcd (version 3), which is free when its holder did not renew it in time. */
export interface EtcdLeaseOptions extends ElectedLeaseOptions {
  readonly kind: 'etcd'
  /** `http://host:port` or `https://host:port` of members of etcd, tried in turn: 1 … 16. */
  readonly endpoints: readonly string[]
  /** The same for all nodes of the cluster, and no other cluster's. `<key>/epoch` is used as well. Default: `litefleet/primary`. */
  readonly key?: string | undefined
  /** Time after which a primary that etcd does not hear of is replaced, in ms, rounded up to seconds: 2,000 … 600,000. Default: 10,000. */
  readonly ttlMs?: number | undefined
  readonly username?: string | undefined
  /** Default: the environment variable `LITEFLEET_ETCD_PASSWORD`. */
  readonly password?: string | undefined
  /** PEM file of the authority that signed etcd's certificates, for https. Default: those that Node.js trusts. */
  readonly caFile?: string | undefined
}

/**
 * Nodes on any number of machines elect the primary by a key in Consul, the same on which LiteFS nodes do; it is free when its holder did not renew its
 * session in time.
 */
export interface ConsulLeaseOptions extends ElectedLeaseOptions {
  readonly kind: 'consul'
  /**
   * `http(s)://[:token@]host[:port][/prefix]`; the prefix stands before all keys. Default: the environment variable `FLY_CONSUL_URL`, which Fly.io
   * sets.
   */
  readonly url?: string | undefined
  /** Below the prefix; the same for all nodes of the cluster, and no other cluster's. Keys below it are used as well. Default: `litefleet/primary`. */
  readonly key?: string | undefined
  /** Time after which a primary that Consul does not hear of is replaced, in ms: 10,000 … 600,000. Default: 10,000. */
  readonly ttlMs?: number | undefined
  /** For how long nobody may follow a primary whose session Consul ended, in ms: 0 … 60,000. Default: 1,000. */
  readonly lockDelayMs?: number | undefined
}

export type LeaseOptions = StaticLeaseOptions | HostLeaseOptions | EtcdLeaseOptions | ConsulLeaseOptions

export interface ResolvedHostLease {
  readonly kind: 'host'
  readonly directory: string
  readonly candidate: boolean
}

export interface ResolvedEtcdLease {
  readonly kind: 'etcd'
  readonly endpoints: readonly string[]
  readonly key: string
  readonly ttlMs: number
  readonly username: string | undefined
  readonly password: string | undefined
  readonly caFile: string | undefined
  readonly candidate: boolean
}

export interface ResolvedConsulLease {
  readonly kind: 'consul'
  readonly address: ConsulAddress
  readonly key: string
  readonly ttlMs: number
  readonly lockDelayMs: number
  readonly candidate: boolean
}

export type ResolvedLease = StaticLeaseOptions | ResolvedHostLease | ResolvedEtcdLease | ResolvedConsulLease

const WHERE = 'openCluster'
const ENDPOINTS_MAX = 16
const KEY_LENGTH_MAX = 512
const DEFAULT_KEY = 'litefleet/primary'
const ETCD_TTL_MS = 10_000
const ETCD_TTL_MS_MIN = 2_000
const ETCD_TTL_MS_MAX = 600_000
/** Consul's own bounds are wider above, and 10 s below. */
const CONSUL_TTL_MS = 10_000
const CONSUL_TTL_MS_MAX = 600_000
const LOCK_DELAY_MS = 1_000
const LOCK_DELAY_MS_MAX = 60_000

/** Throws `INVALID_OPTION`. */
export function resolveLease(lease: LeaseOptions | undefined, env: NodeJS.ProcessEnv): ResolvedLease {
  switch (lease?.kind) {
    case 'static':
      return resolveStatic(lease)
    case 'host':
      return resolveHost(lease, env)
    case 'etcd':
      return resolveEtcd(lease, env)
    case 'consul':
      return resolveConsul(lease, env)
    default:
      return invalidOption(
        WHERE,
        'lease',
        { kind: (lease as { readonly kind?: unknown } | undefined)?.kind }, // the rest may hold a password or a token
        '{ kind: "static", primary: true }, { kind: "static", primary: { url } }, { kind: "host", directory }, { kind: "etcd", endpoints } or { kind: "consul", url }',
      )
  }
}

function resolveStatic(lease: StaticLeaseOptions): StaticLeaseOptions {
  rejectUnknownOptions(lease, ['kind', 'primary'], `${WHERE}: lease`)
  if (lease.primary === true) return lease
  const url = typeof lease.primary === 'object' ? lease.primary.url : undefined
  if (url === undefined || !/^http:\/\/[^/]+\/?$/.test(url)) {
    invalidOption(
      WHERE,
      'lease.primary',
      lease.primary,
      'true, or { url: "http://host:port" } of the primary\'s HTTP listener',
    )
  }
  return { kind: 'static', primary: { url: url.replace(/\/$/, '') } }
}

function resolveHost(lease: HostLeaseOptions, env: NodeJS.ProcessEnv): ResolvedHostLease {
  rejectUnknownOptions(lease, ['kind', 'directory', 'candidate'], `${WHERE}: lease`)
  const { directory } = lease
  if (typeof directory !== 'string' || directory === '') {
    invalidOption(WHERE, 'lease.directory', directory, 'the path of a directory that all nodes of this machine share')
  }
  return { kind: 'host', directory: path.resolve(directory), candidate: candidate(lease, env) }
}

function resolveEtcd(lease: EtcdLeaseOptions, env: NodeJS.ProcessEnv): ResolvedEtcdLease {
  const known = ['kind', 'endpoints', 'key', 'ttlMs', 'username', 'password', 'caFile', 'candidate']
  rejectUnknownOptions(lease, known, `${WHERE}: lease`)
  const { endpoints, key = DEFAULT_KEY, ttlMs = ETCD_TTL_MS, username, caFile } = lease
  const isList = Array.isArray(endpoints) && endpoints.length >= 1 && endpoints.length <= ENDPOINTS_MAX
  if (!isList) invalidOption(WHERE, 'lease.endpoints', endpoints, `a list of 1 … ${ENDPOINTS_MAX} URLs of etcd`)
  for (const [i, endpoint] of endpoints.entries()) {
    if (typeof endpoint !== 'string' || !/^https?:\/\/(\[[0-9a-f:.%]+\]|[^/:@\s]+):\d{1,5}\/?$/i.test(endpoint))
      invalidOption(WHERE, `lease.endpoints[${i}]`, endpoint, '"http://host:port" or "https://host:port"')
  }
  requireKey(key)
  requireWithin('lease.ttlMs', ttlMs, ETCD_TTL_MS_MIN, ETCD_TTL_MS_MAX)
  const password = lease.password ?? (username === undefined ? undefined : env['LITEFLEET_ETCD_PASSWORD'])
  requireUser(username, password)
  if (caFile !== undefined && (typeof caFile !== 'string' || caFile === '')) {
    invalidOption(WHERE, 'lease.caFile', caFile, 'the path of a PEM file')
  }
  if (caFile !== undefined && endpoints.some((endpoint) => !endpoint.startsWith('https://'))) {
    invalidOption(WHERE, 'lease.endpoints', endpoints, 'https:// URLs only where lease.caFile is set')
  }
  return {
    kind: 'etcd',
    endpoints: endpoints.map((endpoint) => endpoint.replace(/\/$/, '')),
    key,
    ttlMs: Math.ceil(ttlMs / 1000) * 1000,
    username,
    password,
    caFile,
    candidate: candidate(lease, env),
  }
}

function resolveConsul(lease: ConsulLeaseOptions, env: NodeJS.ProcessEnv): ResolvedConsulLease {
  const known = ['kind', 'url', 'key', 'ttlMs', 'lockDelayMs', 'candidate']
  rejectUnknownOptions(lease, known, `${WHERE}: lease`)
  const { key = DEFAULT_KEY, ttlMs = CONSUL_TTL_MS, lockDelayMs = LOCK_DELAY_MS } = lease
  const url = lease.url ?? env['FLY_CONSUL_URL']
  if (url === undefined)
    invalidOption(
      WHERE,
      'lease.url',
      url,
      'the URL of Consul, which may stand in the environment variable FLY_CONSUL_URL instead',
    )
  requireKey(key)
  requireWithin('lease.ttlMs', ttlMs, CONSUL_TTL_MS, CONSUL_TTL_MS_MAX)
  requireWithin('lease.lockDelayMs', lockDelayMs, 0, LOCK_DELAY_MS_MAX)
  const address = parseConsulUrl(url, WHERE, 'lease.url')
  return { kind: 'consul', address, key, ttlMs, lockDelayMs, candidate: candidate(lease, env) }
}

function requireKey(key: unknown): void {
  if (typeof key === 'string' && /^[^\s/]([^\s]*[^\s/])?$/.test(key) && key.length <= KEY_LENGTH_MAX) return
  const accepted = `1 … ${KEY_LENGTH_MAX} characters without white space, no slash at either end`
  invalidOption(WHERE, 'lease.key', key, accepted)
}

function requireWithin(option: string, value: number, min: number, max: number): void {
  if (Number.isSafeInteger(value) && value >= min && value <= max) return
  invalidOption(WHERE, option, value, `an integer ${min} … ${max}`)
}

/** The password itself stays out of every message. */
function requireUser(username: unknown, password: unknown): void {
  if (username === undefined && password === undefined) return
  if (typeof username !== 'string' || username === '') {
    invalidOption(WHERE, 'lease.username', username, 'the name of a user of etcd, wherever lease.password is given')
  }
  if (typeof password !== 'string' || password === '') {
    const got = password === undefined ? undefined : 'not a text'
    invalidOption(
      WHERE,
      'lease.password',
      got,
      'the password of lease.username, which may stand in the environment variable LITEFLEET_ETCD_PASSWORD instead',
    )
  }
}

function candidate(lease: ElectedLeaseOptions, env: NodeJS.ProcessEnv): boolean {
  const given = lease.candidate ?? isOfPrimaryRegion(env)
  if (typeof given !== 'boolean') invalidOption(WHERE, 'lease.candidate', given, 'true or false')
  return given
}

/** The convention of fly-ruby and Fly.RPC: only machines of that region may be the primary. */
function isOfPrimaryRegion(env: NodeJS.ProcessEnv): boolean {
  const { FLY_REGION: region = '', PRIMARY_REGION: primaryRegion = '' } = env
  return region === '' || primaryRegion === '' || region === primaryRegion
}
