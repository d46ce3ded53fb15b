/**
 * Checks the answer to a `/stream` request before a byte of its body is used.
 *
 * In this order: the cluster id is ours, the protocol is ours, the status is 200, the primary proved that it knows the cluster key, and nobody
 * newer was promised to.
 * Only then a node without a cluster id adopts the primary's. The cluster id stands on refusals too, so a node of another
 * cluster is called that, whatever else it says.
 */
import type { IncomingHttpHeaders } from 'node:http2'
import { ClusterError } from '../errors/cluster-error.ts'
import { parsePosition } from '../position/position.ts'
import { type ClusterKeys, isTokenAnswer } from '../request/cluster-token.ts'
import { type Epoch, NO_EPOCH } from '../position/epoch.ts'
import { parseEpochHeader } from './epoch-header.ts'
import { parseEpoch } from './may-send.ts'
import { HEADER, isClusterId, parseNodeId, STREAM_PROTOCOL } from './stream-protocol.ts'
import type { StreamGreeting } from './stream-receiver.ts'

export interface GreetingOptions {
  readonly keys: ClusterKeys
  /** Accept a primary that cannot prove that it knows the key (LiteFS). */
  readonly interop: boolean
  readonly clusterId: () => string | undefined
  /** A Litefleet primary of an older epoch is refused; `NO_EPOCH`: none is. */
  readonly promised: () => Epoch
  /** Stores the primary's cluster id durably; from then on `clusterId()` answers it. */
  readonly adoptClusterId: (clusterId: string) => void | Promise<void>
}

export class PrimaryGreeting {
  readonly #options: GreetingOptions
  #adopting: Promise<void> | undefined

  constructor(options: GreetingOptions) {
    this.#options = options
  }

  /**
   * @param token the one the request carried
   * @param refusal text of the body when the status is not 200
   * @throws ClusterError `CLUSTER_MISMATCH`, `PROTOCOL_MISMATCH`, `UNAUTHENTICATED`, `NOT_PRIMARY`, `PRIMARY_OUTDATED`, `STREAM_FAILED`
   */
  async check(
    headers: IncomingHttpHeaders,
    database: string,
    token: string | undefined,
    refusal: () => Promise<string>,
  ): Promise<StreamGreeting> {
    const clusterId = text(headers, HEADER.clusterId)
    this.#checkCluster(clusterId)
    const protocol = text(headers, HEADER.protocol)
    if (protocol !== undefined && protocol !== String(STREAM_PROTOCOL))
      throw new ClusterError(
        'PROTOCOL_MISMATCH',
        `the primary speaks stream protocol ${protocol}, this node ${STREAM_PROTOCOL}`,
        {
          hint: 'Run one minor version on all nodes.',
        },
      )
    const status = Number(headers[':status'])
    if (status !== 200) throw refused(status, await refusal())
    if (!this.#options.interop) this.#checkProof(token, text(headers, HEADER.answer))
    const term = parseEpoch(text(headers, HEADER.term)) ?? NO_EPOCH
    const promised = this.#options.promised()
    // A LiteFS primary has no epoch: that it holds the lease has to do (D12).
    if (protocol !== undefined && term < promised) throw outdated(term, promised)
    await this.#adopt(clusterId)
    const epochs = text(headers, HEADER.epochs)
    return {
      nodeId: parseNodeId(text(headers, HEADER.nodeId)) ?? '',
      clusterId,
      kind: protocol === undefined ? 'litefs' : 'litefleet',
      term,
      epochs: epochs === undefined ? undefined : parseEpochHeader(epochs)?.get(database),
      position: parsePosition(text(headers, HEADER.position) ?? ''),
      seed: parseSeed(text(headers, HEADER.seed)),
    }
  }

  /** As LiteFS: equal, or this node has none yet. */
  #checkCluster(theirs: string | undefined): void {
    const ours = this.#options.clusterId()
    if (ours === undefined || ours === theirs) return
    throw new ClusterError(
      'CLUSTER_MISMATCH',
      `the primary belongs to cluster ${theirs ?? '(none)'}, this node to ${ours}`,
      {
        details: { ours, theirs },
        hint: 'Give the node the address of its own cluster, or an empty data directory to join this one.',
      },
    )
  }

  #checkProof(token: string | undefined, answer: string | undefined): void {
    const { keys } = this.#options
    if (keys.length === 0) return
    if (token !== undefined && answer !== undefined && isTokenAnswer(keys, token, answer)) return
    throw new ClusterError('UNAUTHENTICATED', 'the primary did not prove that it knows the cluster key', {
      hint: 'Give every node the same clusterKey; switch interop on to follow a LiteFS primary.',
    })
  }

  /** Databases connect at the same time, but one adoption is enough. */
  async #adopt(clusterId: string | undefined): Promise<void> {
    if (clusterId === undefined || !isClusterId(clusterId)) return
    await this.#adopting
    if (this.#options.clusterId() !== undefined) return this.#checkCluster(clusterId)
    this.#adopting = Promise.resolve(this.#options.adoptClusterId(clusterId)).finally(() => {
      this.#adopting = undefined
    })
    await this.#adopting
  }
}

function parseSeed(value: string | undefined): 'gone' | 'diverged' | undefined {
  return value === 'gone' || value === 'diverged' ? value : undefined
}

function refused(status: number, reason: string): ClusterError {
  const details = { status, reason }
  if (status === 401)
    return new ClusterError('UNAUTHENTICATED', `the primary refused this node: ${reason}`, { details })
  if (status === 409)
    return new ClusterError('CLUSTER_MISMATCH', `the primary refused this node: ${reason}`, { details })
  if (status === 503) return new ClusterError('NOT_PRIMARY', `the node asked does not stream: ${reason}`, { details })
  return new ClusterError('STREAM_FAILED', `the primary answered ${status}: ${reason}`, { details })
}

function text(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value = headers[name]
  return typeof value === 'string' && value !== '' ? value : undefined
}

/** I4, D13: what it would send may not be in the history of the one that was promised to. */
function outdated(term: Epoch, promised: Epoch): ClusterError {
  return new ClusterError(
    'PRIMARY_OUTDATED',
    `the primary is in office since epoch ${term}, but this node promised a candidate of epoch ${promised} to take nothing older`,
    { details: { term, promised } },
  )
}
