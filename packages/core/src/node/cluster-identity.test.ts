import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { systemClock } from '../base/clock.ts'
import { DataDirectory } from '../files/data-directory.ts'
import { realDisk } from '../files/disk.ts'
import { entriesOf, openLog } from '../log/test-support/log-fixture.ts'
import { RecordChain } from '../log/test-support/record-chain.ts'
import { databaseName } from '../request/database-name.ts'
import { NO_CHECKSUM } from '../position/checksum.ts'
import { epoch, NO_EPOCH } from '../position/epoch.ts'
import { txid } from '../position/txid.ts'
import { ClusterIdentity } from './cluster-identity.ts'

let directory: string
let data: DataDirectory
beforeEach(() => {
  nowMs = 0
  directory = mkdtempSync(path.join(os.tmpdir(), 'litefleet-identity-'))
  warnings = []
  data = DataDirectory.open(realDisk, directory)
})
afterEach(() => {
  data.close()
  rmSync(directory, { recursive: true })
})

let warnings: string[]
let nowMs = 0
const open = (): ClusterIdentity =>
  new ClusterIdentity({
    disk: realDisk,
    clock: { ...systemClock, nowMs: () => nowMs },
    directory: data,
    group: 'main',
    random: () => 0,
    warn: (name) => {
      warnings.push(name)
    },
  })

/** A database whose log knows this epoch. */
async function addLog(name: string, newest: number): Promise<string> {
  const log = path.join(data.databaseDirectory('main', databaseName(name)), 'log')
  const opened = openLog(log)
  const chain = new RecordChain()
  opened.recordEpochStart({ epoch: epoch(newest), firstTxid: txid(1n), checksumBefore: NO_CHECKSUM })
  opened.append(entriesOf(chain.take(9), epoch(newest)))
  await opened.close()
  return log
}

it('a cluster is founded once and joined once', () => {
  const identity = open()
  expect(identity.clusterId).toBeUndefined()
  identity.found()
  expect(identity.clusterId).toMatch(/^LFSC[0-9A-F]{16}$/)
  const again = open()
  again.found()
  expect(again.clusterId).toBe(identity.clusterId)
  expect(() => again.adopt('LFSC0000000000000000')).toThrow(/CLUSTER_MISMATCH/)
})

it('epochs only grow, over restarts and beyond those of others', () => {
  const first = open()
  expect(first.newestEpoch).toBe(NO_EPOCH)
  expect(first.nextEpoch(NO_EPOCH)).toBe(1)
  expect(first.nextEpoch(epoch(5))).toBe(6)
  first.seen([{ epoch: epoch(9), firstTxid: txid(1n), checksumBefore: NO_CHECKSUM }])
  first.seen([{ epoch: epoch(2), firstTxid: txid(1n), checksumBefore: NO_CHECKSUM }])
  expect(open().nextEpoch(NO_EPOCH)).toBe(10)
})

it('a damaged epoch file is made anew from the logs of the databases, never epoch 0', async () => {
  open().nextEpoch(epoch(6))
  await addLog('a.db', 3)
  const log = await addLog('b.db', 7)
  for (const damage of ['gone', '', '000000000000000']) {
    writeFileSync(data.epochFile('main', 'epoch'), damage)
    expect(open().newestEpoch).toBe(7)
    expect(open().newestEpoch).toBe(7)
  }
  expect(warnings).toEqual(['epoch-rebuilt', 'epoch-rebuilt', 'epoch-rebuilt'])
  // With the tables gone as well the records know.
  for (const name of ['epochs', 'epochs.copy']) writeFileSync(path.join(log, name), '')
  writeFileSync(data.epochFile('main', 'epoch'), '')
  expect(open().newestEpoch).toBe(7)
})

it('a damaged cluster id is taken from its copy', () => {
  const identity = open()
  identity.found()
  writeFileSync(data.clusterIdFile, '')
  expect(open().clusterId).toBe(identity.clusterId)
  expect(open().clusterId).toBe(identity.clusterId)
  expect(warnings).toEqual(['cluster-id-restored'])
})

it('with the cluster id lost a replica joins again, and a primary founds no other cluster over a history', async () => {
  open().found()
  await addLog('a.db', 3)
  writeFileSync(data.clusterIdFile, '')
  writeFileSync(`${data.clusterIdFile}.copy`, 'LFSC')
  expect(() => open().found()).toThrow(
    expect.objectContaining({ code: 'CORRUPT_DATA', hint: expect.stringContaining('LFSC') }),
  )
  const replica = open()
  replica.adopt('LFSC0000000000000001')
  expect(open().clusterId).toBe('LFSC0000000000000001')
})

it('an epoch is the time in ms, where that is larger: nodes that know nothing of each other do not share one', () => {
  nowMs = 1_700_000_000_000.5
  const first = open()
  expect(first.nextEpoch(NO_EPOCH)).toBe(1_700_000_000_000)
  expect(first.nextEpoch(NO_EPOCH)).toBe(1_700_000_000_001)
  nowMs = 5 // a clock that went back
  expect(open().nextEpoch(NO_EPOCH)).toBe(1_700_000_000_002)
})

it('behind an epoch from a clock that was ahead, nodes that know nothing of each other take different steps', () => {
  nowMs = 5
  const next = (random: number): number => {
    const identity = new ClusterIdentity({
      disk: realDisk,
      clock: { ...systemClock, nowMs: () => nowMs },
      directory: data,
      group: 'main',
      random: () => random,
      warn: () => undefined,
    })
    return identity.nextEpoch(epoch(1_000_000_000))
  }
  expect(next(0)).toBe(1_000_000_001)
  expect(next(0.5)).toBe(1_000_000_002 + 2 ** 19)
  expect(Number.isSafeInteger(next(0.123456789))).toBe(true)
})
