/** Functions of the application that `cluster.rpc` runs on another node: by name, with plain values, asynchronous if they like. */
import { invalidOption, rejectUnknownOptions } from '../errors/unknown-option.ts'
import type { FunctionContext, FunctionTable } from '../forward/function-table.ts'
import type { PlainValue } from '../request/plain-value.ts'

export type RemoteFunctionBody<Input, Output> = (input: Input, context: FunctionContext) => Output | Promise<Output>

/** A name that every node knows. Calling it needs a target: `rpc.primary(fn, input)`, `rpc.region(…)`, `rpc.node(…)`. */
export interface RemoteFunction<Input, Output> {
  readonly functionName: string
  /** The function itself, to run it here. */
  readonly body: RemoteFunctionBody<Input, Output>
}

export function defineRemoteFunction<Input extends PlainValue, Output extends PlainValue>(
  name: string,
  table: FunctionTable,
  body: RemoteFunctionBody<Input, Output>,
): RemoteFunction<Input, Output> {
  // The name decides the types on both sides; what a caller of another version sends is the body's to check.
  table.register(name, (input, context) => body(input as Input, context))
  return { functionName: name, body }
}

export interface RpcOptions {
  /** Deadline of the call, in ms. 1 … 3,600,000. Default: 5,000. */
  readonly timeoutMs?: number | undefined
}

export function resolveRpcOptions(given: RpcOptions = {}): { readonly timeoutMs: number } {
  rejectUnknownOptions(given, ['timeoutMs'], 'rpc')
  const timeoutMs = given.timeoutMs ?? 5_000
  if (!(timeoutMs >= 1 && timeoutMs <= 3_600_000)) invalidOption('rpc', 'timeoutMs', timeoutMs, '1 … 3,600,000 ms')
  return { timeoutMs }
}
