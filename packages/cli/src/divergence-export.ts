/**
 * Writes a divergence report where somebody wants to work with it: each transaction as an LTX file with LiteFS's name for it, the
 * requests as JSON lines, the facts, and the copy of a changed file where there is one.
 */
import { ClusterError, formatTxid } from '@litefleet/core'
import type { StoredReport } from '@litefleet/core/peer'
import { copyFile, mkdir, open, readdir } from 'node:fs/promises'
import path from 'node:path'
import { findLtxFiles, readLtxBytes } from './ltx-source.ts'

const PLAIN_FILES = ['report.json', 'requests.jsonl', 'replay.jsonl', 'copy.ltx']

/** Answers the files written. Throws when the directory holds something already. */
export async function exportReport({ directory, report }: StoredReport, target: string): Promise<readonly string[]> {
  await mkdir(target, { recursive: true })
  if ((await readdir(target)).length > 0) {
    throw new ClusterError('INVALID_OPTION', `${target} is not empty`, {
      hint: 'Name a directory for this report alone.',
    })
  }
  const there = await readdir(directory)
  const written: string[] = []
  for (const name of PLAIN_FILES.filter((file) => there.includes(file))) {
    await copyFile(path.join(directory, name), path.join(target, name))
    written.push(path.join(target, name))
  }
  if (report.transactions === undefined) return written
  for (const segment of await findLtxFiles(directory)) {
    if (path.basename(segment) === 'copy.ltx') continue
    for await (const { txid, bytes } of readLtxBytes(segment)) {
      const file = path.join(target, `${formatTxid(txid)}-${formatTxid(txid)}.ltx`)
      await writeDurably(file, bytes)
      written.push(file)
    }
  }
  return written
}

async function writeDurably(file: string, bytes: Buffer): Promise<void> {
  const handle = await open(file, 'wx')
  try {
    await handle.writeFile(bytes)
    await handle.datasync()
  } finally {
    await handle.close()
  }
}
