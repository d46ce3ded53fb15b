/** What a node keeps beside a database: a whole log directory, the epoch table, the saved state. */
import path from 'node:path'
import { EpochFile } from '../../../packages/core/src/log/epoch-file.ts'
import { loadState, saveState } from '../../../packages/core/src/log/saved-state.ts'
import {
  ENVELOPE_BYTES,
  REQUESTS_HEADER_BYTES,
  SEGMENT_HEADER_BYTES,
  writeCrc,
} from '../../../packages/core/src/log/segment-format.ts'
import { surveyNewestEpoch } from '../../../packages/core/src/log/log-survey.ts'
import { entriesOf, openLog } from '../../../packages/core/src/log/test-support/log-fixture.ts'
import { PowerCutDisk } from '../../../packages/core/src/log/test-support/power-cut-disk.ts'
import { RecordChain } from '../../../packages/core/src/log/test-support/record-chain.ts'
import { LTX_HEADER_BYTES, LTX_TRAILER_BYTES } from '../../../packages/core/src/ltx/ltx-header.ts'
import type { PageChecksums } from '../../../packages/core/src/ltx/page-checksums.ts'
import { type Checksum, checksum } from '../../../packages/core/src/position/checksum.ts'
import { epoch } from '../../../packages/core/src/position/epoch.ts'
import { nextTxid, txid } from '../../../packages/core/src/position/txid.ts'
import type { Random } from '../../support/random.ts'
import { packFiles, unpackFiles } from '../containers.ts'
import { repairLtx } from '../ltx-inputs.ts'
import { type FuzzTarget, promise } from '../target.ts'

const DIRECTORY = '/log'
const FILE = '/log/state'
const LAST_TXID = (1n << 64n) - 2n

function diskWith(files: readonly { readonly name: string; readonly content: Buffer }[]): PowerCutDisk {
  const disk = new PowerCutDisk()
  for (const { name, content } of files) {
    const fd = disk.open('fuzz', path.join(DIRECTORY, name), 'w+')
    disk.write('fuzz', fd, content, 0, content.length, 0)
    disk.close('fuzz', fd)
  }
  return disk
}

function filesOf(disk: PowerCutDisk): { name: string; content: Buffer }[] {
  return disk
    .list('fuzz', DIRECTORY)
    .map((name) => ({ name, content: disk.readWhole('fuzz', path.join(DIRECTORY, name))! }))
}

/** Logs with one and with several segments, with epochs, after a reset, and in the middle of one. */
function logCorpus(): Buffer[] {
  return [2, 9].flatMap((records) => {
    const disk = new PowerCutDisk()
    const log = openLog(DIRECTORY, { disk, segmentBytes: 4096 })
    const chain = new RecordChain()
    const start = { epoch: epoch(3), firstTxid: txid(1n), checksumBefore: checksum(0n) }
    log.recordEpochStart(start)
    log.append(entriesOf(chain.take(records), epoch(3)))
    log.append([{ epoch: epoch(4), record: chain.next(), requests: Buffer.from('what was asked') }])
    const whole = filesOf(disk)
    const newest = whole.filter(({ name }) => name.endsWith('.seg')).at(-1)!
    return [
      packFiles(whole),
      packFiles([...whole, { name: 'reset.seg', content: newest.content.subarray(0, SEGMENT_HEADER_BYTES) }]),
    ]
  })
}

/** CRCs of segment headers and envelopes, now and then of the LTX in them, and of the epoch table. */
function repairLog(input: Buffer, random: Random): Buffer {
  const files = unpackFiles(input)
  for (const { name, content } of files) {
    if (name.endsWith('.seg')) repairSegment(content, random)
    else if (content.length >= 24) writeCrc(content, 0, content.length - 8)
  }
  return packFiles(files)
}

export function repairSegment(segment: Buffer, random: Random): void {
  if (segment.length < SEGMENT_HEADER_BYTES) return
  writeCrc(segment, 0, SEGMENT_HEADER_BYTES - 8)
  for (let at = SEGMENT_HEADER_BYTES; at + ENVELOPE_BYTES <= segment.length; ) {
    writeCrc(segment, at, ENVELOPE_BYTES - 8)
    const ltxBytes = segment.readUInt32BE(at + 4)
    const ltx = segment.subarray(at + ENVELOPE_BYTES, at + ENVELOPE_BYTES + ltxBytes)
    const repaired =
      ltx.length < LTX_HEADER_BYTES + LTX_TRAILER_BYTES || random.next() < 0.5 ? ltx : repairLtx(ltx, random)
    if (repaired.length === ltx.length) repaired.copy(ltx)
    at += ENVELOPE_BYTES + Math.max(1, ltxBytes)
    at += repairRequests(segment, at)
  }
}

/** The block of requests at `at`, if there is one; answers its size. */
function repairRequests(segment: Buffer, at: number): number {
  if (at + REQUESTS_HEADER_BYTES > segment.length || segment.toString('latin1', at, at + 4) !== 'LFRQ') return 0
  writeCrc(segment, at, REQUESTS_HEADER_BYTES - 8)
  const length = segment.readUInt32BE(at + 4)
  const from = at + REQUESTS_HEADER_BYTES
  if (from + length + 8 <= segment.length) writeCrc(segment, from, length)
  return REQUESTS_HEADER_BYTES + length + 8
}

