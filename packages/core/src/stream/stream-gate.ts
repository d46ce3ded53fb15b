/**
 * Who may use the replication endpoint, and what kind of peer it is.
 *
 * Without a cluster key everyone may: the listener is on loopback then. With one, a Litefleet node shows a token and gets the
 * answer that proves the key back; LiteFS peers cannot, so they are let in only when interop is on. A wrong token is never
 * mistaken for a missing one.
 */
import type { Clock } from '../base/clock.ts'
import { isClusterError } from '../errors/cluster-error.ts'
import { answerToken, type ClusterKeys, TokenVerifier, type VerifiedToken } from '../request/cluster-token.ts'
import { type Exchange, header } from './exchange.ts'
import { HEADER } from './stream-protocol.ts'

export type Admission =
  | { readonly kind: 'litefs' }
  | {
      readonly kind: 'litefleet'
      readonly nodeName: string
      /** To be sent with the answer; empty without a key. */
      readonly headers: Readonly<Record<string, string>>
    }
  | { readonly kind: 'refused'; readonly status: 401 | 409; readonly message: string }

export class StreamGate {
  readonly #verifier: TokenVerifier
  readonly #interop: boolean
  readonly #clusterId: () => string | undefined

  constructor(keys: ClusterKeys, interop: boolean, clusterId: () => string | undefined, clock: Clock) {
    this.#verifier = new TokenVerifier(keys, () => clock.nowMs())
    this.#interop = interop
    this.#clusterId = clusterId
  }

  /** Uses up the token: called once for each request. */
  admit(exchange: Exchange): Admission {
    const nodeName = parseNodeName(header(exchange, HEADER.node))
    if (!this.#verifier.isRequired)
      return nodeName === undefined ? { kind: 'litefs' } : { kind: 'litefleet', nodeName, headers: {} }
    const token = header(exchange, HEADER.token)
    if (token === undefined)
      return this.#interop ? { kind: 'litefs' } : { kind: 'refused', status: 401, message: 'cluster token required' }
    const verified = this.#verify(token)
    if (verified === undefined) return { kind: 'refused', status: 401, message: 'cluster token refused' }
    const clusterId = this.#clusterId()
    if (verified.clusterId !== '' && clusterId !== undefined && verified.clusterId !== clusterId)
      return { kind: 'refused', status: 409, message: 'the caller belongs to another cluster' }
    // The name in the token is the one that was signed for.
    return {
      kind: 'litefleet',
      nodeName: verified.nodeName,
      headers: { [HEADER.answer]: answerToken(verified.key, token) },
    }
  }

  /** The reason of a refusal is for this node's operator only; it is not sent. */
  #verify(token: string): VerifiedToken | undefined {
    try {
      return this.#verifier.verify(token, 'stream')
    } catch (error) {
      if (isClusterError(error, 'UNAUTHENTICATED')) return undefined
      throw error
    }
  }
}

/** Percent-encoded, because a header carries ASCII only. `undefined` when the header is missing or malformed. */
function parseNodeName(text: string | undefined): string | undefined {
  try {
    return text === undefined ? undefined : decodeURIComponent(text)
  } catch {
    return undefined
  }
}
