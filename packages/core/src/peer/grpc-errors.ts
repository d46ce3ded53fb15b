/**
 * Between gRPC statuses and `ClusterError`, both ways; the only place that knows which status stands for which code.
 *
 * A status carries Litefleet's code and hint in its trailing metadata (`litefleet-code`, `litefleet-hint`). One without
 * them comes from gRPC itself, or from something in between, and means that the connection failed.
 */
import { Metadata, type ServiceError, status, type StatusObject } from '@grpc/grpc-js'
import { ClusterError, isClusterError } from '../errors/cluster-error.ts'
import { type ErrorCode, errorTable } from '../errors/error-table.ts'

const CODE_KEY = 'litefleet-code'
const HINT_KEY = 'litefleet-hint'

const statusOfCode: Partial<Record<ErrorCode, status>> = {
  UNAUTHENTICATED: status.UNAUTHENTICATED,
  CLUSTER_MISMATCH: status.FAILED_PRECONDITION,
  PROTOCOL_MISMATCH: status.FAILED_PRECONDITION,
  INVALID_REQUEST: status.INVALID_ARGUMENT,
  INVALID_DATABASE_NAME: status.INVALID_ARGUMENT,
  PEER_QUEUE_FULL: status.RESOURCE_EXHAUSTED,
  DEADLINE_EXCEEDED: status.DEADLINE_EXCEEDED,
  CLOSED: status.UNAVAILABLE,
}

/** The status to end a call with. An error that is not ours is INTERNAL and shows its message only. */
export function toStatus(error: unknown): Partial<StatusObject> {
  if (!isClusterError(error)) {
    return { code: status.INTERNAL, details: error instanceof Error ? error.message : String(error) }
  }
  const metadata = new Metadata()
  metadata.set(CODE_KEY, error.code)
  // Metadata is ASCII; a hint that is not is only left out.
  if (error.hint !== undefined && /^[\x20-\x7e]*$/.test(error.hint)) metadata.set(HINT_KEY, error.hint)
  return { code: statusOfCode[error.code] ?? status.UNKNOWN, details: error.summary, metadata }
}

/** Whether the other side turned the call away before it did anything; a status without a code of ours leaves that open. */
export function isRefusal(error: Partial<ServiceError>): boolean {
  const isNamed = (error.metadata?.get(CODE_KEY).length ?? 0) > 0
  return isNamed || error.code === status.UNAUTHENTICATED || error.code === status.INVALID_ARGUMENT
}

/**
 * The error a status stands for.
 * @param peer names the other side in the message
 */
export function fromStatus(error: Partial<ServiceError>, peer: string): ClusterError {
  const code = error.metadata?.get(CODE_KEY)[0]?.toString()
  const said = error.details ?? error.message ?? 'no details'
  if (code !== undefined && Object.hasOwn(errorTable, code)) {
    const hint = error.metadata?.get(HINT_KEY)[0]?.toString()
    return new ClusterError(code as ErrorCode, `${peer} says: ${said}`, { cause: error, hint, details: { peer } })
  }
  if (error.code === status.UNAUTHENTICATED) {
    return new ClusterError('UNAUTHENTICATED', `${peer} says: ${said}`, { cause: error, details: { peer } })
  }
  const name = error.code === undefined ? 'no status' : status[error.code]
  return new ClusterError('PEER_UNREACHABLE', `${peer}: ${name}: ${said}`, { cause: error, details: { peer } })
}
