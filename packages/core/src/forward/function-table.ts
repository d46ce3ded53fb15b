/** Functions of the application that other nodes may run here, by name (`cluster.rpc`). */
import { ClusterError } from '../errors/cluster-error.ts'
import type { PlainValue } from '../request/plain-value.ts'

export interface FunctionContext {
  /** Name of the node that asked; this node's own for a call from here. */
  readonly caller: string
  /** Aborted when nobody waits for the answer any more. */
  readonly signal: AbortSignal
}

export type RemoteBody = (input: PlainValue, context: FunctionContext) => PlainValue | Promise<PlainValue>

export class FunctionTable {
  readonly #functions = new Map<string, RemoteBody>()

  /** @throws INVALID_OPTION when the name is taken */
  register(name: string, body: RemoteBody): void {
    if (this.#functions.has(name))
      throw new ClusterError('INVALID_OPTION', `a function "${name}" is registered already`)
    this.#functions.set(name, body)
  }

  /** @throws UNKNOWN_PROCEDURE */
  get(name: string): RemoteBody {
    const body = this.#functions.get(name)
    if (body !== undefined) return body
    const known = [...this.#functions.keys()]
    throw new ClusterError('UNKNOWN_PROCEDURE', `no function "${name}" is registered on this node`, {
      details: { name, known },
      hint: 'Register it on every node before it takes traffic; deploy nodes that provide it before nodes that call it.',
    })
  }
}
