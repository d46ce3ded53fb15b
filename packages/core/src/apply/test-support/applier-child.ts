/**
 * Another process that applies: `node applier-child.ts <JSON of ApplierChildTask>`.
 * It opens the replica at whatever record boundary it stands, applies the rest in batches, emptying the WAL after each, and
 * kills itself with SIGKILL at the named operation. It prints `done` when it came to the end.
 */
import { type Disk, realDisk } from '../../files/disk.ts'
import { decodeLtxRecord, type LtxRecord } from '../../ltx/ltx-record.ts'
import { ZERO_POSITION } from '../../position/position.ts'
import { readImage, TestReplica } from './test-replica.ts'
import { checksumsOf } from './record-source.ts'

export interface ApplierChildTask {
  readonly path: string
  readonly pageSize: number
  /** File with all records, each after its length (4 bytes, little-endian). */
  readonly recordsFile: string
  readonly batch: number
  readonly walSoftLimitBytes: number
  readonly checkpointStepBytes: number
  /** Name of the operation to die at. */
  readonly crashAt: string
  /** At which call of it, from 1. */
  readonly crashCall: number
  /** Die after the first half of the bytes (of a write), instead of before the operation. */
  readonly half: boolean
}

const task = JSON.parse(process.argv[2] ?? '') as ApplierChildTask

function crashingDisk(): Disk {
  let calls = 0
  const die = (operation: string, firstHalf: () => void): void => {
    if (operation !== task.crashAt || ++calls < task.crashCall) return
    if (task.half) firstHalf()
    process.kill(process.pid, 'SIGKILL')
  }
  return {
    ...realDisk,
    write(operation, fd, source, offset, length, position) {
      die(operation, () => realDisk.write(operation, fd, source, offset, length >> 1, position))
      realDisk.write(operation, fd, source, offset, length, position)
    },
    truncate(operation, fd, sizeBytes) {
      die(operation, () => undefined)
      realDisk.truncate(operation, fd, sizeBytes)
    },
    dataSyncNow(operation, fd) {
      die(operation, () => undefined)
      realDisk.dataSyncNow(operation, fd)
    },
  }
}

function readRecords(): readonly LtxRecord[] {
  const bytes = realDisk.readWhole('test.read-records', task.recordsFile) ?? Buffer.alloc(0)
  const records: LtxRecord[] = []
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUInt32LE(at)
    records.push(decodeLtxRecord(bytes.subarray(at + 4, at + 4 + length)))
    at += 4 + length
  }
  return records
}

/** As a pause above the hard limit: readers may be in the way for a while. */
async function emptyWal(): Promise<void> {
  for (let tries = 0; tries < 500; tries++) {
    if (replica.applier.checkpoint({ force: true }).kind === 'restarted') return
    await new Promise((resolve) => setImmediate(resolve))
  }
}

const records = readRecords()
const checksums = checksumsOf(readImage(task.path), task.pageSize)
const done = records.findIndex((record) => record.postApply.checksum === checksums.checksum) + 1
const position = done === 0 ? ZERO_POSITION : records[done - 1]!.postApply
const { path, pageSize, batch, walSoftLimitBytes, checkpointStepBytes } = task
const options = { walSoftLimitBytes, checkpointStepBytes }
const replica = new TestReplica({ path, pageSize, position, checksums, options, disk: crashingDisk() })
for (let i = done; i < records.length; i += batch) {
  replica.applier.apply(records.slice(i, i + batch))
  await emptyWal()
}
replica.close()
process.stdout.write('done\n')
