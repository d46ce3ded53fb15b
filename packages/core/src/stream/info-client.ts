/** Asks a node who it is: `GET /info`, answered by LiteFS and Litefleet nodes, primary or not. */
import type { Clock } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import { type ClusterKeys, isTokenAnswer, signToken } from '../request/cluster-token.ts'
import { ask } from './http-call.ts'
import { addressOf } from './node-address.ts'
import { type NodeInfo, parseNodeInfo } from './node-info.ts'
import { HEADER, parseNodeId } from './stream-protocol.ts'

export interface InfoClientParts {
  /** Keys of the cluster; empty = none. With a key the answer of a Litefleet node includes its databases. */
  readonly keys: ClusterKeys
  readonly nodeName: string
  readonly clusterId: () => string | undefined
  readonly clock: Clock
  /** Where to connect for an address, both `host:port`. */
  route(address: string): string
  /** For the whole exchange. Default 2,000. */
  readonly timeoutMs?: number | undefined
}

export interface AnsweredInfo extends NodeInfo {
  /** LiteFS node id of the node that answered; `undefined` when it sent none. */
  readonly nodeId: string | undefined
  /** It proved that it knows the cluster key. Always false without a key, and for LiteFS. */
  readonly isProven: boolean
}

const INFO_TIMEOUT_MS = 2000

export class InfoClient {
  readonly #parts: InfoClientParts

  constructor(parts: InfoClientParts) {
    this.#parts = parts
  }

  /**
   * @param url `http://host:port`; the path is ignored
   * @throws ClusterError `STREAM_FAILED` when nobody answers in time or the answer is no info document
   */
  async ask(url: string, signal?: AbortSignal): Promise<AnsweredInfo> {
    const { keys, nodeName, clusterId, clock, route, timeoutMs = INFO_TIMEOUT_MS } = this.#parts
    const token = signToken(keys, 'stream', { clusterId: clusterId() ?? '', nodeName }, clock.nowMs())
    const deadline = new AbortController()
    const timer = clock.setTimer(timeoutMs, () => deadline.abort(failed(url, `no answer within ${timeoutMs} ms`)))
    const stop = signal === undefined ? deadline.signal : AbortSignal.any([deadline.signal, signal])
    try {
      const target = new URL(url)
      const { status, text, headers } = await ask({
        method: 'GET',
        address: addressOf(target, route),
        path: '/info',
        headers: token === undefined ? {} : { [HEADER.token]: token },
        signal: stop,
      })
      if (status !== 200) throw failed(url, `status ${status}`)
      const info = parseNodeInfo(text)
      if (info === undefined) throw failed(url, 'the answer is no info document')
      const answer = headers[HEADER.answer]
      const isProven = token !== undefined && typeof answer === 'string' && isTokenAnswer(keys, token, answer)
      const nodeId = headers[HEADER.nodeId]
      return { ...info, nodeId: parseNodeId(typeof nodeId === 'string' ? nodeId : undefined), isProven }
    } catch (error) {
      if (stop.aborted) throw stop.reason
      throw error instanceof ClusterError
        ? error
        : failed(url, error instanceof Error ? error.message : 'the request failed', error)
    } finally {
      timer.cancel()
    }
  }
}

function failed(url: string, reason: string, cause?: unknown): ClusterError {
  return new ClusterError('STREAM_FAILED', `info of ${url}: ${reason}`, { cause })
}
