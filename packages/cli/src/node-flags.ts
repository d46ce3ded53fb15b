/** Flags of the verbs that ask a running node: where it is, and the proof that one may ask. */
import { readClusterKeys } from '@litefleet/server'
import type { Command } from 'commander'
import { DEFAULT_GRPC_PORT } from './run-command.ts'

export interface NodeFlags {
  readonly node: string
  readonly clusterKeyFile?: string
}

export function addNodeFlags(command: Command): Command {
  return command
    .option('--node <host:port>', 'gRPC address of any node', `127.0.0.1:${DEFAULT_GRPC_PORT}`)
    .option('--cluster-key-file <file>', 'file with the cluster key (or set LITEFLEET_CLUSTER_KEY)')
}

export function clusterKeysOf({ clusterKeyFile }: NodeFlags): readonly string[] {
  if (clusterKeyFile !== undefined) return readClusterKeys(clusterKeyFile)
  return process.env['LITEFLEET_CLUSTER_KEY']?.split(',') ?? []
}
