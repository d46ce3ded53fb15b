/**
 * `failover.*`: three nodes elect their primary, which is killed: from the kill to the first write that a majority has, asked of another node.
 * Against the time to live of the lease. `handoff.pause.*`: 64 callers on a replica write while the office moves between the other two nodes: the longest
 * time in which none of them got an answer. Three processes on loopback.
 */
import path from 'node:path'
import type { ClusterOptions } from '@litefleet/core'
import { ConsulServer } from '../../test/support/consul.ts'
import { CONSUL, isBuilt } from '../../test/support/go-programs.ts'
import { EtcdServer } from '../../test/support/etcd.ts'
import { ChildProgram } from '../child-program.ts'
import type { Calls } from '../processes/cluster-node.ts'
import { type Row, type RowName, row } from '../row.ts'
import { type BenchContext, type Workload } from '../workload.ts'

const NAMES = ['gru', 'lhr', 'nrt'] as const
const MIGRATIONS = ['CREATE TABLE rows (id INTEGER PRIMARY KEY, body TEXT NOT NULL)']
const ETCD_TTL_MS = 2_000
const CONSUL_TTL_MS = 10_000
const CALLERS = 64
const LOOK_EVERY_MS = 10

type Lease = ClusterOptions['lease']

export const failover: Workload = {
  name: 'failover',
  async run(context) {
    const { quick, directory } = context
    const rows: Row[] = []
    const crashes = quick ? 5 : 20
    const host: Lease = { kind: 'host', directory: path.join(directory, 'lease-host') }
    rows.push(...rowsOf('failover.host', await crash(context, 'host', host, crashes), null))
    await using etcd = await EtcdServer.start()
    const lease: Lease = { kind: 'etcd', endpoints: [etcd.url], ttlMs: ETCD_TTL_MS }
    rows.push(...rowsOf('failover.etcd', await crash(context, 'etcd', lease, crashes), ETCD_TTL_MS))
    if (isBuilt(CONSUL)) {
      await using consul = await ConsulServer.start()
      const inConsul: Lease = { kind: 'consul', url: consul.url, key: 'bench', ttlMs: CONSUL_TTL_MS }
      rows.push(
        ...rowsOf('failover.consul', await crash(context, 'consul', inConsul, quick ? 1 : crashes), CONSUL_TTL_MS),
      )
    }
    const moved = { kind: 'etcd', endpoints: [etcd.url], key: 'bench/handoff', ttlMs: 10_000 } as const
    const { pauses, failed } = await handOffs(context, moved, crashes)
    rows.push(...rowsOf('handoff.pause', pauses, null), row('handoff.failed', 'calls', failed, null))
    return rows
  },
}

function rowsOf(
  name: 'failover.host' | 'failover.etcd' | 'failover.consul' | 'handoff.pause',
  values: readonly number[],
  ttlMs: number | null,
): Row[] {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)]!
  const named = (percentile: 'p50' | 'p99'): RowName => `${name}.${percentile}`
  return [row(named('p50'), 'ms', at(0.5), ttlMs), row(named('p99'), 'ms', at(0.99), ttlMs)]
}

/** One node of the fleet, and how it is started again. */
class FleetNode {
  readonly name: string
  readonly #options: object
  program = new ChildProgram('cluster-node.ts')

  constructor(name: string, dataDir: string, lease: Lease) {
    this.name = name
    this.#options = { name, dataDir, database: 'bench.db', migrations: MIGRATIONS, lease, voters: NAMES }
  }

  open(): Promise<unknown> {
    return this.program.ask('open', this.#options)
  }

  async openAgain(): Promise<void> {
    this.program = new ChildProgram('cluster-node.ts')
    await this.open()
  }
}

async function startFleet({ directory }: BenchContext, name: string, lease: Lease): Promise<readonly FleetNode[]> {
  const nodes = NAMES.map((node) => new FleetNode(node, path.join(directory, name, node), lease))
  await Promise.all(nodes.map((node) => node.open()))
  return nodes
}

async function primaryOf(nodes: readonly FleetNode[]): Promise<FleetNode> {
  for (;;) {
    for (const node of nodes) if (await node.program.ask<boolean>('isPrimary')) return node
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS))
  }
}

async function crash(context: BenchContext, name: string, lease: Lease, runs: number): Promise<readonly number[]> {
  const nodes = await startFleet(context, name, lease)
  const tookMs: number[] = []
  try {
    for (let run = 0; run < runs; run++) {
      const killed = await primaryOf(nodes)
      const asked = nodes.find((node) => node !== killed)!
      await asked.program.ask('insertOnce')
      const killedMs = await killed.program.kill()
      tookMs.push((await asked.program.ask<number>('insertOnce')) - killedMs)
      await killed.openAgain()
    }
  } finally {
    for (const node of nodes) await node.program[Symbol.asyncDispose]()
  }
  return tookMs
}

async function handOffs(
  context: BenchContext,
  lease: Lease,
  runs: number,
): Promise<{ readonly pauses: readonly number[]; readonly failed: number }> {
  const nodes = await startFleet(context, 'handoff', lease)
  const pauses: number[] = []
  let failed = 0
  try {
    const first = await primaryOf(nodes)
    const caller = nodes.find((node) => node !== first)!
    const offices = nodes.filter((node) => node !== caller)
    for (let run = 0; run < runs; run++) {
      const primary = await primaryOf(offices)
      const next = offices.find((node) => node !== primary)!
      await caller.program.ask('startCalls', { callers: CALLERS })
      await new Promise((resolve) => setTimeout(resolve, 300))
      await caller.program.ask('handOff', { to: next.name })
      await new Promise((resolve) => setTimeout(resolve, 200))
      const calls = await caller.program.ask<Calls>('stopCalls')
      pauses.push(calls.pauseMs)
      failed += calls.failed
    }
  } finally {
    for (const node of nodes) await node.program[Symbol.asyncDispose]()
  }
  return { pauses, failed }
}
