/** Between etcd's answers and `ClusterError`: every failure of the backend is `LEASE_UNAVAILABLE`, which names the endpoint and what to do. */
import { type ServiceError, status } from '@grpc/grpc-js'
import { ClusterError } from '../errors/cluster-error.ts'

/** Whether another endpoint may answer; what was asked for may have happened all the same. */
export function isContactLost(error: Partial<ServiceError>): boolean {
  const { code } = error
  return code === undefined || CONTACT_LOST.has(code)
}

const CONTACT_LOST: ReadonlySet<status> = new Set([
  status.CANCELLED,
  status.UNKNOWN,
  status.DEADLINE_EXCEEDED,
  status.INTERNAL,
  status.UNAVAILABLE,
])

/** The token of an earlier authentication does not count any more: it is too old, or users or roles of etcd were changed since. */
export function isTokenRefused(error: Partial<ServiceError>): boolean {
  return error.code === status.UNAUTHENTICATED || /revision of auth store is old/.test(error.details ?? '')
}

/** A lease that is over, or was never there. */
export function isNotFound(error: Partial<ServiceError>): boolean {
  return error.code === status.NOT_FOUND
}

export interface FailurePlace {
  readonly endpoint: string
  readonly endpoints: readonly string[]
  readonly key: string
}

export function leaseUnavailable(
  error: Partial<ServiceError>,
  { endpoint, endpoints, key }: FailurePlace,
): ClusterError {
  const name = error.code === undefined ? 'no answer' : status[error.code]
  const said = error.details ?? error.message ?? 'no details'
  return new ClusterError('LEASE_UNAVAILABLE', `etcd at ${endpoint}: ${name}: ${said}`, {
    cause: error,
    details: { endpoint, endpoints: endpoints.join(', ') },
    hint: hintOf(error, key),
  })
}

function hintOf(error: Partial<ServiceError>, key: string): string {
  const said = error.details ?? ''
  if (error.code === status.PERMISSION_DENIED) {
    return `Give the user of lease.username read and write on "${key}" and all keys below "${key}/".`
  }
  if (error.code === status.UNAUTHENTICATED || /auth|user name/i.test(said)) {
    return 'Check lease.username and lease.password, and whether this etcd asks for them.'
  }
  if (/certificate|self.signed|issuer|TLS|SSL/i.test(said)) {
    return 'Check that lease.endpoints says https:// where etcd speaks TLS, and that lease.caFile holds the authority of its certificate.'
  }
  return 'Check that etcd runs, has a majority, and is reached from this node under lease.endpoints.'
}
