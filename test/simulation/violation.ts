/** A promise that the fleet broke. */
export class Violation extends Error {
  override readonly name = 'Violation'
  /** Which oracle found it; `I7` and so on where an invariant has a number. */
  readonly oracle: string

  constructor(oracle: string, message: string) {
    super(`${oracle}: ${message}`)
    this.oracle = oracle
  }
}
