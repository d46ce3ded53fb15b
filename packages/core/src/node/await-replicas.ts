/** On the primary, after the commit: waits until replicas have the write as its caller asked (design D9). */
import { ClusterError } from '../errors/cluster-error.ts'
import type { CommittedWrite } from '../engine/engine.ts'
import type { WriteAnswer, WriteCall } from '../forward/write-call.ts'
import type { ReplicaPositions } from '../position/replica-positions.ts'
import type { Voters } from '../position/voters.ts'
import { formatAwaitLevel } from '../request/await-level.ts'

/** Refuses a level that cannot be honoured, before anything runs. Throws `AWAIT_LEVEL_REFUSED`. */
export function requireAwaitable(call: WriteCall, voters: Voters): void {
  if (call.await !== 'majority' || voters.majority !== undefined) return
  throw new ClusterError('AWAIT_LEVEL_REFUSED', `database "${call.database}": "majority" needs configured voters`, {
    hint: 'Name them on every node, e.g. openCluster({ voters: ["a", "b", "c"] }); or use { replicas: n } or "all".',
  })
}

/** Who says how far a write has come. */
export interface Witnesses {
  readonly replicas: ReplicaPositions
  readonly voters: Voters
}

/**
 * Answers when the level is reached.
 * @throws NOT_YET_VISIBLE at the deadline, with the whole answer in its details: the write is applied
 */
export async function awaitReplicas(
  call: WriteCall,
  committed: CommittedWrite,
  { replicas, voters }: Witnesses,
  deadlineMs: number,
): Promise<WriteAnswer> {
  const { database, requestId } = call
  const { result, replayed, position, epoch } = committed
  const common = { result, database, position, epoch, requestId, replayed }
  const level = call.await
  const awaited = level === 'majority' ? voters.majority : level
  if (awaited === undefined || awaited === 'none' || awaited === 'local') {
    return { ...common, level: level === 'local' ? 'local' : 'none', uncounted: replicas.uncounted }
  }
  const outcome = await replicas.waitFor(awaited, database, { position, epoch }, deadlineMs)
  const { uncounted } = outcome
  if (outcome.ended === 'reached') return { ...common, level, uncounted }
  const answer: WriteAnswer = { ...common, level: outcome.level, uncounted }
  throw new ClusterError(
    'NOT_YET_VISIBLE',
    `database "${database}": committed, but "${formatAwaitLevel(level)}" was not reached in time`,
    {
      details: { ...answer, asked: level, reached: outcome.level, replicas: outcome.count, ended: outcome.ended },
      hint: 'The write is applied. Do not repeat it; wait for the position, or check the replicas with `litefleet status`.',
    },
  )
}
