/**
 * The simulation can fail: each guard that is left out is noticed, by the oracle of the invariant that it keeps.
 */
import { beforeAll, expect, it } from 'vitest'
import { loadPeerProtocol, type PeerProtocol } from '../../packages/core/src/peer/protocol.ts'
import type { Sabotage } from './sabotage.ts'
import { simulate } from './simulate-run.ts'

/** From the seed on that noticed it first. */
const SEEDS_MAX = 60
const TIMEOUT_MS = 180_000

let protocol: PeerProtocol

beforeAll(() => {
  protocol = loadPeerProtocol()
})

const noticed: readonly (readonly [Sabotage, oracle: string, firstSeed: number])[] = [
  ['announces-without-lease', 'I4', 3],
  ['forgets-request-ids', 'I7', 1],
  ['reports-before-sync', 'I1', 184],
  ['commits-without-sync', 'I1', 1],
  ['announces-before-apply', 'I3', 1],
  ['gives-up-without-report', 'I10', 2],
  ['takes-office-unasked', 'I1', 15],
]

it.each(noticed)(
  'a node that %s is noticed by the oracle of %s',
  async (sabotage, oracle, firstSeed) => {
    for (let seed = firstSeed; seed < firstSeed + SEEDS_MAX; seed++) {
      const { violations } = await simulate({ seed, protocol, sabotage })
      if (violations.length === 0) continue
      expect(violations[0]?.oracle).toBe(oracle)
      return
    }
    expect.unreachable(`no oracle noticed in ${SEEDS_MAX} runs`)
  },
  TIMEOUT_MS,
)
