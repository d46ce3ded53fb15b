/**
 * Watches every announcement on every node.
 *
 * - I4: in one epoch one process announces; with a lease service, the one that holds the lease at that moment.
 * - I3, I9: what a node announces is what a read there shows, by the checksum of its pages.
 * - No node ever shows a state that the primary of its epoch did not have: (epoch, TXID) has one checksum everywhere, and
 *   a replica never has one first.
 * - I1: what a node reported as durable is there after it lost power.
 */
import { formatPosition, type Position } from '../../packages/core/src/position/position.ts'
import { nextTxid } from '../../packages/core/src/position/txid.ts'
import type { TrackedPosition } from '../../packages/core/src/position/position-tracker.ts'
import type { SimNode } from './sim-node.ts'
import type { SqliteImage } from './sqlite-image.ts'
import { Violation } from './violation.ts'

export class HistoryOracle {
  /** `epoch/txid` → checksum. */
  readonly #states = new Map<string, bigint>()
  readonly #images = new Map<string, SqliteImage>()
  readonly #owners = new Map<number, string>()
  readonly #holdsLease: (name: string) => boolean
  /** Machine → epoch → the largest TXID that it ever held durably in that epoch. */
  readonly #durable = new Map<string, Map<number, bigint>>()
  readonly #lastDurable = new Map<string, Position>()

  /** @param holdsLease whether a node may announce now, by the clock of the lease service */
  constructor(holdsLease: (name: string) => boolean) {
    this.#holdsLease = holdsLease
  }

  advanced(node: SimNode, positions: readonly TrackedPosition[]): void {
    const { primary } = node.database
    for (const at of positions) {
      if (primary !== undefined && at.epoch === primary.epoch) this.#announced(node, at)
      else this.#shown(node, at)
    }
    const last = positions.at(-1)
    const image = node.process.machine.file.current
    const visible = image.checksum
    if (last === undefined) return
    if (visible !== last.position.checksum) {
      throw new Violation(
        'I3',
        `${node.name} announces ${formatPosition(last.position)}, a read shows ${visible.toString(16)}`,
      )
    }
    this.#images.set(formatPosition(last.position), image)
  }

  /** A primary begins: what it committed and did not come to announce before is in its log, and so announced now. */
  tookOffice(node: SimNode): void {
    const { log } = node.database
    for (let txid = log.start.position.txid; ; ) {
      txid = nextTxid(txid)
      const entry = log.readRecord(txid)
      if (entry === undefined) return
      const at = { epoch: entry.epoch, position: entry.record.postApply }
      const owner = this.#owners.get(at.epoch)
      if (owner === undefined || owner.startsWith(`${node.name}#`)) this.#know(node, at)
    }
  }

  /** The state that some node showed at this position. */
  stateAt(position: Position): SqliteImage | undefined {
    return this.#images.get(formatPosition(position))
  }

  /** A replica is about to report what it has durably. */
  synced(node: SimNode): void {
    const { position, epoch } = node.database.log.syncedTail
    this.#lastDurable.set(node.name, node.database.report().durable)
    const epochs = this.#durable.get(node.name) ?? new Map<number, bigint>()
    this.#durable.set(node.name, epochs)
    if ((epochs.get(epoch) ?? 0n) < position.txid) epochs.set(epoch, position.txid)
  }

  /** What it has is about to be replaced: nothing of it is owed any more. */
  replaced(node: SimNode): void {
    this.#lastDurable.delete(node.name)
  }

  /** A process opened its log again. */
  reopened(node: SimNode): void {
    const owed = this.#lastDurable.get(node.name)
    if (owed === undefined) return
    const { log } = node.database
    const found = log.checksumAt(owed.txid)
    if (log.tail.position.txid < owed.txid || (found !== undefined && found !== owed.checksum)) {
      throw new Violation(
        'I1',
        `${node.name} had ${formatPosition(owed)} durably, its log ends at ${formatPosition(log.tail.position)}`,
      )
    }
  }

  /** Machines other than `except` that ever held this transaction durably. */
  copies(at: TrackedPosition, except: string): number {
    let count = 0
    for (const [name, epochs] of this.#durable) {
      if (name !== except && (epochs.get(at.epoch) ?? 0n) >= at.position.txid) count++
    }
    return count
  }

  #announced(node: SimNode, at: TrackedPosition): void {
    this.#own(node, at.epoch)
    if (!this.#holdsLease(node.name)) {
      throw new Violation(
        'I4',
        `${node.name} announces ${formatPosition(at.position)} of epoch ${at.epoch} without the lease`,
      )
    }
    this.#know(node, at)
  }

  #shown(node: SimNode, at: TrackedPosition): void {
    if (at.position.txid === 0n) return
    if (this.#states.has(keyOf(at))) return this.#know(node, at)
    // Records that it wrote as primary and did not come to announce.
    const owner = this.#owners.get(at.epoch)
    if (owner !== undefined && !owner.startsWith(`${node.name}#`)) {
      throw new Violation(
        'history',
        `${node.name} shows ${formatPosition(at.position)} of epoch ${at.epoch}, which ${owner} never announced`,
      )
    }
    this.#know(node, at)
  }

  #own(node: SimNode, epoch: number): void {
    const self = `${node.name}#${node.process.incarnation}`
    const owner = this.#owners.get(epoch)
    if (owner === undefined) this.#owners.set(epoch, self)
    else if (owner !== self) throw new Violation('I4', `${self} and ${owner} both announce in epoch ${epoch}`)
  }

  #know(node: SimNode, at: TrackedPosition): void {
    const known = this.#states.get(keyOf(at))
    if (known === undefined) this.#states.set(keyOf(at), at.position.checksum)
    else if (known !== at.position.checksum) {
      throw new Violation(
        'I9',
        `${node.name} has ${formatPosition(at.position)} in epoch ${at.epoch}, others ${known.toString(16)}`,
      )
    }
  }
}

function keyOf({ epoch, position }: TrackedPosition): string {
  return `${epoch}/${position.txid}`
}
