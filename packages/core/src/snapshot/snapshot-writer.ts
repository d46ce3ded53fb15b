/**
 * Copies a pinned state of a live database aside, to be sent at the pace of whoever receives it.
 *
 * Relies on: the caller holds the state (a read transaction) until `done` settles, no longer: a slow receiver never keeps
 * the WAL from being restarted.
 * Promises: `read()` follows the copy while it grows. The last byte is given out only when the copy is whole and the
 * checksums of its pages make the checksum of its position, so damage never passes for a snapshot.
 * After a crash: nothing is left. The spool file loses its name as soon as it is open.
 */
import path from 'node:path'
import { ClusterError } from '../errors/cluster-error.ts'
import type { Disk } from '../files/disk.ts'
import type { PageChecksums } from '../ltx/page-checksums.ts'
import type { Position } from '../position/position.ts'
import { type PinnedPages, slicePageMap } from './page-source.ts'
import { copyToSpool, type DifferenceForm, type SpoolForm, spoolBytes, type SpoolTask } from './spool-copy.ts'
import { runInTurns } from './turns.ts'
import { callWorker } from './worker-call.ts'

export interface SpoolRequest {
  readonly disk: Disk
  /** The state to copy. */
  readonly pages: PinnedPages
  /** What the state is known to be. */
  readonly position: Position
  /** A path that may be overwritten, on the file system that has the space. Its directory is made when it does not exist. */
  readonly spoolFile: string
  /** Aborting ends the copy and fails its readers. */
  readonly signal?: AbortSignal | undefined
}

export interface SnapshotRequest extends SpoolRequest {
  /** Ms since the epoch. */
  readonly timestampMs: number
  /** Id of this node; LiteFS replicas skip what carries their own. */
  readonly nodeId: bigint
}

export interface SnapshotSpool {
  readonly position: Position
  /** Size of the whole copy, known before its first byte is written. */
  readonly sizeBytes: number
  /** Settles with the copy; from then on the state need not be held. */
  readonly done: Promise<void>
  /** The copy from its first byte, in pieces of at most 256 KiB. Throws when the copy fails or is closed. */
  read(): AsyncIterable<Buffer>
  /** Ends copy and readers and frees the space. Idempotent. */
  close(): Promise<void>
}

/** Up to here starting a worker costs more than it saves. */
const INLINE_BYTES_MAX = 8 * 1024 * 1024
const READ_BYTES = 256 * 1024
const NEVER = new AbortController().signal

/** As an LTX snapshot (min TXID 1), uncompressed. Throws `STORAGE_FAILED` when the file cannot be made. */
export function openSnapshotSpool(request: SnapshotRequest): SnapshotSpool {
  const { timestampMs, nodeId } = request
  return openSpool(request, { kind: 'ltx', timestampMs, nodeId })
}

export interface DifferenceRequest extends SnapshotRequest {
  /** Page checksums of the pinned state. */
  readonly checksums: PageChecksums
  /** Page checksums of the state it is the difference to, of the same page size. */
  readonly from: PageChecksums
}

/**
 * As the uncompressed LTX that leads from another state to this one, which must be at TXID 2 or later. Throws
 * `STORAGE_FAILED` when the file cannot be made.
 */
export function openDifferenceSpool(request: DifferenceRequest): SnapshotSpool {
  const { timestampMs, nodeId, checksums, from } = request
  return openSpool(request, { kind: 'difference', ...differenceOf(checksums, from), timestampMs, nodeId })
}

/** The same into a file that is kept, durably. */
export async function writeDifference(
  request: Omit<DifferenceRequest, 'spoolFile' | 'nodeId' | 'signal'> & { readonly file: string },
): Promise<void> {
  const { disk, file, pages, position, checksums, from, timestampMs } = request
  const spoolFd = disk.open('snapshot.write-file', file, 'w+')
  try {
    const form = { kind: 'difference', ...differenceOf(checksums, from), timestampMs, nodeId: 0n } as const
    await runInTurns(copyToSpool(disk, { pages, position, spoolFd, form }), NEVER)
    await disk.dataSync('snapshot.write-file', spoolFd)
  } finally {
    disk.close('snapshot.write-file', spoolFd)
  }
}

