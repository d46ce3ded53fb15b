/**
 * The unary methods for programs that are no nodes: their messages in, the forwarder's answers out.
 *
 * Such a program is a caller like one in this process: a replica forwards its write to the primary, and "visible
 * locally" means visible on the node that was asked. What the write met is in the reply; only a request that cannot be
 * read becomes a status.
 */
import type { Clock } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type {
  WireCallReply,
  WireCallRequest,
  WireResolveReply,
  WireResolveRequest,
  WireWriteReply,
  WireWriteRequest,
} from '../peer/unary-messages.ts'
import type { CallTarget } from './call-router.ts'
import type { Forwarder } from './forwarder.ts'
import { encodeWireFailure } from './unary-failure.ts'
import { decodeResolve, encodeResolution } from './unary-resolve.ts'
import { decodePlainValue, encodePlainValue } from './unary-values.ts'
import { decodeWrite, encodeWriteAnswer } from './unary-write.ts'

export interface UnaryDoorParts {
  readonly clock: Clock
  readonly forwarder: Pick<Forwarder, 'write' | 'call' | 'resolve'>
  /** Name of this node, for calls that are to run here. */
  readonly nodeName: string
}

export class UnaryDoor {
  readonly #parts: UnaryDoorParts

  constructor(parts: UnaryDoorParts) {
    this.#parts = parts
  }

  /** @throws INVALID_REQUEST, INVALID_DATABASE_NAME; everything else is in the reply */
  async write(request: WireWriteRequest, deadlineMs: number): Promise<WireWriteReply> {
    const call = decodeWrite(request, deadlineMs - this.#parts.clock.monotonicMs())
    try {
      return { answer: encodeWriteAnswer(await this.#parts.forwarder.write(call)) }
    } catch (error) {
      return { failure: encodeWireFailure(error) }
    }
  }

  /** @throws INVALID_REQUEST, INVALID_DATABASE_NAME; everything else is in the reply */
  async resolve(request: WireResolveRequest, deadlineMs: number): Promise<WireResolveReply> {
    const question = decodeResolve(request, deadlineMs - this.#parts.clock.monotonicMs())
    try {
      return { resolution: encodeResolution(await this.#parts.forwarder.resolve(question)) }
    } catch (error) {
      return { failure: encodeWireFailure(error) }
    }
  }

  /** @throws INVALID_REQUEST; everything else is in the reply */
  async call(request: WireCallRequest, deadlineMs: number): Promise<WireCallReply> {
    const target = this.#target(request)
    const input = decodePlainValue(request.input)
    const timeoutMs = deadlineMs - this.#parts.clock.monotonicMs()
    try {
      return {
        value: encodePlainValue(await this.#parts.forwarder.call(target, request.functionName, input, timeoutMs)),
      }
    } catch (error) {
      return { failure: encodeWireFailure(error) }
    }
  }

  #target(request: WireCallRequest): CallTarget {
    switch (request.target) {
      case 'primary':
        return { kind: 'primary' }
      case 'region':
        return { kind: 'region', region: request.region ?? '' }
      case 'node':
        return { kind: 'node', name: request.node ?? '' }
      case 'here':
        return { kind: 'node', name: this.#parts.nodeName }
      default:
        throw new ClusterError('INVALID_REQUEST', 'a call names no target')
    }
  }
}
