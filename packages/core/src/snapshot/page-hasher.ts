/**
 * Computes the checksums of all pages of a pinned database: in worker threads when it is large, else here, in steps
 * between which other work gets its turn.
 */
import { availableParallelism } from 'node:os'
import { realDisk } from '../files/disk.ts'
import { PageChecksums } from '../ltx/page-checksums.ts'
import { type HashedRange, hashRange, type PageRange } from './page-range-hash.ts'
import { type PinnedPages, slicePageMap } from './page-source.ts'
import { runInTurns } from './turns.ts'
import { callWorker } from './worker-call.ts'

/** Up to here starting a worker costs more than it saves. */
const INLINE_BYTES_MAX = 8 * 1024 * 1024
/** From here on a second worker pays. */
const TWO_WORKERS_BYTES = 64 * 1024 * 1024

export interface HashRequest extends PinnedPages {
  /** Aborting rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined
}

/** The state must be held still until the promise settles. Rejects with `CORRUPT_DATA`, `STORAGE_FAILED`. */
export async function hashPages(request: HashRequest): Promise<PageChecksums> {
  const { pageSize, pageCount, signal } = request
  const bytes = pageSize * pageCount
  const abort = new AbortController()
  const either = signal === undefined ? abort.signal : AbortSignal.any([signal, abort.signal])
  const workers = bytes < TWO_WORKERS_BYTES ? 1 : Math.min(2, availableParallelism())
  const run = bytes <= INLINE_BYTES_MAX ? hashHere : hashInWorker
  const runs = splitRange(request, workers).map((range) => run(range, either))
  try {
    return joined(pageSize, pageCount, await Promise.all(runs))
  } finally {
    // When one failed, the others must have let go of the descriptors before the caller does.
    abort.abort()
    await Promise.allSettled(runs)
  }
}

function splitRange(pages: PinnedPages, parts: number): PageRange[] {
  const { databaseFd, walFd, pageSize, pageCount, wal } = pages
  const perPart = Math.ceil(pageCount / parts)
  return Array.from({ length: parts }, (_, i) => {
    const first = i * perPart + 1
    const last = Math.min(pageCount, (i + 1) * perPart)
    return { pages: { databaseFd, walFd, pageSize, pageCount, wal: slicePageMap(wal, first, last) }, first, last }
  })
}

function hashHere(range: PageRange, signal: AbortSignal): Promise<HashedRange> {
  return runInTurns(hashRange(realDisk, range), signal)
}

function hashInWorker(input: PageRange, signal: AbortSignal): Promise<HashedRange> {
  const { pgnos, frames } = input.pages.wal
  const transfer = [pgnos.buffer, frames.buffer]
  // Somebody opens a database and waits for it, maybe with nothing else that keeps the process: it must not just end.
  return callWorker({ method: 'hashRange', input, transfer, keepsProcess: true, signal })
}

function joined(pageSize: number, pageCount: number, parts: readonly HashedRange[]): PageChecksums {
  const bytes = Buffer.allocUnsafeSlow(pageCount * 8)
  let at = 0
  for (const part of parts) {
    bytes.set(new Uint8Array(part.buffer), at)
    at += part.byteLength
  }
  return PageChecksums.fromBuffer(pageSize, bytes)
}
