/**
 * I1 at the level `majority`: a write that was acknowledged at it is on every majority of the voters, whichever nodes are lost then.
 *
 * Real: three nodes as processes; SIGKILL and SIGSTOP. Not real: an election (an operator moves the static primary).
 */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { ProcessCluster } from '../support/process-cluster.ts'

const NAME = 'app.db'
const INSERT = 'INSERT INTO entry VALUES (?)'
const voters = ['node-0', 'node-1', 'node-2']
const MAJORITY = { await: 'majority', timeoutMs: 10_000 } as const

let cluster: ProcessCluster
beforeEach(async () => {
  cluster = new ProcessCluster({ database: NAME })
  for (const index of [0, 1, 2]) await cluster.startNode(index, { voters })
  await cluster.primary.batch(NAME, [{ sql: 'CREATE TABLE entry (text TEXT)' }], { await: 'all' })
})
afterEach(() => cluster.close())

test('is reached from every node, also while one voter is down', async () => {
  for (const index of [0, 1, 2])
    expect(await cluster.node(index).run(NAME, INSERT, [`by ${index}`], MAJORITY)).toMatchObject({ level: 'majority' })
  await cluster.node(2).kill()
  expect(await cluster.node(1).run(NAME, INSERT, ['two are left'], MAJORITY)).toMatchObject({ level: 'majority' })
})

test('without a majority the write is applied, and its answer says how far it came', async () => {
  for (const index of [1, 2]) cluster.node(index).pause()
  const lonely = cluster.primary.run(NAME, INSERT, ['lonely'], { await: 'majority', timeoutMs: 1_000 })
  await expect(lonely).rejects.toMatchObject({
    code: 'NOT_YET_VISIBLE',
    outcome: 'applied',
    details: { level: 'none', asked: 'majority' },
  })
  for (const index of [1, 2]) cluster.node(index).resume()
  await cluster.settle(1, 2)
})

test('what was acknowledged at it survives the loss of any one node, when the most advanced of the others is chosen', async () => {
  let acknowledged = 0
  for (let round = 0; round < 4; round++) {
    const old = cluster.primary
    const others = [0, 1, 2].filter((index) => cluster.node(index) !== old)
    // One of them lags: the majority is the primary and the other.
    const lagging = others[round % 2]!
    cluster.node(lagging).pause()
    for (let i = 0; i < 5; i++) {
      await old.run(NAME, INSERT, [`${round}.${i}`], MAJORITY)
      acknowledged++
    }
    await old.kill()
    cluster.node(lagging).resume()
    const next = await mostAdvanced(others)
    expect(next).not.toBe(lagging)
    for (const index of others) await cluster.node(index).stop()
    cluster.appointPrimary(next)
    const followers = [0, 1, 2].filter((index) => index !== next)
    for (const index of [next, ...followers]) await cluster.startNode(index, { voters })
    await cluster.settle(...followers)
    expect(await cluster.primary.read(NAME, 'SELECT count(*) FROM entry')).toEqual([[acknowledged]])
  }
  expect(cluster.warningsOf('diverged')).toEqual([])
})

/** By TXID: all are of one history here. */
async function mostAdvanced(indexes: readonly number[]): Promise<number> {
  const stands = await Promise.all(
    indexes.map(async (index) => ({ index, txid: (await cluster.node(index).facts(NAME)).position.txid })),
  )
  return stands.toSorted((a, b) => Number(b.txid - a.txid))[0]!.index
}
