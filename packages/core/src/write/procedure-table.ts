/** The application's functions that run inside a write on this node, by name. One table per database. */
import { ClusterError } from '../errors/cluster-error.ts'
import type { PlainValue } from '../request/plain-value.ts'
import type { Transaction } from './transaction.ts'

/** Synchronous: it runs inside one transaction. What it throws rolls back this request alone. */
export type ProcedureFunction = (tx: Transaction, input: PlainValue) => PlainValue

export class ProcedureTable {
  readonly #functions = new Map<string, ProcedureFunction>()

  /** Throws `INVALID_OPTION` when the name is taken or empty. */
  register(name: string, run: ProcedureFunction): void {
    if (name === '' || this.#functions.has(name)) {
      throw new ClusterError(
        'INVALID_OPTION',
        `procedure "${name}": the name is ${name === '' ? 'empty' : 'registered already'}`,
      )
    }
    this.#functions.set(name, run)
  }

  /** Throws `UNKNOWN_PROCEDURE`. */
  get(name: string): ProcedureFunction {
    const run = this.#functions.get(name)
    if (run !== undefined) return run
    throw new ClusterError('UNKNOWN_PROCEDURE', `procedure "${name}" is not registered on this node`, {
      hint: 'Every node that may become primary registers the same procedures before it takes traffic.',
      details: { known: [...this.#functions.keys()].slice(0, 100) },
    })
  }
}
