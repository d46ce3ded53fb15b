/**
 * Work at a rate that does not wait for its results: what is slow is started late and counted, never left out.
 */

/** Calls `once` `perSecond` times a second for `sliceMs`. Answers how many calls there were, after the last has settled. */
export async function atRate(perSecond: number, sliceMs: number, once: () => unknown): Promise<number> {
  const startedMs = performance.now()
  const total = Math.floor((perSecond * sliceMs) / 1000)
  const results: unknown[] = []
  while (results.length < total) {
    const due = Math.min(total, Math.floor(((performance.now() - startedMs) * perSecond) / 1000))
    while (results.length < due) results.push(once())
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
  await Promise.all(results)
  return total
}
