/**
 * The lease of several processes on one machine: a lock of the operating system, freed by the kernel when its holder dies.
 *
 *   <directory>/lock      byte 0: held by whoever has the lease; byte 1: held while `holder` speaks of him
 *   <directory>/holder    who has it (lease-holder.ts)
 *   <directory>/epoch     the newest epoch, in decimal, a newline
 *   <directory>/office    the newest epoch whose holder took office, likewise
 *   <directory>/clusterid the cluster that these nodes are, a newline
 *
 * Order of acquiring: byte 0 → epoch, durable → holder, durable → byte 1. So whoever finds byte 1 locked reads the living holder, and
 * what a dead one left is never taken for news. Watchers try byte 1 only, so they never stand in a candidate's way. Whoever gives it back
 * writes a byte into `lock`, which wakes those who watch the directory; a death wakes nobody and is found by looking.
 * Relies on: a file system of this machine (locks of network file systems are not looked at), and nobody removes the files while they are in use; one
 * that was moved or removed is found within `pollMs` and ends the lease.
 * Promises: it has no time to live, so margins mean nothing. A holder that stands still (SIGSTOP, a suspended machine) keeps the lease, and nobody else
 * can have it: nothing is written meanwhile, and nothing is fenced.
 * After a crash: the lock is free at once; `holder` and `epoch` stay, an epoch may be skipped and never comes again.
 */
import path from 'node:path'
import type { Clock, Timer } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { Disk } from '../files/disk.ts'
import { type FileWatch, watchFile } from '../files/file-watch.ts'
import { tryLock, tryLockShared, unlock } from '../files/range-lock.ts'
import { type Epoch, epoch } from '../position/epoch.ts'
import { formatLeaseHolder, type LeaseHolder, parseLeaseHolder, sameHolder } from './lease-holder.ts'
import {
  type AcquireOutcome,
  type AcquireRequest,
  type ClusterIdKey,
  type HeldLease,
  type Lease,
  type LeaseObservation,
  requireHeld,
} from './lease.ts'

export interface HostLeaseParts {
  /** Shared by the nodes of this machine that elect a primary among them; made when it does not exist. */
  readonly directory: string
  /** False: this node only watches. Default: true. */
  readonly isCandidate?: boolean | undefined
  readonly disk: Disk
  readonly clock: Clock
  /** How often a watcher looks, and a holder at the files, in ms. Default: 250. */
  readonly pollMs?: number | undefined
}

const LEASE_BYTE = 0
const HOLDER_BYTE = 1
const POLL_MS = 250
/** A watcher has byte 1 for some microseconds. */
const ANNOUNCE_TRIES_MAX = 1_000

export class HostLease implements Lease {
  readonly kind = 'host'
  readonly isCandidate: boolean
  readonly ttlMs = 0
  readonly clusterId: ClusterIdKey
  readonly #parts: HostLeaseParts
  readonly #observations = new Set<HostObservation>()
  readonly #polls = new Set<() => void>()
  #watch: FileWatch | undefined
  #held: HeldHostLease | undefined
  #isClosed = false

