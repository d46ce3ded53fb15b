/** What every way of moving the office has in common. */
import { ClusterError } from '../errors/cluster-error.ts'

/** For how long everybody but the successor leaves the lease alone. */
export const HOLD_MS = 3_000
export const LOOK_EVERY_MS = 2

export function notHandedOff(why: string, hint?: string, cause?: unknown): ClusterError {
  return new ClusterError('HANDOFF_FAILED', `the office was not handed off: ${why}`, { hint, cause })
}
