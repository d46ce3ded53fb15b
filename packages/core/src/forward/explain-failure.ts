/**
 * What every failure of a write tells its caller, wherever it arose: how far the write had come (`details.phase`), its request id
 * if it has one, and, where the outcome is unknown, what to do about it.
 */
import type { ClusterError } from '../errors/cluster-error.ts'
import { failurePhase } from '../errors/failure-phase.ts'
import type { WriteCall } from './write-call.ts'

type Identity = Pick<WriteCall, 'database' | 'requestId' | 'idempotencyKey'>

export function explainFailure(error: ClusterError, write: Identity): ClusterError {
  const { database, requestId } = write
  const phase = failurePhase(error)
  const details = { database, ...(requestId === undefined ? {} : { requestId }), phase }
  return error.withDetails(details, error.code === 'WRITE_OUTCOME_UNKNOWN' ? wayOut(write) : undefined)
}

function wayOut({ requestId, idempotencyKey }: Identity): string {
  if (requestId !== undefined) {
    return `Ask what became of it with database.resolve("${requestId}"), or repeat it with { requestId: "${requestId}" }: under this id it takes effect at most once.`
  }
  if (idempotencyKey !== undefined) return 'Repeat it with the same idempotencyKey: it takes effect at most once.'
  return 'It has neither a request id nor an idempotency key, so only the data can tell: once the database takes writes again, look there before repeating it.'
}
