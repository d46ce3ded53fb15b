/** A replica's database that keeps what it was given and checks that each record continues its position. */
import { parseLtxHeader } from '../../ltx/ltx-header.ts'
import { PageChecksums } from '../../ltx/page-checksums.ts'
import { type Epoch, epoch } from '../../position/epoch.ts'
import { type Position, ZERO_POSITION } from '../../position/position.ts'
import type { SnapshotIntake, StreamGreeting, StreamReceiver } from '../stream-receiver.ts'
import { fakePosition } from './fake-database.ts'

export class FakeReceiver implements StreamReceiver {
  at: Position = ZERO_POSITION
  history = 1
  readonly greetings: StreamGreeting[] = []
  readonly batches: number[] = []
  readonly received: Buffer[] = []
  readonly snapshots: Buffer[] = []
  readonly aborted: unknown[] = []
  readonly heartbeats: number[] = []
  readyCount = 0
  droppedCount = 0
  snapshotPieces = 0
  /** Calls under way at this moment, which must never exceed one. */
  #pending = 0
  mostPending = 0
  /** Set to make the receiver slow. */
  work: (() => Promise<void>) | undefined
  onConnected: (() => void | Promise<void>) | undefined

  /** Set to have a copy of this page size; it is to be seeded from when a primary says so. */
  copyPageSize: number | undefined
  #mustSeed = false
  /** Differences taken. */
  differences = 0

  position(): Position {
    return this.#mustSeed ? ZERO_POSITION : this.at
  }

  differenceBase(): Promise<PageChecksums | undefined> {
    if (!this.#mustSeed || this.copyPageSize === undefined) return Promise.resolve(undefined)
    const checksums = new PageChecksums(this.copyPageSize)
    for (let pgno = 1; pgno <= 3; pgno++) checksums.set(pgno, 0x80000000, pgno)
    return Promise.resolve(checksums)
  }

  epoch(): Epoch {
    return epoch(4)
  }

  connected(greeting: StreamGreeting): void | Promise<void> {
    this.greetings.push(greeting)
    if (greeting.seed !== undefined) this.#mustSeed = true
    return this.onConnected?.()
  }

  records(ltx: readonly Buffer[]): void | Promise<void> {
    this.batches.push(ltx.length)
    if (this.work === undefined) this.#take(ltx)
    else return this.#slowly(() => this.#take(ltx))
  }

  beginSnapshot(base?: PageChecksums): SnapshotIntake {
    const pieces: Buffer[] = []
    return {
      data: (chunk) => {
        this.snapshotPieces++
        pieces.push(Buffer.from(chunk))
        return this.work && this.#slowly(() => undefined)
      },
      finish: async () => {
        await Promise.resolve()
        const snapshot = Buffer.concat(pieces)
        this.snapshots.push(snapshot)
        if (base !== undefined) this.differences++
        this.#mustSeed = false
        this.at = fakePosition(parseLtxHeader(snapshot).maxTxid, this.history)
      },
      abort: (error) => void this.aborted.push(error),
    }
  }

  heartbeat(timestampMs: number): void {
    this.heartbeats.push(timestampMs)
  }

  ready(): void {
    this.readyCount++
  }

  dropped(): void {
    this.droppedCount++
  }

  #take(ltx: readonly Buffer[]): void {
    for (const bytes of ltx) {
      const header = parseLtxHeader(bytes)
      if (header.minTxid !== this.at.txid + 1n || header.preApplyChecksum !== this.at.checksum)
        throw new Error(`record ${header.minTxid} does not continue ${this.at.txid}`)
      this.received.push(Buffer.from(bytes))
      this.at = fakePosition(header.maxTxid, this.history)
    }
  }

  async #slowly(action: () => void): Promise<void> {
    this.#pending++
    this.mostPending = Math.max(this.mostPending, this.#pending)
    await this.work?.()
    action()
    this.#pending--
  }
}
