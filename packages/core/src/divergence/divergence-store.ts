/**
 * The divergence reports of one database on this node's disk (contents: divergence-report.ts).
 *
 * Order of writing: everything into a directory with a temporary name, synced; then it gets its name, durably. Only after that the
 * node may give up what the report keeps.
 * After a crash: a directory with a temporary name is removed at the next start; the divergence is found and reported again.
 * Bound: `REPORTS_MAX` reports; for one more the oldest is removed, and `onRemoved` told.
 */
import path from 'node:path'
import type { Disk } from '../files/disk.ts'
import { type LogEntry, Segment } from '../log/segment.ts'
import type { LogTail } from '../log/segment-format.ts'
import {
  COPY_FILE,
  decodeReport,
  decodeRequestLine,
  type DivergenceReport,
  type DivergentRequest,
  encodeReport,
  encodeRequestLine,
  REPORT_FILE,
  REQUESTS_FILE,
} from './divergence-report.ts'

const TEMPORARY_PREFIX = '.writing-'
const REPORTS_MAX = 64
/** Written between two turns of the event loop. */
const STEP_BYTES = 4 * 1024 * 1024

/** What goes into a report beside its facts. */
export interface ReportContent {
  /** The transactions kept, in order. */
  readonly entries: Iterable<LogEntry>
  /** Where the first of them leads on from. */
  readonly base: LogTail
  readonly requests: readonly DivergentRequest[]
  /** Writes `copy.ltx` to this path. */
  readonly writeCopy?: ((file: string) => Promise<void>) | undefined
}

export class DivergenceStore {
  readonly #disk: Disk
  readonly #directory: string
  readonly #onRemoved: (directory: string) => void
  #count: number

  /** @param directory that of the database; reports are kept in `divergence` below it */
  constructor(disk: Disk, directory: string, onRemoved: (directory: string) => void) {
    this.#disk = disk
    this.#directory = reportsDirectory(directory)
    this.#onRemoved = onRemoved
    for (const name of disk.list('divergence.list', this.#directory)) {
      if (name.startsWith(TEMPORARY_PREFIX)) removeDirectory(disk, path.join(this.#directory, name))
    }
    this.#count = this.#names().length
  }

  /** Reports kept. */
  get count(): number {
    return this.#count
  }

  directoryOf(id: string): string {
    return path.join(this.#directory, id)
  }

  has(id: string): boolean {
    return this.#disk.identity('divergence.look', path.join(this.directoryOf(id), REPORT_FILE)) !== undefined
  }

  /** Durable when this resolves. Does nothing when there is a report of this id. Rejects with `STORAGE_FAILED`; then there is none. */
  async write(report: DivergenceReport, content: ReportContent): Promise<void> {
    if (this.has(report.id)) return
    const temporary = path.join(this.#directory, TEMPORARY_PREFIX + report.id)
    removeDirectory(this.#disk, temporary)
    this.#disk.makeDirectory('divergence.make-directory', temporary)
    try {
      await this.#writeEntries(temporary, content)
      const lines = content.requests.map((request) => `${encodeRequestLine(request)}\n`).join('')
      this.#disk.replaceDurably('divergence.write', path.join(temporary, REQUESTS_FILE), Buffer.from(lines))
      await content.writeCopy?.(path.join(temporary, COPY_FILE))
      this.#disk.replaceDurably('divergence.write', path.join(temporary, REPORT_FILE), encodeReport(report))
      this.#disk.rename('divergence.keep', temporary, this.directoryOf(report.id))
      this.#disk.syncDirectory('divergence.keep', this.#directory)
      this.#disk.syncDirectory('divergence.keep', path.dirname(this.#directory))
    } catch (error) {
      removeDirectory(this.#disk, temporary)
      throw error
    }
    this.#removeOldest()
  }

  async #writeEntries(directory: string, { entries, base }: ReportContent): Promise<void> {
    let segment: Segment | undefined
    let unyieldedBytes = 0
    try {
      for (const { epoch, record } of entries) {
        segment ??= Segment.create(this.#disk, directory, base)
        segment.append([{ epoch, record }], 0, undefined)
        unyieldedBytes += record.bytes.length
        if (unyieldedBytes < STEP_BYTES) continue
        unyieldedBytes = 0
        await segment.sync()
      }
      await segment?.sync()
    } finally {
      segment?.close()
    }
  }

  #names(): string[] {
    return this.#disk
      .list('divergence.list', this.#directory)
      .filter((name) => !name.startsWith(TEMPORARY_PREFIX) && this.has(name))
  }

  #removeOldest(): void {
    const names = this.#names()
    this.#count = names.length
    if (names.length <= REPORTS_MAX) return
    const age = (name: string): bigint =>
      this.#disk.identity('divergence.look', path.join(this.directoryOf(name), REPORT_FILE))?.modifiedNs ?? 0n
    const aged = names.map((name) => ({ name, modifiedNs: age(name) }))
    aged.sort((a, b) => (a.modifiedNs < b.modifiedNs ? -1 : 1))
    for (const { name } of aged.slice(0, names.length - REPORTS_MAX)) {
      removeDirectory(this.#disk, this.directoryOf(name))
      this.#count--
      this.#onRemoved(this.directoryOf(name))
    }
  }
}

export interface StoredReport {
  readonly directory: string
  readonly report: DivergenceReport
}

/** Where the reports of the database in this directory are. */
export function reportsDirectory(databaseDirectory: string): string {
  return path.join(databaseDirectory, 'divergence')
}

/** All reports in a directory, oldest first. Throws `CORRUPT_DATA` naming a file that cannot be read. */
export function listReports(disk: Disk, directory: string): readonly StoredReport[] {
  const reports: StoredReport[] = []
  for (const name of disk.list('divergence.list', directory)) {
    if (name.startsWith(TEMPORARY_PREFIX)) continue
    const file = path.join(directory, name, REPORT_FILE)
    const bytes = disk.readWhole('divergence.read', file)
    if (bytes !== undefined) reports.push({ directory: path.join(directory, name), report: decodeReport(bytes, file) })
  }
  return reports.toSorted((a, b) => a.report.foundAtMs - b.report.foundAtMs)
}

/** The requests of a report, in the order in which they were committed. Throws `CORRUPT_DATA`. */
export function readRequests(disk: Disk, directory: string): readonly DivergentRequest[] {
  const file = path.join(directory, REQUESTS_FILE)
  const lines = disk.readWhole('divergence.read', file)?.toString('utf8').split('\n') ?? []
  return lines.filter((line) => line !== '').map((line) => decodeRequestLine(line, file))
}

function removeDirectory(disk: Disk, directory: string): void {
  for (const name of disk.list('divergence.remove', directory))
    disk.remove('divergence.remove', path.join(directory, name))
  disk.removeDirectory('divergence.remove', directory)
}
