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
 *   response  litefleet-position   where the one database in the filter stands; of an export or a difference, what it leads to
 *   request   litefleet-copy       `1`: the replica has a copy, and can be led on by a difference (difference-route.ts)
 *   response  litefleet-seed       `gone` or `diverged`: there are no records from the replica's position on, and the body ends
 *                                  at once; the replica asks for a difference. Only for a replica that sent litefleet-copy
 *   response  litefleet-term       epoch of the primary's time in office, decimal; a replica that promised a newer one refuses
 *   request   litefleet-candidate  epoch of a candidate that asks a replica which has more than it; answered by who promised exactly
 *                                  that epoch, instead of a primary only
 *
 * Versions: 1 = the headers above. Those from litefleet-position on came later; who does not know them does without.
 */
export const STREAM_PROTOCOL = 1

export const HEADER = {
  nodeId: 'litefs-id',
  clusterId: 'litefs-cluster-id',
  node: 'litefleet-node',
  epoch: 'litefleet-epoch',
  epochs: 'litefleet-epochs',
  position: 'litefleet-position',
  copy: 'litefleet-copy',
  seed: 'litefleet-seed',
  term: 'litefleet-term',
  candidate: 'litefleet-candidate',
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
