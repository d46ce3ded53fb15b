/** `litefleet status`: asks a node, then every member it knows, and shows what each says of itself. */
import { formatChecksum, formatTxid, isClusterError } from '@litefleet/core'
import { type DatabaseStatus, fetchStatus, type NodeStatus } from '@litefleet/core/peer'
import type { Command } from 'commander'
import { addNodeFlags, clusterKeysOf, type NodeFlags } from './node-flags.ts'
import { type DatabaseView, formatStatusTable, type NodeView } from './status-view.ts'
import type { Terminal } from './terminal.ts'

/** A node that does not answer within this is shown as unreachable. */
const ASK_TIMEOUT_MS = 3_000

interface StatusFlags extends NodeFlags {
  readonly json: boolean
}

export function addStatusCommand(program: Command, terminal: Terminal): void {
  const command = program
    .command('status')
    .description('Show every node of a cluster: role, databases, TXIDs, checksums, lag, connected replicas')
  addNodeFlags(command)
    .option('--json', 'print JSON', false)
    .addHelpText(
      'after',
      `
Examples:
  litefleet status
  litefleet status --node 10.0.0.7:4201 --cluster-key-file ./cluster.key --json`,
    )
    .action((flags: StatusFlags) => status(flags, terminal))
}

async function status(flags: StatusFlags, terminal: Terminal): Promise<void> {
  const keys = clusterKeysOf(flags)
  const ask = (address: string): Promise<NodeStatus> => fetchStatus(address, { keys, timeoutMs: ASK_TIMEOUT_MS })

  const first = await ask(flags.node)
  const others = first.members.filter((member) => member.nodeId !== first.nodeId)
  const asked = await Promise.all(
    others.map(async (member): Promise<NodeView> => {
      try {
        return viewOf(member.grpcAddress, await ask(member.grpcAddress))
      } catch (error) {
        // It is listed all the same: that it does not answer is what somebody is looking for.
        const { nodeName, region, role, grpcAddress } = member
        return {
          address: grpcAddress,
          name: nodeName,
          region,
          role,
          roleDetail: '',
          databases: [],
          error: reason(error),
        }
      }
    }),
  )
  const nodes = [viewOf(flags.node, first), ...asked]
  // The primary first, then by name.
  nodes.sort((a, b) => Number(b.role === 'primary') - Number(a.role === 'primary') || a.name.localeCompare(b.name))
  const view = { clusterId: first.clusterId, nodes }
  terminal.out(flags.json ? JSON.stringify(view, null, 2) : formatStatusTable(view))
}

function viewOf(address: string, status: NodeStatus): NodeView {
  const { nodeName, region, role, roleDetail, databases } = status
  return { address, name: nodeName, region, role, roleDetail, databases: databases.map(databaseView), error: null }
}

function databaseView(database: DatabaseStatus): DatabaseView {
  const { name, state, position, epoch, lagMs, logBytes, walBytes, divergences } = database
  return {
    name,
    state,
    txid: formatTxid(position.txid),
    checksum: formatChecksum(position.checksum),
    epoch,
    lagMs: lagMs ?? null,
    logBytes,
    walBytes,
    divergences,
    replicas: database.replicas.map(({ nodeName, region, counted, durable, applied }) => ({
      name: nodeName,
      region,
      counted,
      durableTxid: durable === undefined ? null : formatTxid(durable.txid),
      appliedTxid: applied === undefined ? null : formatTxid(applied.txid),
    })),
  }
}

function reason(error: unknown): string {
  if (isClusterError(error)) return error.code
  return error instanceof Error ? error.message : String(error)
}
