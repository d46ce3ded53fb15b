/**
 * Where every decision of a run comes from: one seed, and a generator of its own for each purpose.
 *
 * Promises: a purpose draws the same numbers whatever the others draw, so that a change of one workload does not turn
 * the whole run into another one.
 */
import { Random } from '../support/random.ts'

export class Chance {
  readonly #random: Random
  readonly #seed: number

  constructor(seed: number) {
    this.#seed = seed >>> 0
    this.#random = new Random(this.#seed)
  }

  /** A generator for one purpose. */
  for(purpose: string): Chance {
    let hash = this.#seed ^ 0x9e3779b9
    for (let i = 0; i < purpose.length; i++) hash = Math.imul(hash ^ purpose.charCodeAt(i), 0x01000193) >>> 0
    return new Chance((hash ^ (hash >>> 15)) >>> 0)
  }

  /** In [0, 1). */
  readonly next = (): number => this.#random.next()

  happens(probability: number): boolean {
    return this.#random.next() < probability
  }

  /** An integer from `min` to `max`, both included. */
  between(min: number, max: number): number {
    return min + this.#random.below(max - min + 1)
  }

  pick<T>(values: readonly T[]): T {
    return this.#random.pick(values)
  }

  /** Each value with its weight. */
  weighted<T>(choices: readonly (readonly [weight: number, value: T])[]): T {
    let at = this.#random.next() * choices.reduce((sum, [weight]) => sum + weight, 0)
    for (const [weight, value] of choices) {
      at -= weight
      if (at < 0) return value
    }
    return (choices.at(-1) as readonly [number, T])[1]
  }

  bytes(length: number): Buffer {
    return this.#random.bytes(length)
  }
}
