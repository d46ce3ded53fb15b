/** Decoders that write or read real files: a snapshot being received, and `litefleet ltx` over files of any content. */
import fs from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { readLtxFile } from '../../../packages/cli/src/ltx-source.ts'
import { realDisk } from '../../../packages/core/src/files/disk.ts'
import { entriesOf, openLog } from '../../../packages/core/src/log/test-support/log-fixture.ts'
import { PowerCutDisk } from '../../../packages/core/src/log/test-support/power-cut-disk.ts'
import { RecordChain } from '../../../packages/core/src/log/test-support/record-chain.ts'
import { SnapshotReceiver } from '../../../packages/core/src/snapshot/snapshot-receiver.ts'
import { chunksOf } from '../chunks.ts'
import { ltxCorpus, repairLtx } from '../ltx-inputs.ts'
import { type FuzzTarget, promise } from '../target.ts'
import { repairSegment } from './log.ts'

async function inDirectory(work: (directory: string) => Promise<void>): Promise<void> {
  const directory = fs.mkdtempSync(path.join(tmpdir(), 'fuzz-files-'))
  try {
    await work(directory)
    promise(fs.readdirSync(directory).length === 0, `files are left behind: ${fs.readdirSync(directory).join(', ')}`)
  } finally {
    fs.rmSync(directory, { recursive: true, force: true })
  }
}

/** Descriptors of this process, where the system tells. */
function descriptors(): number {
  return fs.existsSync('/proc/self/fd') ? fs.readdirSync('/proc/self/fd').length : 0
}

async function receive(input: Buffer, directory: string): Promise<void> {
  const receiver = new SnapshotReceiver(realDisk, directory)
  for (const chunk of chunksOf(input)) {
    const pending = receiver.data(chunk)
    if (pending !== undefined) await pending
  }
  const received = await receiver.finish()
  const { size } = fs.statSync(received.databaseFile)
  promise(size === received.header.commit * received.header.pageSize, 'the file has the size of the database')
  fs.rmSync(received.databaseFile)
}

/** Nothing is left, whether it threw or not. */
async function receiveCleanly(input: Buffer): Promise<void> {
  const before = descriptors()
  let thrown: { readonly error: unknown } | undefined
  await inDirectory(async (directory) => {
    try {
      await receive(input, directory)
    } catch (error) {
      thrown = { error }
      // The descriptor is closed, and the name gone, when the thread pool has done with the file.
      await new Promise((resolve) => setImmediate(resolve))
    }
  })
  for (let turns = 0; descriptors() > before && turns < 1_000; turns++)
    await new Promise((resolve) => setTimeout(resolve, 1))
  promise(descriptors() <= before, 'no descriptor stays open')
  if (thrown !== undefined) throw thrown.error
}

function segment(): Buffer {
  const disk = new PowerCutDisk()
  const log = openLog('/log', { disk, segmentBytes: 1 << 20 })
  log.append(entriesOf(new RecordChain().take(4)))
  return disk.readWhole('fuzz', '/log/0000000000000001.seg')!
}

async function readAll(file: string): Promise<void> {
  for await (const item of readLtxFile(file, true)) promise(item.source.startsWith(file), 'items name their file')
}

async function readFile(input: Buffer, name: string): Promise<void> {
  await inDirectory(async (directory) => {
    const file = path.join(directory, name)
    fs.writeFileSync(file, input)
    try {
      await readAll(file)
    } finally {
      fs.rmSync(file)
    }
  })
}

export const fileTargets: readonly FuzzTarget[] = [
  {
    name: 'snapshot-receiver',
    codes: ['CORRUPT_DATA'],
    // A page list beside the pages; buffers of 1 MiB go round.
    bound: { perByte: 3 * 255, constant: 24 * 1024 * 1024 },
    weight: 0.4,
    corpus: ltxCorpus,
    repair: repairLtx,
    run: receiveCleanly,
  },
  {
    name: 'ltx-source-file',
    codes: ['CORRUPT_DATA'],
    bound: { perByte: 3 * 255, constant: 16 * 1024 * 1024 },
    weight: 0.6,
    corpus: ltxCorpus,
    repair: repairLtx,
    run: (input) => readFile(input, 'one.ltx'),
  },
  {
    name: 'ltx-source-segment',
    codes: ['CORRUPT_DATA', 'UNSUPPORTED_FORMAT'],
    bound: { perByte: 3 * 255, constant: 16 * 1024 * 1024 },
    weight: 0.6,
    corpus: () => [segment()],
    repair: (input, random) => {
      repairSegment(input, random)
      return input
    },
    run: (input) => readFile(input, '0000000000000001.seg'),
  },
]
