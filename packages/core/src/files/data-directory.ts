/**
 * A node's data directory, and the proof that this process alone owns it.
 *
 *   lock                       held (OFD lock on byte 0) while the node is open; content: the owner's process id
 *   clusterid                  "LFSC" + 16 upper-case hex digits + "\n", as LiteFS writes it
 *   clusterid.copy             the same, in case the first is damaged
 *   <group>/epoch              the newest epoch this node has seen
 *   <group>/promise            records of epochs before this one are refused
 *   <group>/office             the epoch in which this node was in office last
 *   <group>/accepted-losses    when an operator made this node primary although others may have had more, a line of JSON each
 *   <group>/members            who belonged to the cluster when this node heard of it last, JSON
 *   <group>/dbs/<name>/        one database: database, database-wal, database-shm, log/, state, spool/
 *
 * Promises: of all processes that open the directory, on this machine, one succeeds until it closes it or dies.
 * After a crash: the kernel has freed the lock; the number in the file is then only a remark.
 */
import path from 'node:path'
import { ClusterError } from '../errors/cluster-error.ts'
import { type DatabaseName, databaseName } from '../request/database-name.ts'
import type { Disk } from './disk.ts'
import { tryLock, unlock } from './range-lock.ts'

const CLUSTER_ID = /^LFSC[0-9A-F]{16}$/

export type StoredClusterId =
  | {
      readonly kind: 'known'
      /** `LFSC…` */
      readonly id: string
      /** The file itself is damaged or missing. */
      readonly isFromCopy: boolean
    }
  /** This node has not joined a cluster yet. */
  | { readonly kind: 'none' }
  /** What is there is no id. */
  | { readonly kind: 'damaged' }

export class DataDirectory {
  /** Absolute. */
  readonly path: string
  readonly #disk: Disk
  readonly #lockFd: number
  #closed = false

  private constructor(disk: Disk, directory: string, lockFd: number) {
    this.#disk = disk
    this.path = directory
    this.#lockFd = lockFd
  }

  /**
   * Makes the directory where it is missing and takes it into possession.
   * @throws ClusterError `DATA_DIR_IN_USE`, `STORAGE_FAILED`
   */
  static open(disk: Disk, dir: string): DataDirectory {
    const directory = path.resolve(dir)
    disk.makeDirectory('data-directory.make', directory)
    const fd = openLockFile(disk, path.join(directory, 'lock'))
    try {
      if (!tryLock(fd, 0, 1)) throw inUse(directory, readOwner(disk, fd))
      const owner = Buffer.from(`${process.pid}\n`)
      disk.truncate('data-directory.write-owner', fd, 0)
      disk.write('data-directory.write-owner', fd, owner, 0, owner.length, 0)
    } catch (error) {
      disk.close('data-directory.close', fd)
      throw error
    }
    return new DataDirectory(disk, directory, fd)
  }

  get clusterIdFile(): string {
    return path.join(this.path, 'clusterid')
  }

  groupDirectory(group: string): string {
    return path.join(this.path, group)
  }

  epochFile(group: string, name: 'epoch' | 'promise' | 'office'): string {
    return path.join(this.groupDirectory(group), name)
  }

  membersFile(group: string): string {
    return path.join(this.groupDirectory(group), 'members')
  }

  /** Where a database lives; the directory is not made. */
  databaseDirectory(group: string, name: DatabaseName): string {
    return path.join(this.groupDirectory(group), 'dbs', name)
  }

  /** The main file of a database. */
  databaseFile(group: string, name: DatabaseName): string {
    return path.join(this.databaseDirectory(group, name), 'database')
  }

  /** Names of the databases that have a directory, sorted. What the desktop leaves behind (`.DS_Store`) is passed over. */
  databaseNames(group: string): readonly DatabaseName[] {
    const entries = this.#disk.list('data-directory.list', path.join(this.groupDirectory(group), 'dbs'))
    return entries.filter((name) => !name.startsWith('.')).map(databaseName)
  }

  /** Which cluster this node belongs to. */
  readClusterId(): StoredClusterId {
    const [id, copy] = this.#clusterIdFiles.map((file) => this.#readId(file))
    if (id?.kind === 'known') return id
    if (copy?.kind === 'known') return { ...copy, isFromCopy: true }
    return id?.kind === 'none' && copy?.kind === 'none' ? id : { kind: 'damaged' }
  }

  /** Stores the id (`LFSC…`) durably, twice. */
  writeClusterId(id: string): void {
    if (!CLUSTER_ID.test(id)) throw new RangeError(`not a cluster id: ${id}`)
    for (const file of this.#clusterIdFiles) {
      this.#disk.replaceDurably('data-directory.write-cluster-id', file, Buffer.from(`${id}\n`))
    }
  }

  get #clusterIdFiles(): readonly string[] {
    return [this.clusterIdFile, `${this.clusterIdFile}.copy`]
  }

  #readId(file: string): StoredClusterId {
    const content = this.#disk.readWhole('data-directory.read-cluster-id', file)
    if (content === undefined) return { kind: 'none' }
    const id = content.toString('latin1').trim()
    return CLUSTER_ID.test(id) ? { kind: 'known', id, isFromCopy: false } : { kind: 'damaged' }
  }

  /** Gives the directory up. Idempotent. The lock file stays: removing it would let two processes lock two files. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    unlock(this.#lockFd, 0, 1)
    this.#disk.close('data-directory.close', this.#lockFd)
  }
}

/** Opens without truncating, because the file may be somebody's; makes it where it is missing. */
function openLockFile(disk: Disk, file: string): number {
  if (disk.identity('data-directory.open-lock', file) !== undefined) {
    return disk.open('data-directory.open-lock', file, 'r+')
  }
  try {
    return disk.open('data-directory.open-lock', file, 'wx+')
  } catch (error) {
    // Another process made it in between: the lock decides, not who made the file.
    if (error instanceof ClusterError && error.details['errno'] === 'EEXIST') {
      return disk.open('data-directory.open-lock', file, 'r+')
    }
    throw error
  }
}

function readOwner(disk: Disk, fd: number): string {
  const content = Buffer.alloc(32)
  const length = disk.read('data-directory.read-owner', fd, content, 0, content.length, 0)
  return content.toString('latin1', 0, length).trim()
}

function inUse(directory: string, owner: string): ClusterError {
  const pid = /^[0-9]+$/.test(owner) ? Number(owner) : undefined
  const who = pid === undefined ? 'another process' : pid === process.pid ? 'this process' : `process ${pid}`
  return new ClusterError('DATA_DIR_IN_USE', `the data directory ${directory} belongs to ${who}`, {
    details: { directory, pid },
    hint: 'Give each node a data directory of its own, or close the other node first.',
  })
}
