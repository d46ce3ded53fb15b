import { describe, expect, it } from 'vitest'
import { NO_EPOCH } from '../position/epoch.ts'
import { ZERO_POSITION } from '../position/position.ts'
import type { ReplicaReport } from '../position/replica-report.ts'
import { txid } from '../position/txid.ts'
import { PositionReporter, type ReportChannel } from './position-reporter.ts'

const report = (database: string, at: number): ReplicaReport => ({
  database,
  epoch: NO_EPOCH,
  durable: { ...ZERO_POSITION, txid: txid(BigInt(at)) },
  applied: ZERO_POSITION,
})

/** A channel whose message leaves when the test says so. */
class SlowChannel implements ReportChannel {
  readonly sent: string[][] = []
  #next: (() => readonly ReplicaReport[] | undefined) | undefined

  sendPositions(collect: () => readonly ReplicaReport[] | undefined): boolean {
    this.#next = collect
    return true
  }

  leave(): void {
    const reports = this.#next?.()
    this.#next = undefined
    if (reports !== undefined) this.sent.push(reports.map(({ database, durable }) => `${database}:${durable.txid}`))
  }
}

describe('PositionReporter', () => {
  it('sends the newest report of each changed database, once', () => {
    const reporter = new PositionReporter()
    const channel = new SlowChannel()
    reporter.attach(channel)
    channel.leave()
    for (let i = 1; i <= 9; i++) reporter.update(report('a', i))
    reporter.update(report('b', 1))
    channel.leave()
    channel.leave()
    reporter.update(report('b', 2))
    channel.leave()
    expect(channel.sent).toEqual([[], ['a:9', 'b:1'], ['b:2']])
  })

  it('reports everything on a channel that was just opened, also when there is nothing', () => {
    const reporter = new PositionReporter()
    const empty = new SlowChannel()
    reporter.attach(empty)
    empty.leave()
    expect(empty.sent).toEqual([[]])
    reporter.update(report('a', 1))
    reporter.update(report('b', 2))
    reporter.remove('b')
    reporter.detach()
    reporter.update(report('a', 3))
    const channel = new SlowChannel()
    reporter.attach(channel)
    reporter.update(report('c', 1))
    channel.leave()
    channel.leave()
    expect(channel.sent).toEqual([['a:3', 'c:1']])
  })
})
