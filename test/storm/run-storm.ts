/**
 * One storm from its first node to its last check.
 *
 * Real: nodes as processes, SQLite, files, sockets, SIGKILL and SIGSTOP, other processes that read the files. Modelled: links are proxies on
 * loopback, a failing disk fails the calls of the node and not those of SQLite, clocks are wrong by an offset.
 * What may legally be lost: lost-histories.ts.
 * Promises: afterwards no process is left, and no file unless `keep` or something was found; also when it is interrupted.
 */
import type { LogOptions } from '@litefleet/core'
import { Random } from '../support/random.ts'
import { AppendWorkload } from './append-workload.ts'
import { BankWorkload } from './bank-workload.ts'
import { ElectedMoves } from './elected-moves.ts'
import { FaultRunner } from './fault-runner.ts'
import { FinalCheck, type LossCount } from './final-check.ts'
import { Fleet, messageOf } from './fleet.ts'
import { Gate } from './gate.ts'
import { LostHistories } from './lost-histories.ts'
import { PrimaryMoves } from './primary-moves.ts'
import { drawSchedule } from './schedule.ts'
import { StormClient } from './storm-client.ts'
import type { LeaseKind } from './storm-lease.ts'
import { StormLog } from './storm-log.ts'
import { StormReaders } from './storm-readers.ts'
import { countWrites, type StormResult } from './storm-result.ts'
import { Watch } from './watch.ts'
import { WriteBook } from './write-book.ts'

const BANK_CLIENTS = 6
const APPEND_CLIENTS_PER_NODE = 1
const SHORT_RETENTION: LogOptions = { retentionMs: 2_000, retentionBytes: 64 * 1024, segmentBytes: 16 * 1024 }

export interface StormSettings {
  readonly seed: number
  readonly seconds: number
  readonly nodes: number
  /** Who decides about the primary. Default: static. */
  readonly lease?: LeaseKind
  readonly keep: boolean
  print(line: string): void
  readonly interrupted: AbortSignal
  /** Called before the last check, when everybody is healthy: breaks a promise, to see that it is found. */
  readonly meddle?: (fleet: Fleet) => Promise<void>
}

export async function runStorm(settings: StormSettings): Promise<StormResult> {
  const { seed, seconds, nodes, lease = 'static', keep, print, interrupted } = settings
  const schedule = drawSchedule(seed, nodes, seconds * 1000)
  const { isRetentionShort } = schedule
  const retention = isRetentionShort ? SHORT_RETENTION : {}
  const fleet = await Fleet.start(nodes, retention, lease, (directory) => new StormLog(directory, print))
  const { cluster, log } = fleet
  log.line(
    `${nodes} nodes in ${cluster.directory}, lease ${lease}, ${isRetentionShort ? 'short' : 'default'} retention, ${schedule.events.length} faults`,
  )
  const random = new Random(seed ^ 0x5707)
  const histories = new LostHistories()
  const book = new WriteBook(histories)
  const gate = new Gate()
  const client = new StormClient(fleet, book, random)
  const bank = new BankWorkload(fleet, client, random, gate)
  const appends = new AppendWorkload(fleet, client, random, gate, histories)
  const watch = new Watch(fleet, appends)
  const readers = StormReaders.start(fleet, appends)
  const moves =
    fleet.lease === undefined ? new PrimaryMoves(fleet, histories, book, gate) : new ElectedMoves(fleet, fleet.lease)
  const runner = new FaultRunner(fleet, moves)
  let loss: LossCount | undefined
  try {
    // Where nodes elect, every fault may cost the history that is not at a majority.
    if (fleet.lease !== undefined) histories.begin()
    fleet.track(() => histories.boundary())
    bank.start(BANK_CLIENTS)
    appends.start(APPEND_CLIENTS_PER_NODE * nodes)
    watch.start()
    await runner.run(schedule.events, schedule.durationMs, interrupted)
    const check = new FinalCheck(fleet, book, histories.boundaries > 0)
    log.line('the machine is whole again')
    await check.heal()
    if (fleet.lease !== undefined) histories.end()
    client.stop()
    await Promise.all([bank.stop(), appends.stop()])
    await watch.stop()
    await fleet.stopTracking()
    await settings.meddle?.(fleet)
    loss = await check.run()
    await readers.stop()
    log.line('all checks were made')
  } catch (error) {
    log.finding(interrupted.aborted ? 'interrupted' : `the storm broke off: ${messageOf(error)}`)
  } finally {
    readers.kill()
    await fleet.stopTracking()
    await cluster.close({ keepsFiles: keep || log.found > 0 })
    await fleet.lease?.[Symbol.asyncDispose]()
  }
  return {
    seed,
    seconds,
    nodes,
    lease,
    elections: fleet.elections,
    isRetentionShort,
    findings: log.findings,
    faults: runner.counts,
    writes: countWrites(book.writes),
    warnings: countWarnings(cluster.warnings.map(({ name }) => name)),
    loss,
    looks: watch.looks,
    reads: readers.reads,
    positions: watch.positions,
    mended: fleet.mended,
    directory: keep || log.found > 0 ? cluster.directory : undefined,
  }
}

function countWarnings(names: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1
  return counts
}
