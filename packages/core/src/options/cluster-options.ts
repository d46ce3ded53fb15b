/**
 * The options of `openCluster`, resolved once at the door: unknown names are errors, ranges are checked, defaults applied.
 * Rooms receive the resolved form, in which nothing is optional that has a default.
 */
import os from 'node:os'
import { ClusterError } from '../errors/cluster-error.ts'
import { invalidOption, rejectUnknownOptions } from '../errors/unknown-option.ts'
import { type LogOptions, type ResolvedLogOptions, resolveLogOptions } from '../log/log-options.ts'
import type { ConnectionSetup } from '../sqlite/connection.ts'
import { type LedgerOptions, type ResolvedLedgerOptions, resolveLedgerOptions } from '../write/ledger-options.ts'
import { type LeaseOptions, type ResolvedLease, resolveLease } from './lease-options.ts'
import { type PeerSource, resolvePeers } from './peer-source.ts'

export interface NodeOptions {
  /** Name of this node, unique in the cluster. Default: the environment variable `FLY_MACHINE_ID`, else the host name. */
  readonly name?: string | undefined
  /** Region for `rpc.region`. Default: the environment variable `FLY_REGION`, else "local". */
  readonly region?: string | undefined
}

export interface ListenOptions {
  /** Address to listen on. Anything but loopback needs a cluster key. Default: 127.0.0.1. */
  readonly host?: string | undefined
  /** Port for other nodes' gRPC. 0 picks a free one. Default: 0. */
  readonly grpcPort?: number | undefined
  /** Port of the LiteFS-compatible API (`/info`, `/events`, `/stream`, `/export`). 0 picks a free one. Default: 0. */
  readonly httpPort?: number | undefined
}

export interface AdvertiseOptions {
  /**
   * `host:port` under which other nodes reach this node's gRPC. Default: the listening address; when that is every address of the machine
   * (`0.0.0.0`, `::`), the one in the environment variable `FLY_PRIVATE_IP`, and without it this has to be given.
   */
  readonly grpc?: string | undefined
  /** URL under which other nodes reach this node's HTTP listener. Default: as for gRPC. */
  readonly http?: string | undefined
}

export interface ClusterOptions {
  /** Directory that holds everything this node keeps. Owned by one process at a time. Created when missing. */
  readonly dataDir: string
  /** Where leadership comes from; the same kind on every node. */
  readonly lease: LeaseOptions
  readonly node?: NodeOptions | undefined
  readonly listen?: ListenOptions | undefined
  readonly advertise?: AdvertiseOptions | undefined
  /**
   * Names of the nodes whose majority the await level `majority` speaks of, the same list on every node: 1 … 15, each once. Default: none, and
   * `majority` is refused.
   */
  readonly voters?: readonly string[] | undefined
  /**
   * Where other nodes may be, for a candidate that nobody told yet, each `host:port` of gRPC, or `dns:name:port` for all addresses that a name has,
   * looked up again every 5 s: at most 32. Not needed where nodes have met before, or meet through the lease. Default: on Fly.io, where the environment
   * variable `FLY_APP_NAME` is set, `dns:<app>.internal:<grpcPort>`; else none.
   */
  readonly peers?: readonly string[] | undefined
  /**
   * Secret shared by all nodes, at least 16 characters; two values while it is rotated: the first is used, both are accepted.
   * Needed to listen beyond loopback. Default: the environment variable `LITEFLEET_CLUSTER_KEY` (two values separated by a comma), else none.
   */
  readonly clusterKey?: string | readonly string[] | undefined
  /**
   * Lets LiteFS nodes, which cannot authenticate, read the stream although a cluster key is set, and, with `handoff`, move the office of the primary by
   * `/promote` and `/handoff`. Default: false.
   */
  readonly interop?: boolean | { readonly handoff?: boolean | undefined } | undefined
  /** Called for every SQLite connection this node opens: functions, extensions, pragmas. The same on every node. */
  readonly setup?: ConnectionSetup | undefined
  readonly log?: LogOptions | undefined
  /** How long and how much each database remembers of the writes it has applied. The same on every node that may be primary. */
  readonly ledger?: LedgerOptions | undefined
  /** Told of what nobody asked for but somebody should know: divergence, a cut log, a refused peer. Default: `console.warn`. */
  readonly onWarning?: ((warning: ClusterWarning) => void) | undefined
}

export interface ClusterWarning {
  /** Stable name, e.g. `log-cut`, `diverged`, `stream`. */
  readonly name: string
  readonly message: string
  readonly details: Readonly<Record<string, unknown>>
}

export interface ResolvedClusterOptions {
  readonly dataDir: string
  readonly lease: ResolvedLease
  readonly node: { readonly name: string; readonly region: string }
  readonly listen: { readonly host: string; readonly grpcPort: number; readonly httpPort: number }
  readonly advertise: {
    readonly grpc: string | undefined
    readonly http: string | undefined
    /** Where one of these is not given. */
    readonly host: string
  }
  readonly voters: readonly string[]
  readonly peers: readonly PeerSource[]
  readonly clusterKeys: readonly string[]
  readonly interop: boolean
  /** LiteFS nodes may move the office. */
  readonly interopHandoff: boolean
  readonly setup: ConnectionSetup | undefined
  readonly log: ResolvedLogOptions
  readonly ledger: ResolvedLedgerOptions
  readonly onWarning: (warning: ClusterWarning) => void
}

