/**
 * The life of a node as a process: open, say so, serve until told to stop, close in order.
 *
 * Promises: SIGTERM and SIGINT close the cluster once, however often they arrive, also while it is still opening; the databases
 * are closed cleanly, so that the next start trusts them; the answer comes after everything is closed.
 */
import {
  type Cluster,
  ClusterError,
  type ClusterOptions,
  type DatabaseOptions,
  isClusterError,
  openCluster,
} from '@litefleet/core'
import { readClusterKeys } from './config-file.ts'
import type { NodeConfig } from './node-config.ts'

export interface RunNodeOptions {
  readonly config: NodeConfig
  /** Ends the node. */
  readonly signal: AbortSignal
  /** Called once the node serves. */
  onReady?: ((cluster: Cluster) => void) | undefined
}

/** Runs a node until the signal. Rejects with `ClusterError` when it cannot open. */
export async function runNode(options: RunNodeOptions): Promise<void> {
  const { config, signal, onReady } = options
  await using cluster = await openCluster(toClusterOptions(config))
  for (const { name, migrations } of config.databases ?? []) {
    if (signal.aborted) return
    await openDatabase(cluster, name, migrations === undefined ? {} : { migrations }, options)
  }
  if (signal.aborted) return
  onReady?.(cluster)
  await new Promise<void>((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

/** Where an election decides, nodes wait for each other for as long as it takes: one that gave up could not be asked by the others. */
async function openDatabase(
  cluster: Cluster,
  name: string,
  options: DatabaseOptions,
  { config, signal }: RunNodeOptions,
): Promise<void> {
  for (;;) {
    try {
      await cluster.database(name, options)
      return
    } catch (error) {
      const isWaiting = isClusterError(error, 'NO_PRIMARY') || isClusterError(error, 'WAIT_TIMEOUT')
      if (!isWaiting || config.lease?.kind === 'static') throw error
      if (signal.aborted) return
    }
  }
}

/** Aborts on SIGTERM and SIGINT. */
export function stopSignal(): AbortSignal {
  const controller = new AbortController()
  for (const name of ['SIGTERM', 'SIGINT'] as const) process.on(name, () => controller.abort(name))
  return controller.signal
}

/** What `openCluster` takes. Throws `INVALID_OPTION` when something it cannot do without is missing. */
export function toClusterOptions(config: NodeConfig): ClusterOptions {
  const { dataDir, lease, node, listen, advertise, voters, peers, clusterKeyFile, interop, log, ledger } = config
  if (dataDir === undefined) {
    throw new ClusterError('INVALID_OPTION', 'the data directory is missing', {
      hint: 'Set dataDir, or pass --data-dir.',
    })
  }
  if (lease === undefined) {
    throw new ClusterError('INVALID_OPTION', 'the lease is missing', {
      hint: 'Pass --primary on the primary, --replica-of URL on a replica, or, also for an election, set lease in the configuration.',
    })
  }
  return {
    dataDir,
    lease,
    ...(node === undefined ? {} : { node }),
    ...(listen === undefined ? {} : { listen }),
    ...(advertise === undefined ? {} : { advertise }),
    ...(voters === undefined ? {} : { voters }),
    ...(peers === undefined ? {} : { peers }),
    ...(clusterKeyFile === undefined ? {} : { clusterKey: readClusterKeys(clusterKeyFile) }),
    ...(interop === undefined ? {} : { interop }),
    ...(log === undefined ? {} : { log }),
    ...(ledger === undefined ? {} : { ledger }),
  }
}
