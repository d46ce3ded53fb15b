/** Opening and reading logs in tests. */
import { createHash } from 'node:crypto'
import type { Clock } from '../../base/clock.ts'
import { systemClock } from '../../base/clock.ts'
import { type Disk, realDisk } from '../../files/disk.ts'
import type { LtxRecord } from '../../ltx/ltx-record.ts'
import { type Epoch, epoch } from '../../position/epoch.ts'
import { type LogOptions, resolveLogOptions } from '../log-options.ts'
import { type LogEntry, TransactionLog } from '../transaction-log.ts'

export interface OpenLogOptions extends LogOptions {
  readonly disk?: Disk | undefined
  readonly nowMs?: number | undefined
}

/** A log with segments of 4 KiB: about six records of one page of 512 bytes. */
export function openLog(directory: string, { disk, nowMs = 2_000, ...options }: OpenLogOptions = {}): TransactionLog {
  const clock: Clock = { ...systemClock, nowMs: () => nowMs }
  return TransactionLog.open({
    disk: disk ?? realDisk,
    directory,
    options: resolveLogOptions({ segmentBytes: 4096, ...options }),
    clock,
  })
}

export const FIRST_EPOCH: Epoch = epoch(1)

export function entriesOf(records: readonly LtxRecord[], of: Epoch = FIRST_EPOCH): LogEntry[] {
  return records.map((record) => ({ epoch: of, record }))
}

/** Every record from the start to the tail, read in pieces of `maxBytes`; throws when the log does not give them all. */
export function readAll(log: TransactionLog, maxBytes = 1_500): string[] {
  const all: string[] = []
  for (let after = log.start.position; ; ) {
    const answer = log.readAfter(after, maxBytes)
    if (answer.kind === 'at-end') return all
    if (answer.kind !== 'records') throw new Error(`${answer.kind} after ${after.txid}`)
    all.push(...answer.records.map(digest))
    after = answer.end
  }
}

/** For comparisons with `readAll`. */
export function bytesOf(records: readonly LtxRecord[]): string[] {
  return records.map((record) => digest(record.bytes))
}

/** Stands for the bytes of a record where they are compared: length and hash. */
function digest(bytes: Buffer): string {
  return `${bytes.length} ${createHash('sha1').update(bytes).digest('hex')}`
}
