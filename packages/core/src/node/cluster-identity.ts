/**
 * What a node keeps about the cluster beside its databases: the cluster id, and the largest epoch it has seen.
 *
 * The epoch file is 16 decimal digits and a newline; it is replaced durably before an epoch is used or adopted, so a crash
 * may skip epochs and never repeats one.
 */
import { randomBytes } from 'node:crypto'
import { ClusterError } from '../errors/cluster-error.ts'
import type { DataDirectory } from '../files/data-directory.ts'
import type { Disk } from '../files/disk.ts'
import { type Epoch, epoch, type EpochTable, NO_EPOCH } from '../position/epoch.ts'

export class ClusterIdentity {
  readonly #disk: Disk
  readonly #directory: DataDirectory
  readonly #epochFile: string
  #clusterId: string | undefined
  #newestEpoch: Epoch

  constructor(disk: Disk, directory: DataDirectory, group: string) {
    this.#disk = disk
    this.#directory = directory
    this.#epochFile = directory.epochFile(group)
    disk.makeDirectory('identity.make-directory', directory.groupDirectory(group))
    this.#clusterId = directory.readClusterId()
    this.#newestEpoch = this.#readEpoch()
  }

  /** `LFSC` and 16 upper-case hex digits; `undefined` before the node has joined a cluster. */
  get clusterId(): string | undefined {
    return this.#clusterId
  }

  get newestEpoch(): Epoch {
    return this.#newestEpoch
  }

  /** A first primary founds the cluster. */
  found(): void {
    this.adopt(this.#clusterId ?? `LFSC${randomBytes(8).toString('hex').toUpperCase()}`)
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

  /** An epoch larger than `above` and than all seen so far, durable when this answers. */
  nextEpoch(above: Epoch): Epoch {
    this.#remember(epoch(Math.max(above, this.#newestEpoch) + 1))
    return this.#newestEpoch
  }

  /** Epochs of another node: none of ours may ever be as small again. */
  seen(table: EpochTable): void {
    const newest = table.at(-1)?.epoch ?? NO_EPOCH
    if (newest > this.#newestEpoch) this.#remember(newest)
  }

  #remember(newest: Epoch): void {
    this.#disk.replaceDurably(
      'identity.write-epoch',
      this.#epochFile,
      Buffer.from(`${String(newest).padStart(16, '0')}\n`),
    )
    this.#newestEpoch = newest
  }

  #readEpoch(): Epoch {
    const content = this.#disk.readWhole('identity.read-epoch', this.#epochFile)
    if (content === undefined) return NO_EPOCH
    const text = content.toString('latin1').trim()
    if (/^[0-9]{16}$/.test(text)) return epoch(Number(text))
    throw new ClusterError('CORRUPT_DATA', `${this.#epochFile} holds no epoch`, {
      hint: 'Write the largest epoch that `litefleet status` shows on any node into it, as 16 decimal digits.',
    })
  }
}