function differenceOf(checksums: PageChecksums, from: PageChecksums): Pick<DifferenceForm, 'from' | 'pgnos'> {
  const pgnos = checksums.differingFrom(from)
  const pagesChecksum = checksums.checksumOf(pgnos)
  return { pgnos, from: { preApplyChecksum: from.checksum, pageCount: pgnos.length, pagesChecksum } }
}

/** As a plain database file. Throws `STORAGE_FAILED` when the file cannot be made. */
export function openImageSpool(request: SpoolRequest): SnapshotSpool {
  return openSpool(request, { kind: 'image' })
}

function openSpool({ disk, pages, position, spoolFile, signal }: SpoolRequest, form: SpoolForm): SnapshotSpool {
  signal?.throwIfAborted()
  const sizeBytes = spoolBytes({ pages, position, form })
  disk.makeDirectory('snapshot.open-spool', path.dirname(spoolFile))
  const spoolFd = disk.open('snapshot.open-spool', spoolFile, 'w+')
  disk.remove('snapshot.open-spool', spoolFile)
  return new Spool({ disk, task: { pages, position, spoolFd, form }, sizeBytes, signal })
}

class Spool implements SnapshotSpool {
  readonly position: Position
  readonly sizeBytes: number
  readonly done: Promise<void>
  readonly #disk: Disk
  readonly #fd: number
  readonly #abort = new AbortController()
  #written = 0
  #state: 'copying' | 'whole' | 'failed' = 'copying'
  #closing: Promise<void> | undefined
  /** Readers that wait for more. */
  #wake: (() => void)[] = []

  constructor(o: { disk: Disk; task: SpoolTask; sizeBytes: number; signal: AbortSignal | undefined }) {
    this.position = o.task.position
    this.sizeBytes = o.sizeBytes
    this.#disk = o.disk
    this.#fd = o.task.spoolFd
    const signal = o.signal === undefined ? this.#abort.signal : AbortSignal.any([o.signal, this.#abort.signal])
    this.done = this.#copy(o.task, signal)
    // Whoever reads is told; when nobody does, nobody needs to know.
    this.done.catch(() => {})
  }

  async *read(): AsyncIterable<Buffer> {
    let at = 0
    while (at < this.sizeBytes) {
      if (this.#closing !== undefined) throw new ClusterError('CLOSED', 'the snapshot was closed while it was read')
      if (this.#state === 'failed') break
      const available = this.#state === 'whole' ? this.sizeBytes : Math.min(this.#written, this.sizeBytes - 1)
      if (at === available) {
        await new Promise<void>((resolve) => this.#wake.push(resolve))
        continue
      }
      const bytes = Buffer.allocUnsafeSlow(Math.min(READ_BYTES, available - at))
      const got = this.#disk.read('snapshot.read-spool', this.#fd, bytes, 0, bytes.length, at)
      if (got < bytes.length) throw new ClusterError('STORAGE_FAILED', 'a snapshot spool became shorter')
      at += got
      yield bytes
    }
    await this.done
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    this.#abort.abort(new ClusterError('CLOSED', 'the snapshot was closed before it was complete'))
    await Promise.allSettled([this.done])
    this.#disk.close('snapshot.close-spool', this.#fd)
    this.#wakeReaders()
  }

  async #copy(task: SpoolTask, signal: AbortSignal): Promise<void> {
    const onProgress = (bytes: number): void => {
      this.#written = bytes
      this.#wakeReaders()
    }
    try {
      if (this.sizeBytes <= INLINE_BYTES_MAX) {
        await runInTurns(copyToSpool(this.#disk, task), signal, onProgress)
      } else {
        const { pages } = task
        const wal = slicePageMap(pages.wal, 1, pages.pageCount)
        const input = { ...task, pages: { ...pages, wal } }
        const transfer = [wal.pgnos.buffer, wal.frames.buffer]
        // Made for a peer: when the application is done, so is this.
        await callWorker({ method: 'copyToSpool', input, transfer, keepsProcess: false, signal, onProgress })
      }
      this.#state = 'whole'
    } catch (error) {
      this.#state = 'failed'
      throw error
    } finally {
      this.#wakeReaders()
    }
  }

  #wakeReaders(): void {
    for (const wake of this.#wake.splice(0)) wake()
  }
}