  /** Throws `STORAGE_FAILED`. */
  constructor(parts: HostLeaseParts) {
    this.isCandidate = parts.isCandidate ?? true
    this.#parts = parts
    parts.disk.makeDirectory('lease.make-directory', parts.directory)
    this.clusterId = {
      read: () => Promise.resolve(this.#readClusterId()),
      found: (id) => Promise.resolve(this.#foundCluster(id)),
    }
  }

  async acquire({ self, epochAbove }: AcquireRequest): Promise<AcquireOutcome> {
    if (!this.isCandidate || this.#isClosed || this.#held !== undefined) return { kind: 'taken', holder: this.#read() }
    const { disk } = this.#parts
    const fd = this.#openLock()
    let held: HeldHostLease | undefined
    try {
      // A file that was removed between opening and locking it excludes nobody.
      if (!tryLock(fd, LEASE_BYTE, 1) || !this.#isNamed(fd)) return { kind: 'taken', holder: this.#read() }
      const lastOffice = this.#readEpoch('office')
      const next = this.#nextEpoch(epochAbove)
      disk.replaceDurably('lease.write-holder', this.#file('holder'), Buffer.from(formatLeaseHolder(self)))
      await this.#announce(fd)
      if (this.#hasEnded()) return { kind: 'taken', holder: undefined }
      held = new HeldHostLease({
        epoch: next,
        lastOffice,
        recordOffice: () => this.#writeEpoch('office', next),
        giveBack: () => this.#giveBack(fd),
      })
    } finally {
      if (held === undefined) disk.close('lease.close', fd) // with it goes the lock
    }
    this.#held = held
    this.#look()
    this.#watchFile(held, fd)
    return { kind: 'held', lease: held }
  }

  observe(listener: (holder: LeaseHolder | undefined) => void): LeaseObservation {
    const observation = new HostObservation(() => this.#read(), listener)
    const stopPolling = this.#every(() => observation.look())
    this.#observations.add(observation)
    this.#watch ??= this.#watchDirectory()
    observation.look()
    const stop = (): void => {
      this.#observations.delete(observation)
      stopPolling()
    }
    return { refresh: () => this.#quietly(() => this.#observations.has(observation) && observation.look()), stop }
  }

  async close(): Promise<void> {
    this.#isClosed = true
    await this.#held?.release()
    this.#stopPolling()
    this.#watch?.close()
    this.#watch = undefined
    this.#observations.clear()
  }

  /** The living holder; `undefined` also while he has not yet said who he is. */
  #read(): LeaseHolder | undefined {
    const { disk } = this.#parts
    const fd = this.#openLock()
    try {
      if (tryLockShared(fd, HOLDER_BYTE, 1)) return undefined
      return parseLeaseHolder(disk.readWhole('lease.read-holder', this.#file('holder'))?.toString() ?? '')
    } finally {
      disk.close('lease.close', fd)
    }
  }

  #nextEpoch(above: Epoch): Epoch {
    const next = epoch(Math.max(this.#readEpoch('epoch'), above) + 1)
    this.#writeEpoch('epoch', next)
    return next
  }

  #readEpoch(name: 'epoch' | 'office'): Epoch {
    const file = this.#file(name)
    const text = this.#parts.disk.readWhole('lease.read-epoch', file)?.toString() ?? '0\n'
    if (/^\d{1,16}\n$/.test(text)) return epoch(Number(text))
    throw new ClusterError('CORRUPT_DATA', `${file} does not hold an epoch`, {
      details: { file },
      hint:
        name === 'epoch'
          ? 'Write a number larger than every epoch that `litefleet status` shows into it, followed by a newline.'
          : 'Remove it: then the next primary asks the other nodes what they have.',
    })
  }

  #writeEpoch(name: 'epoch' | 'office', value: Epoch): void {
    this.#parts.disk.replaceDurably('lease.write-epoch', this.#file(name), Buffer.from(`${value}\n`))
  }

  #readClusterId(): string | undefined {
    return this.#parts.disk.readWhole('lease.read-cluster-id', this.#file('clusterid'))?.toString().trim()
  }

  /** Only the holder of the lease founds: nobody else writes at the same time. */
  #foundCluster(id: string): string {
    const known = this.#readClusterId()
    if (known !== undefined) return known
    this.#parts.disk.replaceDurably('lease.write-cluster-id', this.#file('clusterid'), Buffer.from(`${id}\n`))
    return id
  }

  /** Byte 1 says that the file `holder` is true. */
  async #announce(fd: number): Promise<void> {
    for (let tries = 0; !tryLock(fd, HOLDER_BYTE, 1); tries++) {
      if (tries === ANNOUNCE_TRIES_MAX) {
        throw new ClusterError(
          'STORAGE_FAILED',
          `${this.#file('lock')}: another program holds byte ${HOLDER_BYTE} of it`,
        )
      }
      await new Promise<void>((resolve) => this.#parts.clock.setTimer(1, resolve))
    }
  }

  #giveBack(fd: number): void {
    this.#held = undefined
    const { disk } = this.#parts
    try {
      unlock(fd, HOLDER_BYTE, 1)
      unlock(fd, LEASE_BYTE, 1)
      this.#quietly(() => disk.write('lease.wake', fd, Buffer.from('\n'), 0, 1, 0))
    } finally {
      disk.close('lease.close', fd)
    }
    this.#look()
  }

  /** Somebody who removes the lock file lets another one make it anew: then there would be two. */
  #watchFile(held: HeldHostLease, fd: number): void {
    const stop = this.#every(() => {
      if (!this.#isNamed(fd)) held.lose(`${this.#file('lock')} was moved or removed`)
    })
    held.lost.addEventListener('abort', stop, { once: true })
  }

  /** Whether the open file is the one that others find. */
  #isNamed(fd: number): boolean {
    const { disk } = this.#parts
    const named = disk.identity('lease.look', this.#file('lock'))
    return named !== undefined && named.inode === disk.identity('lease.look', `/dev/fd/${fd}`)?.inode
  }

  /** While `acquire` waited. */
  #hasEnded(): boolean {
    return this.#isClosed
  }

  /** Where watching does not work, polling does. */
  #watchDirectory(): FileWatch | undefined {
    const look = (): void => this.#quietly(() => this.#look())
    try {
      return watchFile(this.#parts.directory, look, () => undefined)
    } catch {
      return undefined
    }
  }

  #look(): void {
    for (const observation of this.#observations) observation.look()
  }

  #openLock(): number {
    const { disk } = this.#parts
    const file = this.#file('lock')
    try {
      return disk.open('lease.open', file, 'r+')
    } catch {
      return disk.open('lease.open', file, 'w+') // empty in any case
    }
  }

  /** Until the answer is called. */
  #every(work: () => void): () => void {
    const { clock, pollMs = POLL_MS } = this.#parts
    let timer: Timer
    const next = (): void => {
      timer = clock.setTimer(pollMs, () => {
        next()
        this.#quietly(work)
      })
    }
    next()
    const stop = (): void => {
      timer.cancel()
      this.#polls.delete(stop)
    }
    this.#polls.add(stop)
    return stop
  }

