/** How many faults of which kind were brought upon a fleet. */
export class FaultCounts {
  readonly #counts = new Map<string, number>()

  add(kind: string, count = 1): void {
    this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + count)
  }

  merge(other: FaultCounts): void {
    for (const [kind, count] of other.#counts) this.add(kind, count)
  }

  get total(): number {
    return [...this.#counts.values()].reduce((sum, count) => sum + count, 0)
  }

  /** The most frequent first. */
  rows(): readonly (readonly [kind: string, count: number])[] {
    return [...this.#counts].toSorted(([a, m], [b, n]) => n - m || a.localeCompare(b))
  }
}
