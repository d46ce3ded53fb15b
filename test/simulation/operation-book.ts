/**
 * What the clients asked for and what they were told: the truth that the oracles hold the fleet to.
 */
import type { AwaitLevel } from '../../packages/core/src/request/await-level.ts'

export type Told =
  | 'waiting'
  /** It is applied, at the level that was asked for or less. */
  | 'applied'
  /** It did not take effect, and no attempt of it can have. */
  | 'refused'
  | 'unknown'

export interface Operation {
  readonly id: string
  readonly level: AwaitLevel
  /** The same client was told that this one is applied before it asked for the operation. */
  readonly after: string | undefined
  told: Told
  /** Name of the machine that answered, or that committed it. */
  appliedAt: string | undefined
  /** Durable copies on other nodes that the answer stands for. */
  copies: number
  /** Acknowledged at `majority`: nobody takes office without it. */
  isSafe: boolean
  /** A primary took office without it, or had done so before the answer. */
  isLost: boolean
  /** At the end only a divergence report has it. */
  isReported: boolean
}

export class OperationBook {
  readonly #operations = new Map<string, Operation>()
  readonly #sealed = new Map<string, Operation>()

  add(id: string, level: AwaitLevel, after: string | undefined): Operation {
    const operation: Operation = {
      id,
      level,
      after,
      told: 'waiting',
      appliedAt: undefined,
      copies: 0,
      isSafe: false,
      isLost: false,
      isReported: false,
    }
    this.#operations.set(id, operation)
    return operation
  }

  get(id: string): Operation | undefined {
    return this.#operations.get(id)
  }

  /** A client asked what became of it, under this request id. */
  asked(requestId: string, operation: Operation): void {
    this.#sealed.set(requestId, operation)
  }

  sealedUnder(requestId: string): Operation | undefined {
    return this.#sealed.get(requestId)
  }

  all(): readonly Operation[] {
    return [...this.#operations.values()]
  }

  count(told: Told): number {
    return this.all().filter((operation) => operation.told === told).length
  }
}
