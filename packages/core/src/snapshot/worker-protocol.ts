/**
 * What the main thread and a snapshot worker say to each other: one task per worker, given when it starts; then any number
 * of `progress`, and one `done` or `failed`.
 *
 * Errors cross as plain data, because structured cloning would make plain `Error`s of them.
 */
import { InvariantError } from '../base/assert.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { ErrorCode } from '../errors/error-table.ts'
import type { HashedRange, PageRange } from './page-range-hash.ts'
import type { SpoolTask } from './spool-copy.ts'

/** Every task a worker knows: what it is given and what it answers. */
export interface WorkerMethods {
  readonly hashRange: { readonly input: PageRange; readonly result: HashedRange }
  readonly copyToSpool: { readonly input: SpoolTask; readonly result: undefined }
}

export type WorkerMethod = keyof WorkerMethods

export type WorkerTask = {
  readonly [M in WorkerMethod]: { readonly method: M; readonly input: WorkerMethods[M]['input'] }
}[WorkerMethod]

export type WorkerReply<M extends WorkerMethod = WorkerMethod> =
  /** `bytes` done so far. */
  | { readonly kind: 'progress'; readonly bytes: number }
  | { readonly kind: 'done'; readonly result: WorkerMethods[M]['result'] }
  | { readonly kind: 'failed'; readonly error: PortableError }

export interface PortableError {
  /** `undefined`: not a `ClusterError`, so a broken assumption. */
  readonly code: ErrorCode | undefined
  readonly message: string
  readonly details: Readonly<Record<string, unknown>>
  readonly hint: string | undefined
  readonly stack: string | undefined
}

export function toPortableError(error: unknown): PortableError {
  const stack = error instanceof Error ? error.stack : undefined
  if (!(error instanceof ClusterError))
    return {
      code: undefined,
      message: error instanceof Error ? error.message : String(error),
      details: {},
      hint: undefined,
      stack,
    }
  const { code, summary, details, hint } = error
  return { code, message: summary, details, hint, stack }
}

export function fromPortableError({ code, message, details, hint, stack }: PortableError): Error {
  const error = code === undefined ? new InvariantError(message) : new ClusterError(code, message, { details, hint })
  // Where it happened in the worker; what is here would only lead to the message handler.
  if (stack !== undefined) error.stack = stack
  return error
}
