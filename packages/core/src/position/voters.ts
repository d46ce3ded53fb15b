/**
 * The nodes whose majority makes a write safe (design D9): named by the configuration, the same on every node, so that any two majorities
 * have a node in common.
 */
import type { ReplicaCount } from './replica-positions.ts'

export class Voters {
  readonly names: readonly string[]
  readonly #others: ReplicaCount

  /** @param self name of this node, a voter or not */
  constructor(names: readonly string[], self: string) {
    this.names = names
    const needed = Math.floor(names.length / 2) + 1
    const others = names.filter((name) => name !== self)
    this.#others = { replicas: needed - (names.length - others.length), among: others }
  }

  /** What the other voters must have durably, so that with this node a majority has it; `undefined` without voters. */
  get majority(): ReplicaCount | undefined {
    return this.names.length === 0 ? undefined : this.#others
  }
}