/** Opens it, reads it, goes on with it, and opens it again: what was repaired once must be whole then. */
async function useLog(input: Buffer): Promise<void> {
  const disk = diskWith(unpackFiles(input))
  surveyNewestEpoch(disk, DIRECTORY)
  const log = openLog(DIRECTORY, { disk })
  try {
    for (let after = log.start.position; ; ) {
      const answer = log.readAfter(after, 5_000)
      promise(answer.kind !== 'diverged', 'the log knows its own positions')
      // A record found damaged when it is read: the log begins after it from then on.
      if (answer.kind === 'gone') after = log.start.position
      else if (answer.kind === 'records') {
        after = answer.end
        log.readRequests(after.txid)
      } else break
    }
    const { position, epoch: last } = log.tail
    if (position.txid < LAST_TXID) {
      const next = new RecordChain({ position }).next()
      if (next.preApply.checksum === position.checksum) log.append([{ epoch: last, record: next }])
    }
    await log.sync()
  } finally {
    await log.close()
  }
  promise(disk.openDescriptors === 0, 'no descriptor stays open')
  const again = openLog(DIRECTORY, { disk })
  const { cutBytes, finishedReset } = again.recovery
  await again.close()
  promise(cutBytes === 0 && !finishedReset, `a repaired log is whole, and ${cutBytes} bytes were cut again`)
}

function epochFile(entries: number): Buffer {
  const disk = new PowerCutDisk()
  const file = EpochFile.open(disk, DIRECTORY)
  for (let i = 1; i <= entries; i++)
    file.record({
      epoch: epoch(i * 3),
      firstTxid: txid(BigInt(i * 5)),
      checksumBefore: checksum((1n << 63n) | BigInt(i)),
    })
  return disk.readWhole('fuzz', path.join(DIRECTORY, 'epochs'))!
}

function savedState(pages: number): Buffer {
  const disk = new PowerCutDisk()
  const chain = new RecordChain()
  chain.take(3, pages)
  const identity = { inode: 5n, sizeBytes: 1024n, modifiedNs: 7n, changedNs: 8n }
  saveState(disk, FILE, {
    position: chain.position,
    epoch: epoch(2),
    pageSize: 512,
    checksums: chain.checksums,
    identity,
  })
  return disk.readWhole('fuzz', FILE)!
}

/** The CRC, and half of the time a database checksum that belongs to the pages. */
function repairState(input: Buffer, random: Random): Buffer {
  if (input.length < 80) return input
  const state = Buffer.from(input)
  if (random.next() < 0.7) {
    let sum = 1n << 63n
    for (let at = 72; at + 16 <= state.length; at += 8)
      sum ^= (BigInt(state.readUInt32LE(at)) << 32n) | BigInt(state.readUInt32LE(at + 4))
    state.writeBigUInt64BE(sum | (1n << 63n), 16)
    state.writeUInt32BE((state.length - 80) >>> 3, 36)
  }
  writeCrc(state, 0, state.length - 8)
  return state
}

function checkState(checksums: PageChecksums, saved: Checksum): void {
  promise(saved === 0n || checksums.checksum === saved, 'the pages make the checksum')
}

export const logTargets: readonly FuzzTarget[] = [
  {
    name: 'log-directory',
    codes: ['CORRUPT_DATA', 'UNSUPPORTED_FORMAT'],
    // The disk in memory copies a file for each write to it; the cache of the log is 8 MiB.
    bound: { perByte: 200, constant: 40 * 1024 * 1024 },
    weight: 2,
    corpus: logCorpus,
    tokens: [
      'LFRC',
      'LFRQ',
      'LFLG',
      'LTX1',
      'reset.seg',
      'reset.tmp',
      '0000000000000001.seg',
      'ffffffffffffffff.seg',
    ].map((text) => Buffer.from(text)),
    repair: repairLog,
    run: useLog,
  },
  {
    name: 'epoch-file',
    codes: ['CORRUPT_DATA', 'UNSUPPORTED_FORMAT'],
    bound: { perByte: 16, constant: 1024 * 1024 },
    weight: 3,
    corpus: () => [0, 1, 2, 9].map((entries) => (entries === 0 ? Buffer.alloc(0) : epochFile(entries))),
    repair: (input) => {
      if (input.length >= 24) writeCrc(input, 0, input.length - 8)
      return input
    },
    run(input) {
      const file = EpochFile.open(diskWith([{ name: 'epochs', content: input }]), DIRECTORY)
      const last = file.table.at(-1)
      if (last === undefined || last.epoch >= Number.MAX_SAFE_INTEGER || last.firstTxid >= LAST_TXID) return
      file.record({ epoch: epoch(last.epoch + 1), firstTxid: nextTxid(last.firstTxid), checksumBefore: checksum(0n) })
    },
  },
  {
    name: 'saved-state',
    codes: ['UNSUPPORTED_FORMAT'],
    bound: { perByte: 16, constant: 1024 * 1024 },
    weight: 3,
    corpus: () => [1, 40, 400].map(savedState),
    repair: repairState,
    run(input) {
      const state = loadState(diskWith([{ name: 'state', content: input }]), FILE)
      if (state !== undefined) checkState(state.checksums, state.position.checksum)
    },
  },
]
