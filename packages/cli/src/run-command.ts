/** `litefleet run`: a node from flags, from a configuration file, or from both (flags win). */
import { ClusterError } from '@litefleet/core'
import {
  mergeNodeConfig,
  type NodeConfig,
  nodeOfLiteFs,
  readLiteFsConfig,
  readNodeConfig,
  runNode,
  stopSignal,
} from '@litefleet/server'
import { type Command, InvalidArgumentError } from 'commander'
import os from 'node:os'
import path from 'node:path'
import type { Terminal } from './terminal.ts'

/** Where a node listens when neither flag nor configuration says so. Everything else finds it there. */
export const DEFAULT_HTTP_PORT = 4200
export const DEFAULT_GRPC_PORT = 4201

interface RunFlags {
  readonly config?: string
  readonly litefsConfig?: string
  readonly expandEnv?: boolean
  readonly dataDir?: string
  readonly name?: string
  readonly region?: string
  readonly primary?: boolean
  readonly replicaOf?: string
  readonly hostLease?: string
  readonly etcd: readonly string[]
  readonly consul?: string
  readonly candidate?: boolean
  readonly host?: string
  readonly httpPort?: number
  readonly grpcPort?: number
  readonly advertiseHttp?: string
  readonly advertiseGrpc?: string
  readonly database: readonly string[]
  readonly migrations?: string
  readonly clusterKeyFile?: string
  readonly interop?: boolean
  readonly interopHandoff?: boolean
  readonly voter: readonly string[]
  readonly peer: readonly string[]
}

export function addRunCommand(program: Command, terminal: Terminal): void {
  program
    .command('run')
    .description('Run a node until SIGTERM or Ctrl-C')
    .option('--config <file>', 'YAML or JSON; flags win over it')
    .option(
      '--litefs-config <file>',
      "LiteFS's litefs.yml, for a node in the place of a LiteFS node; flags win over it",
    )
    .option('--no-expand-env', 'with --litefs-config: leave $VAR and ${VAR} as they stand')
    .option('--data-dir <dir>', 'where the node keeps everything; created when missing')
    .option('--name <name>', 'name of the node (default: the host name)')
    .option('--region <region>', 'region of the node (default: local)')
    .option('--primary', 'this node is the primary (static lease)')
    .option('--replica-of <url>', "URL of the primary's HTTP listener (static lease)")
    .option('--host-lease <dir>', 'elect the primary among the nodes of this machine that share the directory')
    .option('--etcd <url>', 'elect the primary through etcd; repeat for each endpoint', collect, [])
    .option(
      '--consul <url>',
      'elect the primary through Consul: http(s)://host[:port][/prefix]; a token: FLY_CONSUL_URL or --config',
    )
    .option('--no-candidate', 'with an election: this node never becomes the primary')
    .option('--host <address>', 'address to listen on; beyond loopback a cluster key is needed (default: 127.0.0.1)')
    .option(
      '--http-port <port>',
      `port of the LiteFS-compatible API, 0 for a free one (default: ${DEFAULT_HTTP_PORT})`,
      port,
    )
    .option(
      '--grpc-port <port>',
      `port for other nodes and status, 0 for a free one (default: ${DEFAULT_GRPC_PORT})`,
      port,
    )
    .option('--advertise-http <url>', 'URL under which other nodes reach the HTTP listener')
    .option('--advertise-grpc <address>', 'host:port under which other nodes reach gRPC')
    .option('--database <name>', 'database to hold; may be repeated', collect, [])
    .option('--migrations <dir>', 'directory of *.sql files for the one --database; the primary runs them once')
    .option('--cluster-key-file <file>', 'file with the cluster key (or set LITEFLEET_CLUSTER_KEY)')
    .option(
      '--voter <name>',
      'node whose word counts for the await level "majority"; repeat for each, the same on all',
      collect,
      [],
    )
    .option('--peer <host:port>', 'where another node may be, or dns:name:port; may be repeated', collect, [])
    .option('--interop', 'let LiteFS nodes, which cannot authenticate, read the stream')
    .option('--interop-handoff', 'and let them move the office of the primary by /promote and /handoff')
    .addHelpText(
      'after',
      `
Examples:
  litefleet run --data-dir ./gru --name gru --primary --database app.db
  litefleet run --data-dir ./lhr --name lhr --replica-of http://127.0.0.1:4200 --http-port 4210 --grpc-port 4211 --database app.db
  litefleet run --data-dir ./a --name a --host-lease ./lease --database app.db
  litefleet run --data-dir ./a --name a --etcd http://10.0.0.9:2379 --voter a --voter b --voter c --database app.db
  litefleet run --config ./node.yml
  litefleet run --litefs-config /etc/litefs.yml --cluster-key-file ./cluster.key`,
    )
    .action((flags: RunFlags) => run(flags, terminal))
}

