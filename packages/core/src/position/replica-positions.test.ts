import { describe, expect, it } from 'vitest'
import { ManualClock } from '../base/test-support/manual-clock.ts'
import { checksum } from './checksum.ts'
import { epoch } from './epoch.ts'
import type { Position } from './position.ts'
import { type ReplicaLevel, ReplicaPositions, type ReplicaWaitOutcome } from './replica-positions.ts'
import type { ReplicaReport } from './replica-report.ts'
import { txid } from './txid.ts'

const at = (id: number, sum = id): Position => ({
  txid: txid(BigInt(id)),
  checksum: checksum((1n << 63n) | BigInt(sum)),
})
const target = (id: number, term = 1) => ({ position: at(id), epoch: epoch(term) })
const report = (durable: number, applied = durable, term = 1, database = 'a.db'): ReplicaReport => ({
  database,
  epoch: epoch(term),
  durable: at(durable),
  applied: at(applied),
})

function setup(...names: string[]) {
  const clock = new ManualClock()
  const positions = new ReplicaPositions({ clock, waitersMax: 3 })
  for (const name of names) positions.connected({ nodeId: name, name, region: 'r' })
  const ended: ReplicaWaitOutcome[] = []
  const wait = async (level: ReplicaLevel, id: number, deadlineMs = 1_000, term = 1) => {
    ended.push(await positions.waitFor(level, 'a.db', target(id, term), deadlineMs))
  }
  const turn = () => new Promise((resolve) => setImmediate(resolve))
  return { clock, positions, ended, wait, turn }
}

