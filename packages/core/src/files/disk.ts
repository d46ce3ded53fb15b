/**
 * Every file operation of core goes through a `Disk`, and each call names its operation.
 *
 * The names double as fault points: a test hands in a `Disk` that fails, cuts short or crashes at exactly one named step.
 * Reads and writes are positional and loop until done, so that a short `write(2)` is never mistaken for a whole one.
 *
 * Relies on: nothing here ever opens the main file or `-shm` of a live database except through `LiveFiles`, because closing
 * any descriptor of those files drops every POSIX lock that SQLite holds on them in this process.
 */
import fs from 'node:fs'
import path from 'node:path'
import { ClusterError } from '../errors/cluster-error.ts'

/** What tells one file, in one state, from another. Times in ns. */
export interface FileIdentity {
  readonly inode: bigint
  readonly sizeBytes: bigint
  readonly modifiedNs: bigint
  readonly changedNs: bigint
}

/** The same file in the same state. */
export function sameIdentity(a: FileIdentity | undefined, b: FileIdentity | undefined): boolean {
  if (a === undefined || b === undefined) return false
  return (
    a.inode === b.inode && a.sizeBytes === b.sizeBytes && a.modifiedNs === b.modifiedNs && a.changedNs === b.changedNs
  )
}

/** Dotted, stable, e.g. `log.append`, `apply.write-frames`. */
export type Operation = string

export interface Disk {
  open(operation: Operation, file: string, flags: 'r' | 'r+' | 'w+' | 'wx+'): number
  close(operation: Operation, fd: number): void
  /** Reads until `length` bytes or end of file; answers the count. */
  read(operation: Operation, fd: number, target: Uint8Array, offset: number, length: number, position: number): number
  /** Writes all `length` bytes or throws. */
  write(operation: Operation, fd: number, source: Uint8Array, offset: number, length: number, position: number): void
  /** Writes all `length` bytes in the thread pool; they must not be changed meanwhile. */
  writeAside(
    operation: Operation,
    fd: number,
    source: Uint8Array,
    offset: number,
    length: number,
    position: number,
  ): Promise<void>
  /** `fdatasync` in the thread pool. */
  dataSync(operation: Operation, fd: number): Promise<void>
  /** `fdatasync` now, blocking. */
  dataSyncNow(operation: Operation, fd: number): void
  truncate(operation: Operation, fd: number, sizeBytes: number): void
  sizeBytes(operation: Operation, fd: number): number
  /** `undefined` when the file does not exist. Harmless on a live file: it opens nothing. */
  identity(operation: Operation, file: string): FileIdentity | undefined
  rename(operation: Operation, from: string, to: string): void
  /** Removing what does not exist is no error. */
  remove(operation: Operation, file: string): void
  makeDirectory(operation: Operation, directory: string): void
  /** Removes an empty directory. Removing what does not exist is no error. */
  removeDirectory(operation: Operation, directory: string): void
  /** Names in the directory, sorted; empty when it does not exist. */
  list(operation: Operation, directory: string): string[]
  /** Makes renames and removals in the directory durable. */
  syncDirectory(operation: Operation, directory: string): void
  /** `undefined` when the file does not exist. Never for a live database file. */
  readWhole(operation: Operation, file: string): Buffer | undefined
  /** Writes to a temporary name, syncs, renames, syncs the directory: after a crash either the old or the new content. */
  replaceDurably(operation: Operation, file: string, content: Uint8Array): void
}

