import { afterEach, describe, expect, it } from 'vitest'
import type { NodeRole } from '../leadership/node-role.ts'
import { PositionReporter } from '../peer/position-reporter.ts'
import { checksum } from '../position/checksum.ts'
import { epoch } from '../position/epoch.ts'
import { txid } from '../position/txid.ts'
import { until } from '../stream/test-support/until.ts'
import { PrimaryLink } from './primary-link.ts'
import { TcpLink } from './test-support/tcp-link.ts'
import { primaryAt, TestNode } from './test-support/test-node.ts'
import { TestNodes } from './test-support/test-nodes.ts'

const nodes = new TestNodes()

afterEach(() => nodes.close())

async function linked() {
  const replica = await nodes.start({ name: 'replica' })
  const listeners = new Set<() => void>()
  const leadership = {
    role: { kind: 'detached', reason: 'starting' } as NodeRole,
    refreshes: 0,
    onChange: (listener: () => void) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    refresh() {
      this.refreshes++
    },
    set(role: NodeRole) {
      this.role = role
      for (const listener of listeners) listener()
    },
  }
  const reporter = new PositionReporter()
  const link = new PrimaryLink({ leadership, peers: replica.peers, members: replica.members, reporter })
  link.open()
  nodes.onClose(() => link.close())
  const follow = (address: string, name: string): void =>
    leadership.set({ kind: 'replica', primary: primaryAt(address, name) })
  const report = (id: bigint): void => {
    const position = { txid: txid(id), checksum: checksum((1n << 63n) | id) }
    reporter.update({ database: 'app.db', epoch: epoch(1), durable: position, applied: position })
  }
  return { replica, leadership, follow, report }
}

const durableAt = (node: TestNode): bigint | undefined => node.positions.slowestDurable('app.db')

describe('the link to the primary', () => {
  it('reports everything when the channel opens, and what changes from then on', async () => {
    const primary = await nodes.start({ name: 'primary' })
    const { follow, report } = await linked()
    report(1n)
    follow(primary.address, 'primary')
    await until(() => durableAt(primary) === 1n)
    report(2n)
    await until(() => durableAt(primary) === 2n)
  })

  it('joins with the first message also without a database', async () => {
    const primary = await nodes.start({ name: 'primary' })
    const { follow } = await linked()
    follow(primary.address, 'primary')
    await until(() => primary.joined.includes('replica'))
  })

  it('moves to another primary, and leaves the old one when there is none', async () => {
    const [a, b] = [await nodes.start({ name: 'a' }), await nodes.start({ name: 'b' })]
    const { leadership, replica, follow, report } = await linked()
    report(1n)
    follow(a.address, 'a')
    await until(() => durableAt(a) === 1n)
    follow(b.address, 'b')
    await until(() => durableAt(b) === 1n)
    report(2n)
    await until(() => durableAt(b) === 2n)
    expect(durableAt(a)).toBe(1n)
    // Only the channel to the primary tells who the members are.
    a.server.broadcastMembership(() => [{ ...a.members.self, nodeName: 'stale' }])
    b.server.broadcastMembership(() => [b.members.self])
    await until(() => replica.members.byName('b') !== undefined)
    expect(replica.members.byName('stale')).toBeUndefined()
    leadership.set({ kind: 'detached', reason: 'no-primary' })
    report(3n)
    follow(a.address, 'a')
    await until(() => durableAt(a) === 3n)
    expect(durableAt(b)).toBe(2n)
  })

  it('reports everything again after a break, and doubts what it knows of the primary', async () => {
    const primary = await nodes.start({ name: 'primary' })
    const path = await TcpLink.open(primary.address)
    nodes.onClose(() => path.close())
    const { leadership, follow, report } = await linked()
    report(1n)
    follow(path.address, 'primary')
    await until(() => durableAt(primary) === 1n)
    path.cut()
    await until(() => leadership.refreshes > 0)
    report(2n)
    await until(() => durableAt(primary) === 2n)
    expect(primary.joined).toEqual(['replica', 'replica'])
  })
})
