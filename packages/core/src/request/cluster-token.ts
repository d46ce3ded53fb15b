/**
 * Proof that a node knows the cluster key, for every connection between nodes: gRPC metadata and the header of a
 * stream.
 *
 * A token is text: `lf1.<issued ms, base 36>.<nonce>.<cluster id>.<node name>.<mac>`; nonce, id, name and mac are
 * base64url. The mac is HMAC-SHA256 under the cluster key over `lf1`, the purpose and the fields before it, so a token
 * for one purpose is worthless for another. The key itself never travels, and nothing here encrypts: the network
 * between nodes must be private.
 *
 * Promises: a token is accepted within ±60 s of its issue and at most once per verifier. The first of two keys signs,
 * either is accepted, so a key can be changed node by node. Comparisons take constant time. Who holds no key learns
 * nothing from the refusal: a clock that is off is named only after the mac was right.
 * Bound: a verifier remembers `rememberedMax` tokens. Beyond that it forgets the oldest second and from then on refuses
 * everything issued up to it, so that forgetting never lets a token in twice.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { ClusterError } from '../errors/cluster-error.ts'

/**
 * `channel`: open a gRPC channel. `call`: one unary gRPC call. `stream`: one HTTP request of the replication listener.
 */
export type TokenPurpose = 'channel' | 'call' | 'stream'

/** As the options resolved them. Empty: no key, nothing is checked. The first one signs. */
export type ClusterKeys = readonly string[]

export interface TokenClaims {
  /** Empty when the node has not joined a cluster yet. */
  readonly clusterId: string
  readonly nodeName: string
}

export const TOKEN_WINDOW_MS = 60_000
const REMEMBERED_MAX = 100_000

/** A fresh token, or `undefined` without a key. */
export function signToken(
  keys: ClusterKeys,
  purpose: TokenPurpose,
  claims: TokenClaims,
  nowMs: number,
): string | undefined {
  const [key] = keys
  if (key === undefined) return undefined
  const fields = [
    'lf1',
    Math.floor(nowMs).toString(36),
    randomBytes(12).toString('base64url'),
    Buffer.from(claims.clusterId).toString('base64url'),
    Buffer.from(claims.nodeName).toString('base64url'),
  ].join('.')
  return `${fields}.${mac(key, purpose, fields).toString('base64url')}`
}

/**
 * The answer of the node that accepted `token`: proof that it knows the same key, bound to this one token.
 * Without it anybody who listens at the right address could pose as the primary.
 */
export function answerToken(key: string, token: string): string {
  return mac(key, 'answer', token).toString('base64url')
}

/** Whether `answer` was made for `token` under one of the keys. */
export function isTokenAnswer(keys: ClusterKeys, token: string, answer: string): boolean {
  return keys.some((key) => sameBytes(mac(key, 'answer', token), Buffer.from(answer, 'base64url')))
}

export interface VerifiedToken extends TokenClaims {
  /** The key it was signed with. */
  readonly key: string
}

export class TokenVerifier {
  readonly #keys: ClusterKeys
  readonly #nowMs: () => number
  readonly #rememberedMax: number
  /** Second of issue → nonces seen. */
  readonly #seen = new Map<number, Set<string>>()
  #seenCount = 0
  /** Tokens issued in this second or before are refused. */
  #floorSecond = Number.NEGATIVE_INFINITY

  constructor(keys: ClusterKeys, nowMs: () => number, rememberedMax = REMEMBERED_MAX) {
    this.#keys = keys
    this.#nowMs = nowMs
    this.#rememberedMax = rememberedMax
  }

  /** False without a key: then callers need no token. */
  get isRequired(): boolean {
    return this.#keys.length > 0
  }

  /**
   * Accepts a token once.
   * @throws UNAUTHENTICATED
   */
  verify(token: string | undefined, purpose: TokenPurpose): VerifiedToken {
    if (token === undefined) refuse('the caller sent no token', 'Give every node of the cluster the same clusterKey.')
    const end = token.lastIndexOf('.')
    const fields = token.slice(0, Math.max(end, 0))
    const [version, issued = '', nonce = '', clusterId = '', nodeName = '', ...rest] = fields.split('.')
    if (version !== 'lf1' || rest.length > 0 || token.length > 2048) refuse('the token is malformed')
    const given = Buffer.from(token.slice(end + 1), 'base64url')
    const key = this.#keys.find((candidate) => sameBytes(mac(candidate, purpose, fields), given))
    if (key === undefined)
      refuse('the token was made with another key', 'Give every node of the cluster the same clusterKey.')
    this.#remember(Number.parseInt(issued, 36), nonce)
    return { clusterId: text(clusterId), nodeName: text(nodeName), key }
  }

  #remember(issuedMs: number, nonce: string): void {
    const nowMs = this.#nowMs()
    const skewMs = issuedMs - nowMs
    if (!(Math.abs(skewMs) <= TOKEN_WINDOW_MS)) {
      refuse(
        `the token was issued ${Math.round(skewMs / 1000)} s from now by this clock`,
        'Synchronize the clocks of the nodes.',
      )
    }
    this.#forget(Math.floor((nowMs - TOKEN_WINDOW_MS) / 1000) - 1)
    const second = Math.floor(issuedMs / 1000)
    if (second <= this.#floorSecond) refuse('the token is older than the tokens still remembered')
    const nonces = this.#seen.get(second) ?? new Set()
    if (nonces.has(nonce)) refuse('the token was used before')
    nonces.add(nonce)
    this.#seen.set(second, nonces)
    this.#seenCount++
    while (this.#seenCount > this.#rememberedMax) {
      this.#floorSecond = Math.min(...this.#seen.keys())
      this.#drop(this.#floorSecond)
    }
  }

  #forget(upToSecond: number): void {
    for (const second of this.#seen.keys()) if (second <= upToSecond) this.#drop(second)
  }

  #drop(second: number): void {
    this.#seenCount -= this.#seen.get(second)?.size ?? 0
    this.#seen.delete(second)
  }
}

function mac(key: string, purpose: TokenPurpose | 'answer', content: string): Buffer {
  return createHmac('sha256', key).update(`lf1\n${purpose}\n${content}`).digest()
}

function sameBytes(a: Buffer, b: Buffer): boolean {
  return a.length === b.length && timingSafeEqual(a, b)
}

function text(base64url: string): string {
  return Buffer.from(base64url, 'base64url').toString()
}

function refuse(reason: string, hint?: string): never {
  throw new ClusterError('UNAUTHENTICATED', reason, { hint })
}
