/**
 * The divergence reports in a data directory, for tools. Reading is safe beside a running node: a report never changes, and none of its
 * files is SQLite's.
 */
import path from 'node:path'
import { type Disk, realDisk } from '../files/disk.ts'
import { type DivergentRequest, readReplays, type Replay } from './divergence-report.ts'
import { listReports, readRequests, reportsDirectory, type StoredReport } from './divergence-store.ts'

/** Of every database of the node, oldest first. Throws `CORRUPT_DATA` naming a file that cannot be read. */
export function findReports(dataDir: string, disk: Disk = realDisk): readonly StoredReport[] {
  const reports: StoredReport[] = []
  for (const group of disk.list('divergence.list', dataDir).filter((name) => isGroup(disk, dataDir, name))) {
    const databases = path.join(dataDir, group, 'dbs')
    for (const name of disk.list('divergence.list', databases))
      reports.push(...listReports(disk, reportsDirectory(path.join(databases, name))))
  }
  return reports.toSorted((a, b) => a.report.foundAtMs - b.report.foundAtMs)
}

/** The requests of a report, in the order in which they were committed. Throws `CORRUPT_DATA`. */
export function readReportedRequests({ directory }: StoredReport, disk: Disk = realDisk): readonly DivergentRequest[] {
  return readRequests(disk, directory)
}

/** What became of the requests that were run again, in the order of the attempts. */
export function readReportedReplays({ directory }: StoredReport, disk: Disk = realDisk): readonly Replay[] {
  return readReplays(disk, directory)
}

function isGroup(disk: Disk, dataDir: string, name: string): boolean {
  const inside = path.join(dataDir, name, 'dbs')
  return disk.identity('divergence.look', inside) !== undefined
}
