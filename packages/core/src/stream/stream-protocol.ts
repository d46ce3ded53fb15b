/**
 * Names and numbers of the replication endpoint that both ends must agree on.
 *
 * The frames are LiteFS 0.5.14's. What Litefleet adds travels in headers, which LiteFS ignores:
 *   request   litefleet-node       name of the replica, percent-encoded; its presence makes the peer a Litefleet replica
 *   request   litefleet-epoch      epoch of the last record of the one database in the filter, decimal
 *   request   litefleet-token      proof of the cluster key (request/cluster-token.ts)
 *   response  litefleet-answer     proof that the server knows it too
 *   both      litefleet-protocol   `STREAM_PROTOCOL`, decimal
 *   response  litefleet-epochs     see epoch-header.ts
 *
 * Versions: 1 = the headers above.
 */
export const STREAM_PROTOCOL = 1

export const HEADER = {
  nodeId: 'litefs-id',
  clusterId: 'litefs-cluster-id',
  node: 'litefleet-node',
  epoch: 'litefleet-epoch',
  epochs: 'litefleet-epochs',
  protocol: 'litefleet-protocol',
  token: 'litefleet-token',
  answer: 'litefleet-answer',
} as const

/** `LFSC` and 16 uppercase hex digits. LiteFS itself checks length and prefix only; so do we with what it sends. */
export function isClusterId(text: string): boolean {
  return text.length === 20 && text.startsWith('LFSC')
}

/** Node id as LiteFS reads it: 16 hex digits; `undefined` for anything else. Answered in upper case. */
export function parseNodeId(text: string | undefined): string | undefined {
  return text !== undefined && /^[0-9a-fA-F]{16}$/.test(text) ? text.toUpperCase() : undefined
}
