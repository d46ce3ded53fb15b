/**
 * Finds the node for a function call and calls it once.
 *
 * Promises: a call is sent at most once. While it cannot be sent it looks for a way until the deadline; in a region it
 * takes this node if it is there, then the node with the shortest measured round trip, then the others. A node is
 * called by name only if its own hello says that name.
 */
import type { Clock } from '../base/clock.ts'
import { ClusterError, isClusterError } from '../errors/cluster-error.ts'
import type { Leadership } from '../leadership/leadership.ts'
import type { Members } from '../peer/members.ts'
import type { PeerClient } from '../peer/peer-client.ts'
import type { PeerPool } from '../peer/peer-pool.ts'
import type { PlainValue } from '../request/plain-value.ts'
import { decodeFunctionAnswer, encodeFunctionCall } from './call-codec.ts'
import { decodeFailure } from './error-reply.ts'
import type { FunctionRunner } from './function-runner.ts'
import type { RetryGate } from './retry-gate.ts'

export type CallTarget =
  | { readonly kind: 'primary' }
  /** The nearest node of the region. */
  | { readonly kind: 'region'; readonly region: string }
  | { readonly kind: 'node'; readonly name: string }

export interface CallRouterParts {
  readonly clock: Clock
  readonly leadership: Pick<Leadership, 'isPrimary' | 'primary' | 'waitForPrimary' | 'refresh'>
  readonly peers: Pick<PeerPool, 'client' | 'peek'>
  readonly members: Members
  readonly functions: FunctionRunner
  readonly gate: RetryGate
}

/** A node to be called; `here` without an address. */
interface Candidate {
  readonly address: string | undefined
  /** What its hello must say; `undefined` when any node at the address will do. */
  readonly name: string | undefined
}

const HERE: Candidate = { address: undefined, name: undefined }
const RETRY_MS = 50
/**
 * With less time left nothing is tried again: an answer that cannot come in time turns "not applied" into "unknown".
 */
const ATTEMPT_MS_MIN = 20

export class CallRouter {
  readonly #parts: CallRouterParts

  constructor(parts: CallRouterParts) {
    this.#parts = parts
  }

  async call(target: CallTarget, name: string, input: PlainValue, deadlineMs: number): Promise<PlainValue> {
    const { clock, functions, gate, leadership, members } = this.#parts
    const body = encodeFunctionCall({ name, input, onPrimaryOnly: target.kind === 'primary' })
    for (;;) {
      let failure: ClusterError | undefined
      for (const candidate of await this.#candidates(target, deadlineMs)) {
        try {
          if (candidate.address === undefined)
            return await functions.run(name, input, members.self.nodeName, deadlineMs)
          return await this.#send(candidate, body, deadlineMs)
        } catch (error) {
          if (!isClusterError(error, 'PEER_UNREACHABLE') && !isClusterError(error, 'NOT_PRIMARY')) throw error
          failure = error
        }
      }
      if (target.kind === 'primary') leadership.refresh()
      await gate.wait(Math.min(deadlineMs - ATTEMPT_MS_MIN, clock.monotonicMs() + RETRY_MS))
      if (clock.monotonicMs() >= deadlineMs - ATTEMPT_MS_MIN && failure !== undefined) throw failure
    }
  }

  async #send(candidate: Candidate, body: Buffer, deadlineMs: number): Promise<PlainValue> {
    const client = this.#parts.peers.client(candidate.address as string)
    const { state } = client
    if (candidate.name !== undefined && state.kind === 'connected' && state.hello.nodeName !== candidate.name) {
      throw new ClusterError(
        'NO_SUCH_NODE',
        `${client.address} answers as node "${state.hello.nodeName}", not "${candidate.name}"`,
      )
    }
    const reply = await this.#request(client, body, deadlineMs)
    if (reply.kind === 'failure') throw decodeFailure(reply.body)
    return decodeFunctionAnswer(reply.body)
  }

  async #request(client: PeerClient, body: Buffer, deadlineMs: number): ReturnType<PeerClient['request']> {
    try {
      return await client.request('call', body, deadlineMs)
    } catch (error) {
      if (!isClusterError(error, 'WRITE_OUTCOME_UNKNOWN')) throw error
      throw new ClusterError('CALL_OUTCOME_UNKNOWN', error.summary, { cause: error, details: error.details })
    }
  }

  /** In the order in which they are to be tried, never empty. */
  async #candidates(target: CallTarget, deadlineMs: number): Promise<readonly Candidate[]> {
    switch (target.kind) {
      case 'primary':
        return [await this.#primary(deadlineMs)]
      case 'node':
        return [this.#node(target.name)]
      default:
        return this.#region(target.region)
    }
  }

  async #primary(deadlineMs: number): Promise<Candidate> {
    const { leadership } = this.#parts
    const primary = leadership.primary() ?? (await leadership.waitForPrimary(deadlineMs))
    if (primary.isSelf) return HERE
    if (primary.grpcAddress !== undefined) return { address: primary.grpcAddress, name: undefined }
    throw new ClusterError('PRIMARY_IS_LITEFS', `the primary "${primary.name}" is a LiteFS node and runs no functions`)
  }

  #node(name: string): Candidate {
    const { leadership, members } = this.#parts
    if (members.self.nodeName === name) return HERE
    const primary = leadership.primary()
    const known = members.byName(name)?.grpcAddress ?? (primary?.name === name ? primary.grpcAddress : undefined)
    if (known !== undefined && known !== '') return { address: known, name }
    const names = members.all().map((member) => member.nodeName)
    throw new ClusterError('NO_SUCH_NODE', `no connected node is called "${name}"`, { details: { name, known: names } })
  }

  #region(region: string): readonly Candidate[] {
    const { members, peers } = this.#parts
    if (members.self.region === region) return [HERE]
    const near = members
      .inRegion(region)
      .filter((member) => member.grpcAddress !== '')
      .map(({ grpcAddress, nodeName }) => {
        const state = peers.peek(grpcAddress)?.state
        return {
          address: grpcAddress,
          name: nodeName,
          rttMs: (state?.kind === 'connected' ? state.rttMs : undefined) ?? Number.POSITIVE_INFINITY,
        }
      })
      .toSorted((a, b) => a.rttMs - b.rttMs || 0)
    if (near.length > 0) return near
    const known = [...new Set(members.all().map((member) => member.region))]
    throw new ClusterError('NO_SUCH_NODE', `no connected node is in region "${region}"`, { details: { region, known } })
  }
}
