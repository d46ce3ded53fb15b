/**
 * What `litefleet status` shows of a cluster: the node that was asked, then every member it knows, each in its own words.
 * Plain data, with TXIDs and checksums as 16 hex digits; this is what `--json` prints.
 */
import { type Column, formatTable } from './text-table.ts'

export interface ReplicaView {
  readonly name: string
  readonly region: string
  /** False for a LiteFS node: it acknowledges nothing. */
  readonly counted: boolean
  readonly durableTxid: string | null
  readonly appliedTxid: string | null
}

export interface DatabaseView {
  readonly name: string
  readonly state: string
  readonly txid: string
  readonly checksum: string
  readonly epoch: number
  /** 0 on the primary, null before anything arrived. */
  readonly lagMs: number | null
  readonly logBytes: number
  readonly walBytes: number
  /** Divergence reports on the node. */
  readonly divergences: number
  readonly replicas: readonly ReplicaView[]
}

export interface NodeView {
  /** `host:port` of the node's gRPC. */
  readonly address: string
  readonly name: string
  readonly region: string
  readonly role: string
  /** Why the node is in no office and follows nobody, or to whom it hands off; empty otherwise. */
  readonly roleDetail: string
  readonly databases: readonly DatabaseView[]
  /** Why the node could not be asked; what stands above is then what another node told of it. */
  readonly error: string | null
}

export interface ClusterView {
  readonly clusterId: string
  readonly nodes: readonly NodeView[]
}

const COLUMNS: readonly Column[] = [
  { heading: 'node' },
  { heading: 'region' },
  { heading: 'role' },
  { heading: 'database' },
  { heading: 'TXID' },
  { heading: 'checksum' },
  { heading: 'lag', align: 'right' },
  { heading: 'replicas' },
]

/** One line for each database of each node; a node without any, or that does not answer, still has a line. */
export function formatStatusTable(view: ClusterView): string {
  const rows = view.nodes.flatMap((node) => {
    const who = [node.name, node.region, node.error === null ? node.role : 'unreachable']
    if (node.error !== null) return [[...who, node.error]]
    if (node.databases.length === 0) return [[...who, '-']]
    return node.databases.map((database) => [
      ...who,
      database.state === 'ready' ? database.name : `${database.name} (${database.state})`,
      database.txid,
      database.checksum,
      formatLag(node, database),
      formatReplicas(node, database),
    ])
  })
  return [formatTable(COLUMNS, rows), ...roleLines(view), ...divergenceLines(view)].join('\n')
}

function roleLines(view: ClusterView): readonly string[] {
  return view.nodes.flatMap(({ name, role, roleDetail, error }) =>
    error !== null || roleDetail === '' ? [] : [`node ${name} is ${role}: ${roleDetail}`],
  )
}

/** What somebody should look at. */
function divergenceLines(view: ClusterView): readonly string[] {
  return view.nodes.flatMap((node) =>
    node.databases
      .filter(({ divergences }) => divergences > 0)
      .map(({ name, divergences }) => {
        const what = divergences === 1 ? 'a divergence report' : `${divergences} divergence reports`
        return `node ${node.name} keeps ${what} of ${name}: see litefleet divergence list there`
      }),
  )
}

function formatLag(node: NodeView, { lagMs }: DatabaseView): string {
  if (node.role === 'primary') return '-'
  return lagMs === null ? '?' : `${lagMs.toFixed(lagMs < 10 ? 1 : 0)} ms`
}

function formatReplicas(node: NodeView, { replicas }: DatabaseView): string {
  if (node.role !== 'primary') return ''
  if (replicas.length === 0) return 'none'
  return replicas.map((replica) => `${replica.name}${replica.counted ? '' : ' (LiteFS)'}`).join(', ')
}
