/**
 * What a node asks a LiteFS primary that it follows: to hand its office over, and what it has.
 *
 * `POST /handoff?nodeID=` answers when the lease is on its way, as the last frame but one of a stream to this node. `GET /debug/vars` is the only
 * place where LiteFS tells the positions of its databases; the document is Go's expvar, with LiteFS 0.5.14's own part under `store`.
 */
import type { Clock } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import { EMPTY_CHECKSUM } from '../position/checksum.ts'
import { type Position, parsePosition } from '../position/position.ts'
import { ask, type HttpAnswer } from './http-call.ts'
import { addressOf } from './node-address.ts'

export interface LiteFsClientParts {
  /** LiteFS node id of this node: 16 uppercase hex digits. */
  readonly nodeId: string
  readonly clock: Clock
  /** Where to connect for an address, both `host:port`. */
  route(address: string): string
}

export interface LiteFsState {
  readonly isPrimary: boolean
  /** Of databases that have a page. */
  readonly positions: ReadonlyMap<string, Position>
}

export class LiteFsClient {
  readonly #parts: LiteFsClientParts

  constructor(parts: LiteFsClientParts) {
    this.#parts = parts
  }

  /**
   * Asks the primary at this URL for its office.
   * @throws ClusterError `HANDOFF_FAILED`
   */
  async askForOffice(url: string, timeoutMs: number): Promise<void> {
    const { status, text } = await this.#call('POST', url, `/handoff?nodeID=${this.#parts.nodeId}`, timeoutMs)
    if (status !== 200) throw failed(url, text.trim() === '' ? `status ${status}` : text.trim())
  }

  /** @throws ClusterError `HANDOFF_FAILED` when it does not answer, or is no LiteFS node */
  async state(url: string, timeoutMs: number): Promise<LiteFsState> {
    const { status, text } = await this.#call('GET', url, '/debug/vars', timeoutMs)
    const state = status === 200 ? parseState(text) : undefined
    if (state === undefined) throw failed(url, 'it does not tell what it has')
    return state
  }

  async #call(method: 'GET' | 'POST', url: string, path: string, timeoutMs: number): Promise<HttpAnswer> {
    const { clock, route } = this.#parts
    const deadline = new AbortController()
    const timer = clock.setTimer(timeoutMs, () => deadline.abort())
    try {
      return await ask({ method, address: addressOf(new URL(url), route), path, signal: deadline.signal })
    } catch (error) {
      throw failed(url, deadline.signal.aborted ? `no answer within ${timeoutMs} ms` : (error as Error).message, error)
    } finally {
      timer.cancel()
    }
  }
}

interface WireState {
  readonly store?: {
    readonly isPrimary?: boolean
    readonly dbs?: Readonly<Record<string, { readonly txid?: string; readonly checksum?: string }>>
  }
}

function parseState(text: string): LiteFsState | undefined {
  let document: WireState
  try {
    document = JSON.parse(text) as WireState
  } catch {
    return undefined
  }
  const { store } = document
  if (typeof store?.isPrimary !== 'boolean') return undefined
  const positions = new Map<string, Position>()
  for (const [name, { txid, checksum }] of Object.entries(store.dbs ?? {})) {
    const position = parsePosition(`${txid}/${checksum}`) // of one that was dropped the TXID stays
    if (position === undefined) return undefined
    if (position.txid > 0n && position.checksum !== EMPTY_CHECKSUM) positions.set(name, position)
  }
  return { isPrimary: store.isPrimary, positions }
}

function failed(url: string, reason: string, cause?: unknown): ClusterError {
  return new ClusterError('HANDOFF_FAILED', `the LiteFS primary at ${url}: ${reason}`, { cause })
}
