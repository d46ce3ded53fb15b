/**
 * One node of the bank: a cluster member and its HTTP API in one process.
 *
 *   node examples/bank/node.ts --name gru --data ./data/gru --port 9001 --http-port 4101
 *   node examples/bank/node.ts --name lhr --data ./data/lhr --port 9002 --primary http://127.0.0.1:4101
 *
 *   node examples/bank/node.ts --name lhr --data ./data/lhr --host-lease ./data/lease --voters gru,lhr,nrt
 *
 * Without `--primary` and `--host-lease` the node is the primary. It ends on SIGTERM or SIGINT, and when it was started by a supervisor, on the
 * end of that process too, so that no node outlives the demo that started it.
 */
import { parseArgs } from 'node:util'
import { type Cluster, type ClusterOptions, formatPosition, openCluster } from '@litefleet/core'
import { once } from 'node:events'
import { openBank } from './src/bank.ts'
import { createHttpApi } from './src/http-api.ts'
import { BankMetrics } from './src/metrics.ts'
import type { SupervisorMessage } from './src/supervisor-messages.ts'

/** How often a supervised node reports, in ms. */
const REPORT_MS = 200
/** Longer than an election takes, so that callers wait for the next primary instead of an error. */
const MAJORITY_TIMEOUT_MS = 20_000

const { values: flags } = parseArgs({
  options: {
    name: { type: 'string', default: 'bank' },
    region: { type: 'string' },
    data: { type: 'string', default: './bank-data' },
    /** Address of the bank's API and of the cluster's listeners. Beyond loopback LITEFLEET_CLUSTER_KEY must be set. */
    host: { type: 'string', default: '127.0.0.1' },
    port: { type: 'string', default: '0' },
    'grpc-port': { type: 'string', default: '0' },
    'http-port': { type: 'string', default: '0' },
    /** Under which other machines reach this node. Needed when `--host` is 0.0.0.0. */
    'advertise-host': { type: 'string' },
    /** URL of the primary's cluster listener (its `--http-port`). */
    primary: { type: 'string' },
    /** Instead: directory of a lease by which the nodes of this machine elect their primary. */
    'host-lease': { type: 'string' },
    /** Names of the nodes whose majority must have a transfer before it is answered, separated by commas. Default: none, and nobody is waited for. */
    voters: { type: 'string' },
  },
})

const supervised = process.send !== undefined
const stop = new AbortController()
// Heard from the first moment on: a supervisor may die while this node is still opening.
process.on('SIGTERM', () => stop.abort())
process.on('disconnect', () => stop.abort())
// Ctrl-C reaches the whole process group; a supervised node leaves the order of closing to its supervisor.
process.on('SIGINT', () => supervised || stop.abort())

function tell(message: SupervisorMessage): void {
  if (process.connected) process.send?.(message)
}

function clusterOptions(): ClusterOptions {
  const { 'host-lease': directory, voters } = flags
  const { 'advertise-host': advertiseHost, 'grpc-port': grpcPort, 'http-port': httpPort } = flags
  return {
    dataDir: flags.data,
    node: { name: flags.name, region: flags.region ?? flags.name },
    lease:
      directory === undefined
        ? { kind: 'static', primary: flags.primary === undefined ? true : { url: flags.primary } }
        : { kind: 'host', directory },
    ...(voters === undefined ? {} : { voters: voters.split(',') }),
    listen: { host: flags.host, grpcPort: Number(grpcPort), httpPort: Number(httpPort) },
    ...(advertiseHost === undefined
      ? {}
      : { advertise: { grpc: `${advertiseHost}:${grpcPort}`, http: `http://${advertiseHost}:${httpPort}` } }),
  }
}

/** Serves until `stop`. */
async function serve(cluster: Cluster): Promise<void> {
  // A replica whose primary is gone would wait for it; told to stop, it closes instead.
  const bank = await Promise.race([openBank(cluster), stopped.then(() => undefined)])
  if (bank === undefined) return
  const metrics = new BankMetrics()
  if (supervised) bank.database.onAdvance((position) => metrics.advanced(position))
  const write = flags.voters === undefined ? {} : ({ await: 'majority', timeoutMs: MAJORITY_TIMEOUT_MS } as const)
  const api = createHttpApi({ bank, metrics, write, status: () => cluster.status() })
  const url = await api.listen({ host: flags.host, port: Number(flags.port) })

  const { grpc, http } = cluster.addresses
  tell({ kind: 'ready', url, grpc, http, databasePath: bank.database.path })
  if (!supervised) console.log(`${flags.name}: bank on ${url}, cluster on ${http} and ${grpc}, ${cluster.role.kind}`)
  const report = (): void => {
    const position = formatPosition(bank.database.position)
    tell({ kind: 'report', role: cluster.role.kind, position, metrics: metrics.take() })
  }
  const reports = setInterval(report, REPORT_MS)
  cluster.onRole(report)

  await stopped
  clearInterval(reports)
  await api.close()
}

const stopped = once(stop.signal, 'abort')
const cluster = await openCluster(clusterOptions())
try {
  await serve(cluster)
} finally {
  await cluster.close()
  if (process.connected) process.disconnect()
}
