/**
 * A function of the application that runs inside one transaction where the data is: wrap it once, call it on any node.
 *
 * It travels by name, never as a closure, so every node that may become primary registers the same procedures before it
 * takes traffic. It is synchronous, because the transaction is; what it returns crosses the network unchanged.
 */
import type { WriteOptions } from '../database/write-options.ts'
import { resolveWriteOptions } from '../database/write-options.ts'
import type { WriteAnswer, WriteCall } from '../forward/write-call.ts'
import type { Position } from '../position/position.ts'
import type { AwaitLevel } from '../request/await-level.ts'
import type { DatabaseName } from '../request/database-name.ts'
import type { PlainValue } from '../request/plain-value.ts'
import type { RequestId } from '../request/request-id.ts'
import type { ProcedureTable } from '../write/procedure-table.ts'
import type { Transaction } from '../write/transaction.ts'
import { type InputSchema, validateInput } from './input-schema.ts'

export interface ProcedureBody<Input, Output> {
  readonly input?: InputSchema<Input> | undefined
  /** Runs inside the transaction. Throwing rolls back this call alone. */
  run(tx: Transaction, input: Input): Output
}

export interface ProcedureAnswer<Output> {
  readonly value: Output
  readonly position: Position
  readonly level: AwaitLevel
  readonly requestId: RequestId | undefined
  /** This call repeated one that had been applied; the value is the first answer. */
  readonly replayed: boolean
}

export interface Procedure<Input, Output> {
  (input: Input, options?: WriteOptions): Promise<Output>
  readonly procedureName: string
  /** As calling it, with the position and the level reached. */
  detailed(input: Input, options?: WriteOptions): Promise<ProcedureAnswer<Output>>
}

export interface ProcedureParts {
  readonly name: string
  readonly database: DatabaseName
  readonly table: ProcedureTable
  write(call: WriteCall): Promise<WriteAnswer>
}

export function defineProcedure<Input extends PlainValue, Output extends PlainValue>(
  parts: ProcedureParts,
  body: ProcedureBody<Input, Output>,
): Procedure<Input, Output> {
  const what = `procedure "${parts.name}"`
  parts.table.register(parts.name, (tx, input) => body.run(tx, validateInput(body.input, input, what)))

  const detailed = async (input: Input, options?: WriteOptions): Promise<ProcedureAnswer<Output>> => {
    const answer = await parts.write({
      database: parts.database,
      operation: { kind: 'procedure', name: parts.name, input: validateInput(body.input, input, what) },
      ...resolveWriteOptions(options, what),
    })
    // The operation decides the shape of the result; a peer that answers otherwise was refused by the codec.
    const value = answer.result.kind === 'procedure' ? (answer.result.value as Output) : (undefined as Output)
    const { position, level, requestId, replayed } = answer
    return { value, position, level, requestId, replayed }
  }
  const call = async (input: Input, options?: WriteOptions): Promise<Output> => (await detailed(input, options)).value
  return Object.assign(call, { procedureName: parts.name, detailed })
}
