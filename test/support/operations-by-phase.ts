/** What a node is seen to do with its disk, phase by phase, for tests that let each of these operations die or fail. */
import { expect } from 'vitest'
import { merged } from './crash-points.ts'
import type { SeenOperation } from './fault-disk.ts'
import type { ProcessCluster } from './process-cluster.ts'
import type { TrackedWrites } from './tracked-writes.ts'

/** The log is pruned every ten seconds. */
const PRUNED_WITHIN_MS = 30_000

/** What a node does with its disk while it works, closes, and starts after a close and after a kill; `writes` must be running. */
export async function operationsByPhase(cluster: ProcessCluster, index: number, writes: TrackedWrites) {
  await cluster.node(index).operations({ forget: true })
  const has = async (prefix: string): Promise<boolean> =>
    (await cluster.node(index).operations()).some(({ operation }) => operation.startsWith(prefix))
  await expect.poll(() => has('log.prune'), { timeout: PRUNED_WITHIN_MS, interval: 100 }).toBe(true)
  const working = await cluster.node(index).operations({ forget: true })
  const closing = await cluster.node(index).stop()
  const afterStop = await (await cluster.startNode(index)).operations()
  await writes.progress(5)
  await cluster.node(index).kill()
  const afterKill = await (await cluster.startNode(index)).operations()
  // What a node does while it works it may also do once more while it closes, or not.
  const isOfClosing = (seen: SeenOperation): boolean => !working.some(({ operation }) => operation === seen.operation)
  return { working, closing: closing.filter(isOfClosing), starting: merged(afterStop, afterKill) }
}
