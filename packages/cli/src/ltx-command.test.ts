import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { systemClock } from '../../core/src/base/clock.ts'
import { realDisk } from '../../core/src/files/disk.ts'
import { resolveLogOptions } from '../../core/src/log/log-options.ts'
import { TransactionLog } from '../../core/src/log/transaction-log.ts'
import { compressLtxRecord, LtxRecordBuilder } from '../../core/src/ltx/ltx-encoder.ts'
import type { LtxRecord } from '../../core/src/ltx/ltx-record.ts'
import { PageChecksums } from '../../core/src/ltx/page-checksums.ts'
import { epoch } from '../../core/src/position/epoch.ts'
import { txid } from '../../core/src/position/txid.ts'
import { main } from './main.ts'
import type { LtxSummary } from './ltx-view.ts'

const PAGE_SIZE = 512
let directory = ''
let databaseDirectory = ''
let records: readonly LtxRecord[] = []

beforeEach(async () => {
  directory = mkdtempSync(path.join(tmpdir(), 'litefleet-ltx-'))
  databaseDirectory = path.join(directory, 'bank.db')
  records = makeRecords(16)
  mkdirSync(databaseDirectory)
  const log = TransactionLog.open({
    disk: realDisk,
    directory: path.join(databaseDirectory, 'log'),
    // Small, so that there are several segments.
    options: resolveLogOptions({ segmentBytes: 4096 }),
    clock: systemClock,
  })
  for (const record of records) log.append([{ epoch: epoch(3), record }])
  await log.close()
})

afterEach(() => rmSync(directory, { recursive: true }))

/** A database of three pages, then transactions of one page each. */
function makeRecords(count: number): readonly LtxRecord[] {
  const checksums = new PageChecksums(PAGE_SIZE)
  return Array.from({ length: count }, (_, index) => {
    const pgnos = index === 0 ? [1, 2, 3] : [1 + (index % 3)]
    const builder = new LtxRecordBuilder({
      pageSize: PAGE_SIZE,
      commit: 3,
      minTxid: txid(BigInt(index + 1)),
      maxTxid: txid(BigInt(index + 1)),
      timestampMs: Date.UTC(2026, 0, 1, 0, 0, index),
      preApplyChecksum: index === 0 ? (0n as LtxRecord['header']['preApplyChecksum']) : checksums.checksum,
      walOffset: 0,
      walBytes: 0,
      walSalt1: 0,
      walSalt2: 0,
      nodeId: 0xabcn,
      pageCount: pgnos.length,
    })
    for (const pgno of pgnos) {
      builder.addPage(pgno, Buffer.alloc(PAGE_SIZE, index + pgno), 0)
      checksums.set(pgno, builder.checksumHigh, builder.checksumLow)
    }
    return builder.finish(checksums.checksum)
  })
}

async function ltx(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const out: string[] = []
  const err: string[] = []
  const code = await main(['ltx', ...args], { out: (text) => out.push(text), err: (text) => err.push(text) })
  return { code, out: out.join('\n'), err: err.join('\n') }
}

function segments(): readonly string[] {
  const log = path.join(databaseDirectory, 'log')
  const files = readdirSync(log).filter((name) => name.endsWith('.seg'))
  return files.sort().map((name) => path.join(log, name))
}

test('dump shows each record of a log, whether database, log or segment is named', async () => {
  const { code, out } = await ltx('dump', databaseDirectory)
  expect(code).toBe(0)
  const lines = out.split('\n')
  expect(lines).toHaveLength(16)
  expect(lines[0]).toContain('0000000000000001  2026-01-01T00:00:00.000Z  epoch 3  3 pages of 512, commit 3')
  expect(lines[1]).toContain('0000000000000002  2026-01-01T00:00:01.000Z  epoch 3  1 page of 512, commit 3')
  expect((await ltx('dump', path.join(databaseDirectory, 'log'))).out).toBe(out)
  expect(out).toContain((await ltx('dump', segments()[0]!)).out)
})

test('dump --json --pages gives every field of a compressed LTX file', async () => {
  const file = path.join(directory, '0000000000000001-0000000000000001.ltx')
  writeFileSync(file, compressLtxRecord(records[0]!))
  const { out } = await ltx('dump', '--json', '--pages', file)
  expect(JSON.parse(out) as LtxSummary).toMatchObject({
    source: file,
    epoch: null,
    minTxid: '0000000000000001',
    maxTxid: '0000000000000001',
    isSnapshot: true,
    compressed: true,
    pageSize: 512,
    pageCount: 3,
    commit: 3,
    timestamp: '2026-01-01T00:00:00.000Z',
    nodeId: '0000000000000ABC',
    preApplyChecksum: '0000000000000000',
    postApplyChecksum: records[0]!.postApply.checksum.toString(16),
    pages: [1, 2, 3],
  })
})

test('verify tells how many LTX continue one another, and up to where', async () => {
  const { checksum } = records.at(-1)!.postApply
  const expected = { code: 0, out: `ok: 16 LTX, up to 0000000000000010/${checksum.toString(16)}`, err: '' }
  expect(segments().length).toBeGreaterThan(2)
  expect(await ltx('verify', databaseDirectory)).toEqual(expected)
})

test('verify finds one flipped bit and names file and byte', async () => {
  const file = segments()[0]!
  const bytes = readFileSync(file)
  bytes[300]! ^= 1
  writeFileSync(file, bytes)
  const { code, err } = await ltx('verify', databaseDirectory)
  expect(code).toBe(1)
  expect(err).toContain(`${file}, byte 80:`)
  expect(err).toContain('CORRUPT_DATA')
})

test('verify finds a hole between segments', async () => {
  rmSync(segments()[1]!)
  const { code, err } = await ltx('verify', databaseDirectory)
  expect(code).toBe(1)
  expect(err).toContain('the one before it ended at')
})

test('a record that is not whole is a torn end in the newest segment and damage in any other', async () => {
  const newest = segments().at(-1)!
  const size = readFileSync(newest).length
  truncateSync(newest, size - 10)
  const torn = await ltx('verify', databaseDirectory)
  expect(torn.code).toBe(0)
  expect(torn.err).toContain('bytes of a record that is not whole')
  const first = segments()[0]!
  truncateSync(first, readFileSync(first).length - 10)
  expect((await ltx('verify', databaseDirectory)).code).toBe(1)
})

test('LTX files that continue one another verify; a directory without any is a usage error', async () => {
  const files = path.join(directory, 'files')
  mkdirSync(files)
  expect((await ltx('verify', files)).code).toBe(2)
  for (const record of records) {
    const name = record.txid.toString(16).padStart(16, '0')
    writeFileSync(path.join(files, `${name}-${name}.ltx`), record.bytes)
  }
  expect((await ltx('verify', files)).out).toContain('ok: 16 LTX')
  const inLiteFs = path.join(directory, 'app.db', 'ltx')
  mkdirSync(inLiteFs, { recursive: true })
  for (const name of readdirSync(files)) copyFileSync(path.join(files, name), path.join(inLiteFs, name))
  expect((await ltx('verify', path.dirname(inLiteFs))).out).toContain('ok: 16 LTX')
})