async function run(flags: RunFlags, terminal: Terminal): Promise<void> {
  const file = fileOf(flags, terminal)
  const config = mergeNodeConfig(mergeNodeConfig(LISTEN_DEFAULTS, file), configOfFlags(flags))
  await runNode({
    config,
    signal: stopSignal(),
    onReady: ({ node, role, addresses }) =>
      terminal.out(`${node.name} (${node.region}) is ${role.kind}: http ${addresses.http}, grpc ${addresses.grpc}`),
  })
  terminal.out('closed')
}

/** The configuration file, whichever it is. */
function fileOf({ config, litefsConfig, expandEnv, grpcPort, httpPort }: RunFlags, terminal: Terminal): NodeConfig {
  if (config !== undefined && litefsConfig !== undefined)
    throw new ClusterError('INVALID_OPTION', '--config and --litefs-config exclude each other')
  if (litefsConfig === undefined) return config === undefined ? {} : readNodeConfig(config)
  const litefs = readLiteFsConfig(litefsConfig, expandEnv === false ? undefined : process.env)
  const where = path.basename(litefsConfig)
  const node = nodeOfLiteFs(litefs, {
    where,
    grpcPort: grpcPort ?? DEFAULT_GRPC_PORT,
    httpPort,
    // On Fly.io the machine's name leads nowhere, and its address is known.
    hostname: (process.env['FLY_PRIVATE_IP'] ?? '') === '' ? os.hostname() : undefined,
  })
  for (const { key, why } of node.ignored) terminal.err(`${where}: ${key} is ignored: ${why}`)
  return node.config
}

const LISTEN_DEFAULTS: NodeConfig = { listen: { httpPort: DEFAULT_HTTP_PORT, grpcPort: DEFAULT_GRPC_PORT } }

/** What the flags say, in the form of the configuration file. */
export function configOfFlags(flags: RunFlags): NodeConfig {
  if (flags.migrations !== undefined && flags.database.length !== 1) {
    throw new ClusterError('INVALID_OPTION', '--migrations needs exactly one --database', {
      hint: 'Several databases with migrations go into a file for --config.',
    })
  }
  const lease = leaseOfFlags(flags)
  const migrations = flags.migrations === undefined ? {} : { migrations: path.resolve(flags.migrations) }
  return {
    ...given({ dataDir: flags.dataDir, lease, clusterKeyFile: flags.clusterKeyFile }),
    ...given({ interop: flags.interopHandoff === true ? { handoff: true } : flags.interop }),
    ...section('node', { name: flags.name, region: flags.region }),
    ...section('listen', { host: flags.host, httpPort: flags.httpPort, grpcPort: flags.grpcPort }),
    ...section('advertise', { http: flags.advertiseHttp, grpc: flags.advertiseGrpc }),
    ...(flags.voter.length === 0 ? {} : { voters: flags.voter }),
    ...(flags.peer.length === 0 ? {} : { peers: flags.peer }),
    ...(flags.database.length === 0 ? {} : { databases: flags.database.map((name) => ({ name, ...migrations })) }),
  }
}

/** At most one of the ways to know the primary. */
function leaseOfFlags({ primary, replicaOf, hostLease, etcd, consul, candidate }: RunFlags): NodeConfig['lease'] {
  const elected = candidate === false ? { candidate } : {}
  const leases: NodeConfig['lease'][] = []
  if (primary === true) leases.push({ kind: 'static', primary: true })
  if (replicaOf !== undefined) leases.push({ kind: 'static', primary: { url: replicaOf } })
  if (hostLease !== undefined) leases.push({ kind: 'host', directory: hostLease, ...elected })
  if (etcd.length > 0) leases.push({ kind: 'etcd', endpoints: etcd, ...elected })
  if (consul !== undefined) leases.push({ kind: 'consul', url: consul, ...elected })
  if (leases.length <= 1) return leases[0]
  throw new ClusterError(
    'INVALID_OPTION',
    '--primary, --replica-of, --host-lease, --etcd and --consul exclude each other',
  )
}

function section(name: string, values: Readonly<Record<string, unknown>>): NodeConfig {
  const set = given(values)
  return Object.keys(set).length === 0 ? {} : { [name]: set }
}

function given(values: Readonly<Record<string, unknown>>): NodeConfig {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined))
}

function port(text: string): number {
  const value = Number(text)
  if (/^\d{1,5}$/.test(text) && value <= 65_535) return value
  throw new InvalidArgumentError('It accepts a port number, 0 to 65535.')
}

function collect(value: string, before: readonly string[]): readonly string[] {
  return [...before, value]
}