/** The file system of this machine. */
export const realDisk: Disk = {
  open: (operation, file, flags) => guard(operation, file, () => fs.openSync(file, flags)),
  close: (operation, fd) => guard(operation, fd, () => fs.closeSync(fd)),
  read(operation, fd, target, offset, length, position) {
    return guard(operation, fd, () => {
      let done = 0
      while (done < length) {
        const count = fs.readSync(fd, target, offset + done, length - done, position + done)
        if (count === 0) break
        done += count
      }
      return done
    })
  },
  write(operation, fd, source, offset, length, position) {
    guard(operation, fd, () => {
      let done = 0
      while (done < length) done += fs.writeSync(fd, source, offset + done, length - done, position + done)
    })
  },
  async writeAside(operation, fd, source, offset, length, position) {
    for (let done = 0; done < length; ) {
      const from = offset + done
      const at = position + done
      done += await new Promise<number>((resolve, reject) => {
        fs.write(fd, source, from, length - done, at, (error, count) => {
          if (error === null) resolve(count)
          else reject(failed(operation, fd, error))
        })
      })
    }
  },
  dataSync(operation, fd) {
    return new Promise((resolve, reject) => {
      fs.fdatasync(fd, (error) => (error === null ? resolve() : reject(failed(operation, fd, error))))
    })
  },
  dataSyncNow: (operation, fd) => guard(operation, fd, () => fs.fdatasyncSync(fd)),
  truncate: (operation, fd, sizeBytes) => guard(operation, fd, () => fs.ftruncateSync(fd, sizeBytes)),
  sizeBytes: (operation, fd) => guard(operation, fd, () => fs.fstatSync(fd).size),
  identity(operation, file) {
    return guard(operation, file, () => {
      const stat = fs.statSync(file, { bigint: true, throwIfNoEntry: false })
      if (stat === undefined) return undefined
      return { inode: stat.ino, sizeBytes: stat.size, modifiedNs: stat.mtimeNs, changedNs: stat.ctimeNs }
    })
  },
  rename: (operation, from, to) => guard(operation, from, () => fs.renameSync(from, to)),
  remove: (operation, file) => guard(operation, file, () => fs.rmSync(file, { force: true })),
  makeDirectory(operation, directory) {
    guard(operation, directory, () => fs.mkdirSync(directory, { recursive: true, mode: 0o750 }))
  },
  removeDirectory(operation, directory) {
    guard(operation, directory, () => {
      try {
        fs.rmdirSync(directory)
      } catch (error) {
        if (errorCode(error) !== 'ENOENT') throw error
      }
    })
  },
  list(operation, directory) {
    return guard(operation, directory, () => {
      try {
        return fs.readdirSync(directory).sort()
      } catch (error) {
        if (errorCode(error) === 'ENOENT') return []
        throw error
      }
    })
  },
  syncDirectory(operation, directory) {
    guard(operation, directory, () => {
      const fd = fs.openSync(directory, 'r')
      try {
        fs.fsyncSync(fd)
      } finally {
        fs.closeSync(fd)
      }
    })
  },
  readWhole(operation, file) {
    return guard(operation, file, () => {
      try {
        return fs.readFileSync(file)
      } catch (error) {
        if (errorCode(error) === 'ENOENT') return undefined
        throw error
      }
    })
  },
  replaceDurably(operation, file, content) {
    guard(operation, file, () => {
      const temporary = `${file}.tmp`
      const fd = fs.openSync(temporary, 'w', 0o640)
      try {
        let done = 0
        while (done < content.length) done += fs.writeSync(fd, content, done, content.length - done, done)
        fs.fsyncSync(fd)
      } finally {
        fs.closeSync(fd)
      }
      fs.renameSync(temporary, file)
    })
    realDisk.syncDirectory(operation, path.dirname(file))
  },
}

function guard<T>(operation: Operation, subject: string | number, work: () => T): T {
  try {
    return work()
  } catch (error) {
    throw failed(operation, subject, error)
  }
}

function failed(operation: Operation, subject: string | number, cause: unknown): ClusterError {
  const code = errorCode(cause) ?? 'unknown error'
  const what = typeof subject === 'string' ? ` on ${subject}` : ''
  return new ClusterError('STORAGE_FAILED', `${operation}${what}: ${code}`, {
    cause,
    details: { operation, errno: code },
    hint:
      code === 'ENOSPC'
        ? 'The disk is full: free space. A node that runs goes on by itself; one that failed to start must be started again.'
        : undefined,
  })
}

function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}
