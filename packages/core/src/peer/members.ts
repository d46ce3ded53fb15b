/**
 * The nodes of the cluster as far as this one knows.
 *
 * On a replica it is what the primary told last; on the primary it is itself and the replicas on its channels. This
 * node is always among them, by its own words. A list, not a truth: nodes are checked by their hello when they are
 * dialled.
 */
import type { NodeCard } from './hello.ts'
import type { Member } from './wire-messages.ts'

export class Members {
  readonly #self: () => Member
  readonly #listeners = new Set<() => void>()
  #others: readonly Member[] = []

  /** @param self asked whenever the list is read */
  constructor(self: () => Member) {
    this.#self = self
  }

  /** This node. */
  get self(): Member {
    return this.#self()
  }

  /** All known nodes, this one first, the others by name. */
  all(): readonly Member[] {
    return [this.self, ...this.#others]
  }

  byName(name: string): Member | undefined {
    return this.all().find((member) => member.nodeName === name)
  }

  inRegion(region: string): readonly Member[] {
    return this.all().filter((member) => member.region === region)
  }

  /** Replaces the others. An entry for this node is dropped. */
  replace(members: readonly Member[]): void {
    const { nodeId } = this.self
    this.#others = members
      .filter((member) => member.nodeId !== nodeId)
      .toSorted((a, b) => a.nodeName.localeCompare(b.nodeName))
    for (const listener of this.#listeners) listener()
  }

  /** Calls `listener` after the list was replaced. Answers how to stop. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }
}

/** Two nodes that call themselves alike confuse `rpc.node()` and every operator. */
export function duplicateNames(members: readonly NodeCard[]): readonly string[] {
  const names = members.map((member) => member.nodeName)
  return [...new Set(names.filter((name, index) => names.indexOf(name) !== index))]
}
