import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { realDisk } from '../files/disk.ts'
import { interceptedDisk } from '../log/test-support/intercepted-disk.ts'
import { entriesOf, FIRST_EPOCH } from '../log/test-support/log-fixture.ts'
import { RecordChain } from '../log/test-support/record-chain.ts'
import { epoch, NO_EPOCH } from '../position/epoch.ts'
import { ZERO_POSITION } from '../position/position.ts'
import { txid } from '../position/txid.ts'
import type { DivergenceReport } from './divergence-report.ts'
import { DivergenceStore, listReports, type ReportContent, reportsDirectory } from './divergence-store.ts'
import { findReports, readReportedReplays } from './stored-reports.ts'

let dataDir = ''
let directory = ''
beforeEach(() => {
  dataDir = fs.mkdtempSync(path.join(os.tmpdir(), 'litefleet-divergence-'))
  directory = path.join(dataDir, 'main', 'dbs', 'app.db')
  fs.mkdirSync(directory, { recursive: true })
})
afterEach(() => fs.rmSync(dataDir, { recursive: true, force: true }))

const removed: string[] = []
const open = (disk = realDisk): DivergenceStore =>
  new DivergenceStore(disk, directory, (gone) => void removed.push(gone))

function report(id: string, foundAtMs = 1_000): DivergenceReport {
  const here = { ...ZERO_POSITION, txid: txid(3n) }
  return {
    id,
    database: 'app.db',
    foundAtMs,
    kind: 'parted',
    reason: 'because',
    shared: ZERO_POSITION,
    isExact: true,
    here,
    hereEpoch: epoch(1),
    primary: undefined,
    primaryEpoch: epoch(2),
    transactions: { first: txid(1n), last: txid(3n) },
    missing: 0,
    requests: 1,
  }
}

function content(): ReportContent {
  const entries = entriesOf(new RecordChain().take(3), FIRST_EPOCH)
  const request = {
    txid: txid(1n),
    epoch: epoch(1),
    committedAtMs: 5,
    requestId: undefined,
    idempotencyKey: 'k',
    operation: undefined,
  }
  return { entries, base: { position: ZERO_POSITION, epoch: NO_EPOCH }, requests: [request] }
}

test('a report is there whole, for whoever looks into the data directory, and is written once', async () => {
  const store = open()
  await store.write(report('a', 2_000), content())
  await store.write(report('a', 9_000), content())
  await store.write(report('b', 1_000), {
    ...content(),
    entries: [],
    writeCopy: async (file) => fs.writeFileSync(file, 'x'),
  })
  expect(store.count).toBe(2)
  const found = findReports(dataDir)
  expect(found.map(({ report: { id, foundAtMs } }) => [id, foundAtMs])).toEqual([
    ['b', 1_000],
    ['a', 2_000],
  ])
  expect(fs.readdirSync(found[1]!.directory).toSorted()).toEqual([
    '0000000000000001.seg',
    'report.json',
    'requests.jsonl',
  ])
  expect(fs.readdirSync(found[0]!.directory).toSorted()).toEqual(['copy.ltx', 'report.json', 'requests.jsonl'])
  expect(open().count).toBe(2)
})

test('a disk that fails at any step leaves no report, and nothing that the next start does not clear away', async () => {
  const calls: string[] = []
  const counting = interceptedDisk(realDisk, (call) => {
    calls.push(call.operation)
    return call.run()
  })
  await open(counting).write(report('first'), content())
  const steps = calls.length
  for (let failing = 0; failing < steps; failing++) {
    let at = -1
    const disk = interceptedDisk(realDisk, (call) => {
      // The disk does not recover for the clearing away either.
      if (++at >= failing && at > 0) throw new Error('EIO')
      return call.run()
    })
    const id = `r${failing}`
    await expect(async () => open(disk).write(report(id), content())).rejects.toThrow('EIO')
    const isWhole = open().has(id)
    expect(fs.readdirSync(reportsDirectory(directory)).filter((name) => name.startsWith('.'))).toEqual([])
    // Named already when the last syncs failed: then it is a report, whole.
    if (isWhole)
      expect(listReports(realDisk, reportsDirectory(directory)).map(({ report: { id } }) => id)).toContain(id)
  }
})

test('the oldest report leaves when there are more than 64, and that is told', async () => {
  removed.length = 0
  const store = open()
  for (let i = 0; i < 66; i++) {
    await store.write(report(`r${i}`), { ...content(), entries: [] })
    const file = path.join(store.directoryOf(`r${i}`), 'report.json')
    fs.utimesSync(file, i, i)
  }
  expect(store.count).toBe(64)
  expect(removed.map((gone) => path.basename(gone))).toEqual(['r0', 'r1'])
  expect(findReports(dataDir)).toHaveLength(64)
})

test('a damaged report is named; an attempt to replay that was cut off counts as not made', async () => {
  const store = open()
  await store.write(report('a'), content())
  const [found] = findReports(dataDir)
  const line = '{"txid":"0000000000000001","index":0,"at":"2026-01-01T00:00:00.000Z","outcome":"applied","reason":""}'
  fs.writeFileSync(path.join(found!.directory, 'replay.jsonl'), `${line}\n\n${line.slice(0, 30)}`)
  expect(readReportedReplays(found!)).toHaveLength(1)
  fs.writeFileSync(path.join(found!.directory, 'report.json'), '{')
  expect(() => findReports(dataDir)).toThrow(/CORRUPT_DATA.*report\.json/)
  // The node itself does not mind.
  await open().write(report('b'), content())
})