describe('ReplicaPositions', () => {
  it('counts durable copies for a number of replicas, not applied ones', async () => {
    const { positions, ended, wait, turn } = setup('x', 'y')
    void wait({ replicas: 2 }, 5)
    positions.report('x', [report(5, 0)])
    await turn()
    expect(ended).toEqual([])
    positions.report('y', [report(6, 0)])
    await turn()
    expect(ended).toEqual([{ ended: 'reached', level: { replicas: 2 }, count: 2, uncounted: [] }])
  })

  it('counts only nodes of the names it was told, where it was told some', async () => {
    const { positions, ended, wait, turn } = setup('x', 'y', 'z')
    void wait({ replicas: 2, among: ['x', 'y', 'w'] }, 5)
    void wait({ replicas: 2 }, 5)
    positions.report('z', [report(5)])
    positions.report('x', [report(5)])
    await turn()
    expect(ended).toMatchObject([{ ended: 'reached', level: { replicas: 2 }, count: 2 }])
    positions.report('y', [report(5)])
    await turn()
    expect(ended[1]).toMatchObject({ ended: 'reached', level: { replicas: 2, among: ['x', 'y', 'w'] } })
  })

  it('counts a node once, also while the channel of its earlier process still looks alive', async () => {
    const { positions, ended, wait, turn } = setup('x', 'y')
    positions.connected({ nodeId: 'the next process of x', name: 'x', region: 'r' })
    void wait({ replicas: 2 }, 5)
    positions.report('x', [report(5)])
    positions.report('the next process of x', [report(5)])
    await turn()
    expect(ended).toEqual([])
    positions.report('y', [report(5)])
    await turn()
    expect(ended[0]).toMatchObject({ ended: 'reached', count: 2 })
  })

  it('answers at once when the level is reached already', async () => {
    const { positions, ended, wait } = setup('x')
    positions.report('x', [report(5)])
    await wait({ replicas: 1 }, 5)
    expect(ended[0]?.ended).toBe('reached')
  })

  it('reaches "all" only when every connected replica has applied, one without a report included', async () => {
    const { positions, ended, wait, turn } = setup('x', 'y')
    void wait('all', 5)
    positions.report('x', [report(9, 9)])
    await turn()
    expect(ended).toEqual([])
    positions.report('y', [report(9, 4)])
    await turn()
    expect(ended).toEqual([])
    positions.report('y', [report(9, 5)])
    await turn()
    expect(ended).toEqual([{ ended: 'reached', level: 'all', count: 2, uncounted: [] }])
  })

  it('reaches "all" when the only missing replica disconnects', async () => {
    const { positions, ended, wait, turn } = setup('x', 'y')
    positions.report('x', [report(5)])
    void wait('all', 5)
    positions.disconnected('y')
    await turn()
    expect(ended).toEqual([{ ended: 'reached', level: 'all', count: 1, uncounted: [] }])
  })

  it('reaches "all" at once with no replica, and says that it counted none', async () => {
    const { ended, wait } = setup()
    await wait('all', 5)
    expect(ended).toEqual([{ ended: 'reached', level: 'all', count: 0, uncounted: [] }])
  })

  it.each([
    ['an older epoch', report(9, 9, 1)],
    ['a newer epoch', report(9, 9, 3)],
  ])('never counts a report of %s', async (_, other) => {
    const { clock, positions, ended, wait } = setup('x')
    const waiting = wait({ replicas: 1 }, 5, 1_000, 2)
    positions.report('x', [other])
    clock.advance(1_100)
    await waiting
    expect(ended).toEqual([{ ended: 'deadline', level: 'none', count: 0, uncounted: [] }])
  })

  it('never counts the same TXID with another checksum', async () => {
    const { clock, positions, ended, wait } = setup('x')
    const waiting = wait({ replicas: 1 }, 5)
    positions.report('x', [{ ...report(5), durable: at(5, 99) }])
    clock.advance(1_100)
    await waiting
    expect(ended[0]?.ended).toBe('deadline')
  })

  it('forgets what a replica reported before it connected again', async () => {
    const { clock, positions, ended, wait } = setup('x')
    positions.report('x', [report(9)])
    positions.connected({ nodeId: 'x', name: 'x', region: 'r' })
    const waiting = wait({ replicas: 1 }, 5)
    clock.advance(1_100)
    await waiting
    expect(ended[0]?.count).toBe(0)
  })

  it('drops reports of a replica that is not connected', () => {
    const { positions } = setup()
    positions.report('x', [report(9)])
    expect(positions.standings('a.db')).toEqual([])
  })

  it('says at the deadline how many durable copies there are', async () => {
    const { clock, positions, ended, wait } = setup('x', 'y')
    positions.report('x', [report(5, 2)])
    const waiting = Promise.all([wait({ replicas: 2 }, 5), wait('all', 5)])
    clock.advance(1_100)
    await waiting
    expect(ended).toEqual([
      { ended: 'deadline', level: { replicas: 1 }, count: 1, uncounted: [] },
      { ended: 'deadline', level: { replicas: 1 }, count: 0, uncounted: [] },
    ])
    expect(clock.timerCount).toBe(0)
  })

  it('answers a deadline that has passed without waiting', async () => {
    const { clock, ended, wait } = setup('x')
    clock.advance(2_000)
    await wait({ replicas: 1 }, 5, 1_000)
    expect(ended[0]?.ended).toBe('deadline')
  })

  it('wakes waiters in order of their positions, whatever the order they came in', async () => {
    const { positions, ended, wait, turn } = setup('x')
    for (const id of [7, 5, 6]) void wait({ replicas: 1 }, id)
    positions.report('x', [report(6)])
    await turn()
    expect(ended.length).toBe(2)
    positions.report('x', [report(7)])
    await turn()
    expect(ended.length).toBe(3)
  })

  it('does not wake waiters of another database', async () => {
    const { positions, ended, wait, turn } = setup('x')
    void wait({ replicas: 1 }, 5)
    positions.report('x', [report(9, 9, 1, 'b.db')])
    await turn()
    expect(ended).toEqual([])
    positions.close()
    await turn()
    expect(ended[0]?.ended).toBe('abandoned')
  })

  it('answers one waiter above the bound at once as not reached', async () => {
    const { positions, ended, wait, turn } = setup('x')
    for (let i = 0; i < 3; i++) void wait({ replicas: 1 }, 5)
    await wait({ replicas: 1 }, 5)
    expect(ended).toEqual([{ ended: 'too-many-waiters', level: 'none', count: 0, uncounted: [] }])
    positions.abandonWaits()
    await turn()
    void wait({ replicas: 1 }, 5)
    await turn()
    expect(ended.length).toBe(4)
    positions.close()
  })

  it('lists LiteFS replicas in every answer while one of that name is connected', async () => {
    const { positions, ended, wait } = setup()
    const left = positions.liteFsConnected('old')
    positions.liteFsConnected('old')()
    await wait('all', 1)
    left()
    left()
    await wait('all', 1)
    expect(ended.map((outcome) => outcome.uncounted)).toEqual([['old'], []])
  })

  it('names the slowest durable position of the connected replicas', () => {
    const { positions } = setup('x', 'y', 'z')
    expect(positions.slowestDurable('a.db')).toBeUndefined()
    positions.report('x', [report(9)])
    positions.report('y', [report(4)])
    expect(positions.slowestDurable('a.db')).toBe(4n)
    positions.disconnected('y')
    expect(positions.slowestDurable('a.db')).toBe(9n)
  })
})
