/**
 * Validation of what procedures and remote functions take: any validator with a `parse` method (Zod and its likes) or the
 * Standard Schema interface (`~standard`). Runs on the calling node, so that bad input never travels, and again where the
 * function runs, because callers may be of another version.
 */
import { ClusterError } from '../errors/cluster-error.ts'

export interface ParsingSchema<T> {
  parse(value: unknown): T
}

export interface StandardSchema<T> {
  readonly '~standard': {
    validate(value: unknown): StandardResult<T> | Promise<StandardResult<T>>
  }
}

type StandardResult<T> =
  | { readonly value: T; readonly issues?: undefined }
  | { readonly issues: readonly { readonly message: string }[] }

export type InputSchema<T> = ParsingSchema<T> | StandardSchema<T>

/** Answers the validated value. Throws `INVALID_REQUEST` with the validator's messages, and for asynchronous validators. */
export function validateInput<T>(schema: InputSchema<T> | undefined, value: unknown, what: string): T {
  if (schema === undefined) return value as T
  if ('parse' in schema) {
    try {
      return schema.parse(value)
    } catch (error) {
      throw new ClusterError('INVALID_REQUEST', `${what}: the input is not valid`, {
        cause: error,
        details: { reason: error instanceof Error ? error.message : String(error) },
      })
    }
  }
  const result = schema['~standard'].validate(value)
  if (result instanceof Promise) {
    throw new ClusterError('INVALID_REQUEST', `${what}: the schema validates asynchronously`, {
      hint: 'Procedures run inside one transaction; use a synchronous schema.',
    })
  }
  if (result.issues === undefined) return result.value
  throw new ClusterError('INVALID_REQUEST', `${what}: ${result.issues.map((issue) => issue.message).join('; ')}`)
}
