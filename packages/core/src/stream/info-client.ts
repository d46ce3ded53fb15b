/** Asks a node who it is: `GET /info`, answered by LiteFS and Litefleet nodes, primary or not. */
import http from 'node:http'
import type { Clock } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import { type ClusterKeys, isTokenAnswer, signToken } from '../request/cluster-token.ts'
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
/** Names and positions of some tens of thousands of databases. */
const INFO_BYTES_MAX = 4 * 1024 * 1024

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
      const { text, headers } = await get(
        target,
        addressOf(target, route),
        token === undefined ? {} : { [HEADER.token]: token },
        stop,
      )
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

async function get(
  url: URL,
  address: { readonly host: string; readonly port: number },
  headers: Record<string, string>,
  signal: AbortSignal,
): Promise<{ text: string; headers: http.IncomingHttpHeaders }> {
  const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
    http.get({ ...address, path: '/info', headers, signal, agent: false }, resolve).on('error', reject)
  })
  const pieces: Buffer[] = []
  let bytes = 0
  for await (const piece of response as AsyncIterable<Buffer>) {
    bytes += piece.length
    if (bytes > INFO_BYTES_MAX) throw failed(url.host, 'the answer is too long')
    pieces.push(piece)
  }
  if (response.statusCode !== 200) throw failed(url.host, `status ${response.statusCode}`)
  return { text: Buffer.concat(pieces, bytes).toString(), headers: response.headers }
}

function failed(url: string, reason: string, cause?: unknown): ClusterError {
  return new ClusterError('STREAM_FAILED', `info of ${url}: ${reason}`, { cause })
}
