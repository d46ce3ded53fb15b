/**
 * Admits what other nodes ask of this one and answers them.
 *
 * Relies on: `executeHere`, `resolveHere` and the function runner settle by the deadline they are given, which the session has already
 * shortened by the margin of this hop.
 * Promises: a write runs here or is refused with `NOT_PRIMARY`, where the primary is and why this node is not it; it is
 * never passed on, so two nodes with different opinions cannot bounce it. Every request is answered once.
 */
import { ClusterError, isClusterError } from '../errors/cluster-error.ts'
import type { Leadership } from '../leadership/leadership.ts'
import type { IncomingRequest } from '../peer/peer-session.ts'
import type { Clock } from '../base/clock.ts'
import { decodeFunctionCall, encodeFunctionAnswer } from './call-codec.ts'
import { encodeFailure } from './error-reply.ts'
import type { FunctionRunner } from './function-runner.ts'
import { decodeResolve, encodeResolveAnswer } from './resolve-codec.ts'
import type { ExecuteHere, ResolveHere, WriteAnswer, WriteOrigin } from './write-call.ts'
import { decodeCall, WriteCodec } from './write-codec.ts'

export interface ForwardHandlerParts {
  readonly clock: Clock
  readonly leadership: Pick<Leadership, 'isPrimary' | 'notPrimary'>
  readonly functions: FunctionRunner
  /** The largest answer a channel carries. */
  readonly messageBytesMax: number
  executeHere: ExecuteHere
  resolveHere: ResolveHere
}

export class ForwardHandler {
  readonly #parts: ForwardHandlerParts
  readonly #codec = new WriteCodec()

  constructor(parts: ForwardHandlerParts) {
    this.#parts = parts
  }

  handle(request: IncomingRequest): void {
    this.#answer(request).then(
      (body) => request.answer(body),
      (error: unknown) => this.#fail(request, error),
    )
  }

  #answer(request: IncomingRequest): Promise<Buffer> {
    switch (request.kind) {
      case 'write':
        return this.#write(request)
      case 'resolve':
        return this.#resolve(request)
      default:
        return this.#call(request)
    }
  }

  async #resolve(request: IncomingRequest): Promise<Buffer> {
    const { clock, leadership, messageBytesMax, resolveHere } = this.#parts
    if (!leadership.isPrimary) throw leadership.notPrimary()
    const question = readable(() => decodeResolve(request.body, request.deadlineMs - clock.monotonicMs()))
    const answer = await resolveHere(question, { origin: originOf(request), deadlineMs: request.deadlineMs })
    const body = encodeResolveAnswer(answer)
    if (body.length <= messageBytesMax || answer.outcome === 'not-applied') return body
    return encodeResolveAnswer({ ...answer, result: undefined }) // that it was applied is what was asked
  }

  async #write(request: IncomingRequest): Promise<Buffer> {
    const { clock, leadership, executeHere } = this.#parts
    if (!leadership.isPrimary) throw leadership.notPrimary()
    const call = readable(() => decodeCall(request.body, request.deadlineMs - clock.monotonicMs()))
    return this.#encode(await executeHere(call, { origin: originOf(request), deadlineMs: request.deadlineMs }))
  }

  /** From here on the write is applied, whatever happens to its answer. */
  #encode(answer: WriteAnswer): Buffer {
    try {
      return this.#bounded(this.#codec.encodeAnswer(answer))
    } catch (error) {
      throw new ClusterError(
        'ANSWER_DROPPED',
        `database "${answer.database}": the write is applied; its answer cannot be sent`,
        {
          cause: error,
          details: { position: answer.position, epoch: answer.epoch, requestId: answer.requestId },
          hint: isClusterError(error) ? error.summary : undefined,
        },
      )
    }
  }

  async #call(request: IncomingRequest): Promise<Buffer> {
    const { leadership, functions } = this.#parts
    const call = readable(() => decodeFunctionCall(request.body))
    if (call.onPrimaryOnly && !leadership.isPrimary) throw leadership.notPrimary()
    const value = await functions.run(call.name, call.input, request.peer.nodeName, request.deadlineMs)
    return this.#bounded(encodeFunctionAnswer(value))
  }

  #bounded(body: Buffer): Buffer {
    const { messageBytesMax } = this.#parts
    if (body.length <= messageBytesMax) return body
    throw new ClusterError(
      'ANSWER_DROPPED',
      `the answer has ${body.length} bytes, a channel carries ${messageBytesMax}`,
    )
  }

  #fail(request: IncomingRequest, error: unknown): void {
    const body = encodeFailure(error)
    const { messageBytesMax } = this.#parts
    if (body.length <= messageBytesMax) return request.fail(body)
    // Only details can be so large: those of a committed write hold its result.
    if (!isClusterError(error)) return request.fail(encodeFailure(new Error('the error is too large to be sent')))
    request.fail(encodeFailure(new ClusterError(error.code, error.summary, { hint: error.hint })))
  }
}

function originOf({ peer: { nodeId, nodeName, region } }: IncomingRequest): WriteOrigin {
  return { kind: 'peer', nodeId, nodeName, region }
}

function readable<T>(decode: () => T): T {
  try {
    return decode()
  } catch (error) {
    if (!isClusterError(error, 'CORRUPT_DATA')) throw error
    throw new ClusterError('INVALID_REQUEST', 'the request cannot be read', { cause: error })
  }
}