  #quietly(work: () => void): void {
    try {
      work()
    } catch {
      // The disk fails: what was known stays, the next look tells more.
    }
  }

  #stopPolling(): void {
    for (const stop of this.#polls) stop()
  }

  #file(name: 'lock' | 'holder' | 'epoch' | 'office' | 'clusterid'): string {
    return path.join(this.#parts.directory, name)
  }
}

interface HeldHostLeaseParts {
  readonly epoch: Epoch
  readonly lastOffice: Epoch
  recordOffice(): void
  giveBack(): void
}

class HeldHostLease implements HeldLease {
  readonly epoch: Epoch
  readonly lastOffice: Epoch
  readonly #parts: HeldHostLeaseParts
  readonly #lost = new AbortController()

  constructor(parts: HeldHostLeaseParts) {
    this.epoch = parts.epoch
    this.lastOffice = parts.lastOffice
    this.#parts = parts
  }

  get lost(): AbortSignal {
    return this.#lost.signal
  }

  async recordOffice(): Promise<void> {
    requireHeld(this)
    this.#parts.recordOffice()
  }

  isHeld(): boolean {
    return !this.lost.aborted
  }

  release(): Promise<void> {
    this.lose('released')
    return Promise.resolve()
  }

  lose(reason: string): void {
    if (this.lost.aborted) return
    this.#lost.abort(reason)
    this.#parts.giveBack()
  }
}

/** Tells a listener of changes only. */
class HostObservation {
  readonly #read: () => LeaseHolder | undefined
  readonly #listener: (holder: LeaseHolder | undefined) => void
  #told: LeaseHolder | undefined | 'nothing' = 'nothing'

  constructor(read: () => LeaseHolder | undefined, listener: (holder: LeaseHolder | undefined) => void) {
    this.#read = read
    this.#listener = listener
  }

  look(): void {
    const holder = this.#read()
    if (this.#told !== 'nothing' && sameHolder(this.#told, holder)) return
    this.#told = holder
    this.#listener(holder)
  }
}
