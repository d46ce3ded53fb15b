/**
 * The load generator's own books: what the bank has to show in the end, kept from nothing but its answers.
 *
 * An accepted transfer moves the balance; a refused one does not; anything else leaves the books open, and is reported as such.
 */
import type { Transfer } from '../src/transfer.ts'

export class Ledger {
  readonly #balances = new Map<number, number>()
  #accepted = 0
  #refused = 0
  readonly #problems: string[] = []
  #problemCount = 0

  constructor(customers: readonly number[]) {
    for (const customer of customers) this.#balances.set(customer, 0)
  }

  get accepted(): number {
    return this.#accepted
  }

  get refused(): number {
    return this.#refused
  }

  /** The first few things that went wrong, and how many there were. */
  get problems(): { readonly count: number; readonly first: readonly string[] } {
    return { count: this.#problemCount, first: this.#problems }
  }

  accept({ customer, amount, kind }: Transfer): void {
    this.#accepted++
    this.#balances.set(customer, (this.#balances.get(customer) ?? 0) + (kind === 'c' ? amount : -amount))
  }

  refuse(): void {
    this.#refused++
  }

  problem(what: string): void {
    this.#problemCount++
    if (this.#problems.length < 5) this.#problems.push(what)
  }

  balanceOf(customer: number): number {
    return this.#balances.get(customer) ?? 0
  }
}
