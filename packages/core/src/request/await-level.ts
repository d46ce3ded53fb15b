/**
 * How far a write must have travelled before its caller is answered (design D9).
 *
 * - `none`: durable on the primary.
 * - `local`: also visible on the calling node. The default.
 * - `{ replicas: n }`: also durable on n other nodes.
 * - `majority`: durable on a majority of the configured voters; refused where no voters are configured.
 * - `all`: applied on every connected replica.
 */
export type AwaitLevel = 'none' | 'local' | 'majority' | 'all' | { readonly replicas: number }

export const DEFAULT_AWAIT_LEVEL: AwaitLevel = 'local'

export function formatAwaitLevel(level: AwaitLevel): string {
  return typeof level === 'string' ? level : `replicas:${level.replicas}`
}