const WHERE = 'openCluster'
const VOTERS_MAX = 15
const KNOWN = [
  'dataDir',
  'lease',
  'node',
  'listen',
  'advertise',
  'voters',
  'peers',
  'clusterKey',
  'interop',
  'setup',
  'log',
  'ledger',
  'onWarning',
]

/** Throws `INVALID_OPTION`. */
export function resolveClusterOptions(given: ClusterOptions, env: NodeJS.ProcessEnv): ResolvedClusterOptions {
  rejectUnknownOptions(given, KNOWN, WHERE)
  const { node = {}, listen = {}, advertise = {} } = given
  rejectUnknownOptions(node, ['name', 'region'], `${WHERE}: node`)
  rejectUnknownOptions(listen, ['host', 'grpcPort', 'httpPort'], `${WHERE}: listen`)
  rejectUnknownOptions(advertise, ['grpc', 'http'], `${WHERE}: advertise`)
  if (typeof given.dataDir !== 'string' || given.dataDir === '')
    invalidOption(WHERE, 'dataDir', given.dataDir, 'the path of a directory')
  const { host = '127.0.0.1' } = listen
  return Object.freeze({
    dataDir: given.dataDir,
    lease: resolveLease(given.lease, env),
    node: {
      name: name('node.name', node.name ?? filled(env['FLY_MACHINE_ID']) ?? os.hostname()),
      region: name('node.region', node.region ?? filled(env['FLY_REGION']) ?? 'local'),
    },
    listen: {
      host,
      grpcPort: port('listen.grpcPort', listen.grpcPort ?? 0),
      httpPort: port('listen.httpPort', listen.httpPort ?? 0),
    },
    advertise: {
      grpc: advertise.grpc,
      http: advertise.http,
      host: isEveryAddress(host) ? (filled(env['FLY_PRIVATE_IP']) ?? host) : host,
    },
    voters: resolveVoters(given.voters ?? []),
    peers: resolvePeers(given.peers, env, listen.grpcPort ?? 0),
    clusterKeys: resolveKeys(given.clusterKey ?? env['LITEFLEET_CLUSTER_KEY']?.split(',')),
    ...resolveInterop(given.interop ?? false),
    setup: given.setup,
    log: resolveLogOptions(given.log),
    ledger: resolveLedgerOptions(given.ledger),
    onWarning: given.onWarning ?? ((warning) => console.warn(`litefleet: ${warning.message}`)),
  })
}

/**
 * Others could not reach this node under an address that means all of its own.
 * @throws INVALID_OPTION
 */
export function requireReachable({ advertise }: ResolvedClusterOptions): void {
  if (!isEveryAddress(advertise.host) || (advertise.grpc !== undefined && advertise.http !== undefined)) return
  throw new ClusterError(
    'INVALID_OPTION',
    `${WHERE}: "${advertise.host}" is no address under which others reach this node`,
    {
      hint: 'Say which one is: advertise: { grpc: "10.0.0.1:4201", http: "http://10.0.0.1:4200" }, or listen on that address alone.',
    },
  )
}

function isEveryAddress(host: string): boolean {
  return ['0.0.0.0', '::', '[::]'].includes(host)
}

/** A variable that is empty is not set. */
function filled(value: string | undefined): string | undefined {
  return value === '' ? undefined : value
}

function resolveInterop(
  given: NonNullable<ClusterOptions['interop']>,
): Pick<ResolvedClusterOptions, 'interop' | 'interopHandoff'> {
  if (typeof given === 'boolean') return { interop: given, interopHandoff: false }
  if (typeof given !== 'object' || given === null)
    invalidOption(WHERE, 'interop', given, 'true, false or { handoff: true }')
  rejectUnknownOptions(given, ['handoff'], `${WHERE}: interop`)
  return { interop: true, interopHandoff: given.handoff === true }
}

function resolveVoters(given: readonly string[]): readonly string[] {
  const isList = Array.isArray(given) && given.length <= VOTERS_MAX && new Set(given).size === given.length
  if (!isList) invalidOption(WHERE, 'voters', given, `a list of at most ${VOTERS_MAX} names of nodes, each once`)
  return given.map((voter, i) => name(`voters[${i}]`, voter))
}

function resolveKeys(given: string | readonly string[] | undefined): readonly string[] {
  const keys = given === undefined ? [] : typeof given === 'string' ? [given] : given
  if (keys.length > 2 || keys.some((key) => typeof key !== 'string' || key.length < 16)) {
    // The value itself is a secret and stays out of the message.
    throw new ClusterError('INVALID_OPTION', `${WHERE}: option "clusterKey" is too short or has more than two values`, {
      hint: 'Use one secret of at least 16 characters, or two while it is rotated.',
    })
  }
  return keys
}

function name(option: string, value: unknown): string {
  if (typeof value === 'string' && /^[\w.:@-]{1,128}$/.test(value)) return value
  return invalidOption(WHERE, option, value, '1 … 128 letters, digits, or any of . _ : @ -')
}

function port(option: string, value: unknown): number {
  if (Number.isInteger(value) && Number(value) >= 0 && Number(value) <= 65_535) return Number(value)
  return invalidOption(WHERE, option, value, 'a port number 0 … 65535')
}
