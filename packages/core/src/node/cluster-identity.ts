/**
 * What a node keeps about the cluster beside its databases: the cluster id, the largest epoch it has seen, the one it promised a candidate,
 * and the one in which it was in office last.
 *
 * The cluster id is kept twice. With both lost, a replica joins the cluster of the primary it is configured for, as an empty one
 * would. A primary whose databases have a history must not found another cluster over it: its replicas would not know it any
 * more, and nobody would have decided that. It is refused until somebody says which cluster it is.
 *
 * The largest epoch is durable before an epoch is used, adopted or promised, so a crash may skip epochs and never repeats one. A damaged
 * file is made anew from the logs of the databases, which know every epoch in which this node took part.
 */
import { randomBytes } from 'node:crypto'
import path from 'node:path'
import type { Clock } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import type { DataDirectory, StoredClusterId } from '../files/data-directory.ts'
import type { Disk } from '../files/disk.ts'
import { surveyNewestEpoch } from '../log/log-survey.ts'
import { type Epoch, epoch, type EpochTable, NO_EPOCH } from '../position/epoch.ts'
import { EpochRecord } from './epoch-record.ts'

export interface ClusterIdentityParts {
  readonly disk: Disk
  readonly clock: Clock
  readonly directory: DataDirectory
  readonly group: string
  /** In [0, 1). */
  readonly random: () => number
  /** Told of damage that was repaired. */
  warn(name: string, message: string, details: Readonly<Record<string, unknown>>): void
}

/** How far apart epochs are where the clock says nothing new; two nodes meet in one of so many cases. */
const STEP_MAX = 2 ** 20
const LOSSES_MAX = 100

/** What an operator accepted. */
export interface AcceptedLoss {
  readonly epoch: Epoch
  readonly node: string
  readonly losses: readonly string[]
}

export class ClusterIdentity {
  readonly #disk: Disk
  readonly #clock: Clock
  readonly #directory: DataDirectory
  readonly #group: string
  readonly #random: () => number
  readonly #newest: EpochRecord
  readonly #promise: EpochRecord
  readonly #office: EpochRecord
  readonly #warn: ClusterIdentityParts['warn']
  #clusterId: string | undefined

