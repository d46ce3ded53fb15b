import { describe, expect, it } from 'vitest'
import { answerToken, isTokenAnswer, signToken, TokenVerifier } from './cluster-token.ts'

const KEY = 'a key of sufficient length'
const OTHER = 'another key of good length'
const CLAIMS = { clusterId: 'LFSC0123456789ABCDEF', nodeName: 'gru-1.é' }
const NOW = 1_700_000_000_000

const sign = (atMs = NOW, key = KEY): string => signToken([key], 'channel', CLAIMS, atMs) as string
const verifier = (keys: readonly string[] = [KEY], max?: number): TokenVerifier =>
  new TokenVerifier(keys, () => NOW, max)
const refused = (run: () => unknown): void => expect(run).toThrow(expect.objectContaining({ code: 'UNAUTHENTICATED' }))

describe('cluster tokens', () => {
  it('bring the cluster id and node name they were signed for', () => {
    expect(verifier().verify(sign(), 'channel')).toEqual({ ...CLAIMS, key: KEY })
  })

  it('do not exist without a key, and none is required then', () => {
    expect(signToken([], 'channel', CLAIMS, NOW)).toBeUndefined()
    expect(verifier([]).isRequired).toBe(false)
    expect(verifier().isRequired).toBe(true)
  })

  it('are accepted under either of two keys, and signed with the first', () => {
    const both = verifier([OTHER, KEY])
    expect(both.verify(sign(NOW, KEY), 'channel').key).toBe(KEY)
    expect(both.verify(signToken([OTHER, KEY], 'channel', CLAIMS, NOW), 'channel').key).toBe(OTHER)
  })

  it('are refused when missing, malformed, of another key or for another purpose', () => {
    const token = sign()
    refused(() => verifier().verify(undefined, 'channel'))
    for (const text of ['', '.', 'lf1', 'lf2.x.y.z.w.v', `x${token}`, 'lf1.....', `${token}x`, 'a'.repeat(100_000)]) {
      refused(() => verifier().verify(text, 'channel'))
    }
    refused(() => verifier([OTHER]).verify(token, 'channel'))
    refused(() => verifier().verify(token, 'call'))
  })

  it('are refused when any single character was changed', () => {
    const token = sign()
    for (let i = 0; i < token.length - 1; i++) {
      const changed = token.slice(0, i) + (token[i] === 'A' ? 'B' : 'A') + token.slice(i + 1)
      refused(() => verifier().verify(changed, 'channel'))
    }
  })

  it('are accepted up to 60 s from their issue on either side, and no further', () => {
    for (const skew of [-60_000, 60_000]) expect(verifier().verify(sign(NOW + skew), 'channel').key).toBe(KEY)
    for (const skew of [-61_000, 61_000]) refused(() => verifier().verify(sign(NOW + skew), 'channel'))
  })

  it('are accepted once, also when their text is spelled differently', () => {
    const tokens = verifier()
    const token = sign()
    tokens.verify(token, 'channel')
    refused(() => tokens.verify(token, 'channel'))
    refused(() => tokens.verify(`${token}=`, 'channel'))
  })

  it('are never let in twice, however many were seen in between', () => {
    let nowMs = NOW
    const tokens = new TokenVerifier([KEY], () => nowMs, 10)
    const first = sign(nowMs)
    tokens.verify(first, 'channel')
    for (let i = 0; i < 40; i++) {
      nowMs += 1_000
      tokens.verify(sign(nowMs), 'channel')
      refused(() => tokens.verify(first, 'channel'))
    }
  })

  it('are refused when issued in a second that had to be forgotten', () => {
    const tokens = verifier([KEY], 2)
    for (let i = 0; i < 3; i++) tokens.verify(sign(NOW - 30_000), 'channel')
    refused(() => tokens.verify(sign(NOW - 30_000), 'channel'))
    expect(tokens.verify(sign(NOW - 10_000), 'channel').key).toBe(KEY)
  })

  it('can be answered only by who knows the key, each by its own answer', () => {
    const token = sign()
    const answer = answerToken(KEY, token)
    expect(isTokenAnswer([OTHER, KEY], token, answer)).toBe(true)
    expect(isTokenAnswer([KEY], sign(), answer)).toBe(false)
    expect(isTokenAnswer([KEY], token, answerToken(OTHER, token))).toBe(false)
    expect(isTokenAnswer([KEY], token, '')).toBe(false)
  })
})