  constructor({ disk, clock, directory, group, warn, random }: ClusterIdentityParts) {
    this.#disk = disk
    this.#clock = clock
    this.#directory = directory
    this.#group = group
    this.#random = random
    this.#warn = warn
    disk.makeDirectory('identity.make-directory', directory.groupDirectory(group))
    const record = (name: 'epoch' | 'promise' | 'office') => new EpochRecord(disk, directory.epochFile(group, name))
    this.#newest = record('epoch')
    this.#promise = record('promise')
    this.#office = record('office')
    this.#clusterId = this.#restoredId(directory.readClusterId())
    if (this.#newest.value === undefined) this.#rebuildNewest(this.#newest)
  }

  /** `LFSC` and 16 upper-case hex digits; `undefined` before the node has joined a cluster. */
  get clusterId(): string | undefined {
    return this.#clusterId
  }

  get newestEpoch(): Epoch {
    return this.#newest.value ?? NO_EPOCH
  }

  /** Records and acknowledgements of older epochs are refused. A damaged promise is taken for the largest one it can have been. */
  get promised(): Epoch {
    return this.#promise.value ?? this.newestEpoch
  }

  /** The epoch in which this node was in office last; `NO_EPOCH` where it never was, or cannot be told. */
  get lastOffice(): Epoch {
    return this.#office.value ?? NO_EPOCH
  }

  /** A first primary founds the cluster. Throws `CORRUPT_DATA` when its databases belong to one whose id was lost. */
  found(): void {
    this.adopt(this.#clusterId ?? this.newClusterId())
  }

  /** For a cluster that is about to be founded. Throws as `found`. */
  newClusterId(): string {
    if (this.#loggedEpoch() !== NO_EPOCH) throw this.#idLost()
    return `LFSC${randomBytes(8).toString('hex').toUpperCase()}`
  }

  /** Joins the cluster of this id. Throws `CLUSTER_MISMATCH` when the node belongs to another one. */
  adopt(clusterId: string): void {
    if (this.#clusterId === clusterId) return
    if (this.#clusterId !== undefined) {
      throw new ClusterError(
        'CLUSTER_MISMATCH',
        `this node belongs to cluster ${this.#clusterId}, not to ${clusterId}`,
        {
          details: { here: this.#clusterId, there: clusterId },
          hint: 'Point the node at the primary of its own cluster, or give it an empty data directory.',
        },
      )
    }
    this.#directory.writeClusterId(clusterId)
    this.#clusterId = clusterId
  }

  /**
   * An epoch larger than `above` and than all seen so far, durable when this answers. Where nothing arbitrates between nodes
   * it is the wall clock, in ms: so two nodes that were both made primary, one after the other and neither knowing of the other, do not
   * write two histories under one epoch, and the later one has the larger (docs/decisions/0004-epochs-by-the-clock.md). A clock that is
   * behind an epoch seen, because another one was ahead once, says nothing: then the step is random, for the same reason.
   */
  nextEpoch(above: Epoch): Epoch {
    const seen = Math.max(above, this.newestEpoch)
    const nowMs = Math.floor(this.#clock.nowMs())
    this.#remember(epoch(nowMs > seen ? nowMs : seen + 1 + Math.floor(this.#random() * STEP_MAX)))
    return this.newestEpoch
  }

  /** Epochs of another node: none of ours may ever be as small again. */
  seen(table: EpochTable): void {
    this.#remember(table.at(-1)?.epoch ?? NO_EPOCH)
  }

  /**
   * Promises a candidate that nothing of an older epoch is taken or acknowledged from now on, durably. Order: the newest epoch first, so that it
   * is never smaller than a promise.
   */
  promise(candidate: Epoch): void {
    this.#remember(candidate)
    if (candidate > this.promised) this.#promise.write(candidate)
  }

  /** This node takes office: durable before the lease says so (`HeldLease.recordOffice`). */
  beginOffice(inEpoch: Epoch): void {
    this.#remember(inEpoch)
    this.#office.write(inEpoch)
  }

  /** An operator let this node take office although others may have had more: kept, newest last, the last `LOSSES_MAX`. */
  recordLoss(loss: AcceptedLoss): void {
    const at = new Date(this.#clock.nowMs()).toISOString()
    const lines = this.#lossLines()
    lines.push(JSON.stringify({ at, ...loss }))
    const content = `${lines.slice(-LOSSES_MAX).join('\n')}\n`
    this.#disk.replaceDurably('identity.write-losses', this.#lossFile, Buffer.from(content))
  }

  #lossLines(): string[] {
    const content = this.#disk.readWhole('identity.read-losses', this.#lossFile)?.toString() ?? ''
    return content.split('\n').filter((line) => line !== '')
  }

  get #lossFile(): string {
    return path.join(this.#directory.groupDirectory(this.#group), 'accepted-losses')
  }

  #remember(newest: Epoch): void {
    if (newest > this.newestEpoch) this.#newest.write(newest)
  }

  #rebuildNewest(record: EpochRecord): void {
    const newest = this.#loggedEpoch()
    this.#warn('epoch-rebuilt', `${record.file} was damaged; the logs of the databases know epoch ${newest}`, {
      file: record.file,
      epoch: newest,
    })
    record.write(newest)
  }

  /** The newest epoch in the logs of all databases. */
  #loggedEpoch(): Epoch {
    const epochs = this.#directory
      .databaseNames(this.#group)
      .map((name) =>
        surveyNewestEpoch(this.#disk, path.join(this.#directory.databaseDirectory(this.#group, name), 'log')),
      )
    return epoch(Math.max(NO_EPOCH, ...epochs))
  }

  #restoredId(stored: StoredClusterId): string | undefined {
    const { clusterIdFile } = this.#directory
    if (stored.kind === 'none') return undefined
    if (stored.kind === 'damaged') {
      this.#warn('cluster-id-lost', `${clusterIdFile} holds no cluster id, nor does its copy`, { file: clusterIdFile })
      return undefined
    }
    if (stored.isFromCopy) {
      this.#warn('cluster-id-restored', `${clusterIdFile} was damaged; its copy was used`, { file: clusterIdFile })
      this.#directory.writeClusterId(stored.id)
    }
    return stored.id
  }

  #idLost(): ClusterError {
    const { clusterIdFile } = this.#directory
    return new ClusterError(
      'CORRUPT_DATA',
      `the databases of this node belong to a cluster, but ${clusterIdFile} does not say which`,
      {
        details: { file: clusterIdFile },
        hint: 'Copy the file `clusterid` of another node of the cluster to this place. Without another node write "LFSC" and 16 upper-case hex digits of your choice into it.',
      },
    )
  }
}
