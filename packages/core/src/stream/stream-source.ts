/**
 * The body of one `/stream` answer: what a replica is missing, then what happens, for as long as both sides live.
 *
 * Order, as LiteFS 0.5.14: for each database in the position map or on this node (within the filter) what is missing, one database
 * after the other; then READY and a HEARTBEAT; then the records of each database that advanced, or a HEARTBEAT when nothing did
 * for `heartbeatMs`. END closes in good order, after HANDOFF where the replica gets the lease; a body that cannot end between two frames is reset instead.
 *
 * A replica gets a snapshot when its TXID is 0 or ahead of ours, when its checksum differs, or when the record after its
 * position is no longer held. A database whose TXID is 0 yields nothing. A database it told a position of, but which this node
 * does not have, yields DROPDB and is forgotten.
 *
 * Relies on: `readAfter` is cheap, so that one piece may be read between two waits.
 * Promises: reads from the log only when the piece fits into the send buffer; sends nothing after the announced tail, and nothing
 * at all once this node may not (may-send.ts), asked again before each piece.
 */
import type { Clock } from '../base/clock.ts'
import { ClusterError } from '../errors/cluster-error.ts'
import { type Position, samePosition, ZERO_POSITION } from '../position/position.ts'
import { type Txid, ZERO_TXID } from '../position/txid.ts'
import { CHUNKS_END, encodeChunkedBatch, encodeChunks } from '../stream-format/chunked-body.ts'
import {
  encodeDropDb,
  encodeEnd,
  encodeHandoff,
  encodeHeartbeat,
  encodeHwm,
  encodeLtxFrameHeader,
  encodeReady,
} from '../stream-format/stream-frame.ts'
import type { MaySend } from './may-send.ts'
import type { SpoolSlots } from './spool-slots.ts'
import type { SendBuffer } from './send-buffer.ts'
import type { StreamNode } from './stream-node.ts'
import type { StreamableDatabase } from './streamable-database.ts'

export interface StreamSourceOptions {
  readonly node: StreamNode
  /** Asked before each piece. */
  readonly maySend: MaySend
  readonly output: SendBuffer
  /** What the replica told; kept up to date with what was sent. */
  readonly positions: Map<string, Position>
  /** Names of the databases wanted; `undefined` for all. */
  readonly filter: ReadonlySet<string> | undefined
  /** A LiteFS replica keeps records by our high-water mark; a Litefleet replica has other ways and gets no HWM frames. */
  readonly peer: 'litefs' | 'litefleet'
  /** The replica has a copy: when records do not lead it on the body ends, and it comes back to be told (stream-route.ts). */
  readonly hasCopy?: boolean | undefined
  readonly builds: SpoolSlots
  readonly batchBytes: number
  readonly heartbeatMs: number
  readonly clock: Clock
}

export class StreamSource {
  readonly #options: StreamSourceOptions
  readonly #output: SendBuffer
  readonly #dirty = new Set<string>()
  readonly #subscriptions = new Map<string, () => void>()
  readonly #ending = new AbortController()
  #leaseId: string | undefined
  #wake: (() => void) | undefined
  #isReady = false
  #snapshotUnderWay: { readonly name: string; readonly txid: Txid } | undefined
  #snapshotCount = 0
  #recordCount = 0

  constructor(options: StreamSourceOptions) {
    this.#options = options
    this.#output = options.output
  }

  /** Position of each database after what was written so far (not: received). */
  get positions(): ReadonlyMap<string, Position> {
    return this.#options.positions
  }

  get isReady(): boolean {
    return this.#isReady
  }

  /** Records and snapshots written so far. */
  get counts(): { readonly records: number; readonly snapshots: number } {
    return { records: this.#recordCount, snapshots: this.#snapshotCount }
  }

  /**
   * The TXID after which this replica still needs the records of a database: what it was sent, or the snapshot it is being sent.
   * `undefined` when it needs none.
   */
  neededAfter(name: string): Txid | undefined {
    return this.#snapshotUnderWay?.name === name ? this.#snapshotUnderWay.txid : this.#options.positions.get(name)?.txid
  }

  /** When the body ends, it says that the replica is to become the primary with this lease. Answers whether it still will. */
  handOver(leaseId: string): boolean {
    if (this.#ending.signal.aborted || this.#output.closed.aborted) return false
    this.#leaseId = leaseId
    return true
  }

  /** Ends the body with END once the piece under way is written; `run()` resolves. */
  end(): void {
    this.#ending.abort(new ClusterError('STREAM_FAILED', 'replication stream: this node ends it'))
    this.#wake?.()
  }

  /** Runs until the peer leaves, this node may not send any more, or `end()`. Rejects when a database failed; the body is closed in any case. */
  async run(): Promise<void> {
    const stop = this.#subscribe()
    try {
      for (const name of this.#options.positions.keys()) this.#mark(name)
      while (this.#mayGoOn()) await this.#turn()
      const handoff = this.#leaseId === undefined ? [] : [encodeHandoff(this.#leaseId)]
      this.#output.end(Buffer.concat([...handoff, encodeEnd()]))
    } catch (error) {
      if (error === this.#output.closed.reason) return
      this.#output.reset('this node failed to read what it had to send')
      throw error
    } finally {
      stop()
    }
  }

  async #turn(): Promise<void> {
    const names = [...this.#dirty]
    this.#dirty.clear()
    for (const name of names) {
      if (!this.#mayGoOn()) return
      await this.#sendDatabase(name)
    }
    if (!this.#mayGoOn()) return
    if (!this.#isReady) {
      await this.#send(encodeReady())
      this.#isReady = true
      await this.#sendHeartbeat()
    } else if (names.length === 0) {
      await this.#sendHeartbeat()
    }
    if (this.#dirty.size === 0) await this.#sleep()
  }

  async #sendDatabase(name: string): Promise<void> {
    const { node, positions, batchBytes } = this.#options
    const database = node.database(name)
    if (database === undefined) {
      // Without a position the replica has nothing to forget: the database is about to come, or gone again.
      if (positions.delete(name)) await this.#send(encodeDropDb(name))
      return
    }
    const tail = database.tail().position
    for (;;) {
      const from = positions.get(name) ?? ZERO_POSITION
      if (tail.txid === ZERO_TXID || samePosition(from, tail)) return
      if (from.txid === ZERO_TXID || from.txid >= tail.txid) return this.#seed(database, from)
      await this.#output.room(batchBytes)
      if (!this.#mayGoOn()) return
      const read = database.readAfter(from, batchBytes)
      if (read.kind === 'at-end') return
      if (read.kind !== 'records') return this.#seed(database, from)
      const announced = Number(tail.txid - from.txid)
      const isBeyond = read.records.length >= announced
      await this.#sendRecords(database, isBeyond ? read.records.slice(0, announced) : read.records)
      positions.set(name, isBeyond ? tail : read.end)
    }
  }

  /** Small records go out in one write, a large one in pieces of its own. */
  async #sendRecords(database: StreamableDatabase, records: readonly Buffer[]): Promise<void> {
    const { peer, batchBytes } = this.#options
    const header = encodeLtxFrameHeader(database.name)
    const hwm = peer === 'litefs' ? encodeHwm(database.highWaterMark?.() ?? ZERO_TXID, database.name) : Buffer.alloc(0)
    const small: Buffer[] = []
    const flush = async (): Promise<void> => {
      if (small.length > 0) await this.#send(encodeChunkedBatch(small.splice(0), header, hwm))
    }
    for (const record of records) {
      if (record.length <= batchBytes) {
        small.push(record)
        continue
      }
      await flush()
      await this.#send(header)
      await this.#sendChunks(record)
      await this.#send(Buffer.concat([CHUNKS_END, hwm]))
    }
    await flush()
    this.#recordCount += records.length
  }

  async #seed(database: StreamableDatabase, from: Position): Promise<void> {
    if (this.#options.hasCopy === true && from.txid !== ZERO_TXID) this.end()
    else await this.#sendSnapshot(database)
  }

  async #sendSnapshot(database: StreamableDatabase): Promise<void> {
    const signal = AbortSignal.any([this.#output.closed, this.#ending.signal])
    const spool = await this.#heartbeatWhile(
      this.#options.builds.open(signal, () => database.openSnapshot(signal)),
    ).catch((error: unknown) => {
      if (this.#mayGoOn()) throw error
    })
    if (spool === undefined) return
    // From the frame's first byte to its last nothing else may be written, and it cannot be taken back.
    let isFrameOpen = false
    try {
      if (!this.#mayGoOn()) return
      isFrameOpen = true
      this.#snapshotUnderWay = { name: database.name, txid: spool.position.txid }
      await this.#send(encodeLtxFrameHeader(database.name))
      for await (const bytes of spool.read()) {
        if (!this.#mayGoOn()) return
        await this.#sendChunks(bytes)
      }
      await this.#send(CHUNKS_END)
      isFrameOpen = false
      this.#snapshotCount++
      this.#options.positions.set(database.name, spool.position)
    } finally {
      this.#snapshotUnderWay = undefined
      if (isFrameOpen) this.#output.reset('a snapshot was broken off')
      await spool.close()
    }
  }

  /** Pinning and waiting for a slot can take longer than a replica of ours waits for a sign of life. LiteFS knows no such limit. */
  async #heartbeatWhile<T>(work: Promise<T>): Promise<T> {
    if (this.#options.peer === 'litefs') return work
    const settled = work.then(
      () => 'settled' as const,
      () => 'settled' as const,
    )
    while ((await this.#heartbeatDueOr(settled)) === 'due') {
      if (!this.#output.closed.aborted && this.#output.unsentBytes === 0) await this.#sendHeartbeat()
    }
    return work
  }

  #heartbeatDueOr<T>(settled: Promise<T>): Promise<T | 'due'> {
    return new Promise((resolve) => {
      const timer = this.#options.clock.setTimer(this.#options.heartbeatMs, () => resolve('due'))
      void settled.then((value) => {
        timer.cancel()
        resolve(value)
      })
    })
  }

  /** Chunks in pieces of at most `batchBytes`, so that the bound holds whatever size the bytes come in. */
  async #sendChunks(bytes: Buffer): Promise<void> {
    const { batchBytes } = this.#options
    for (let offset = 0; offset < bytes.length; offset += batchBytes)
      await this.#send(encodeChunks(bytes.subarray(offset, offset + batchBytes)))
  }

  #sendHeartbeat(): Promise<void> {
    return this.#send(encodeHeartbeat(Math.floor(this.#options.clock.nowMs())))
  }

  async #send(bytes: Buffer): Promise<void> {
    const wait = this.#output.room(bytes.length)
    if (wait !== undefined) await wait
    this.#output.write(bytes)
  }

  /** Once false it stays false: what was skipped meanwhile would be missing. Throws when the stream is closed. */
  #mayGoOn(): boolean {
    if (this.#output.closed.aborted) throw this.#output.closed.reason
    if (!this.#ending.signal.aborted && !this.#options.maySend()) this.end()
    return !this.#ending.signal.aborted
  }

  #subscribe(): () => void {
    const { node } = this.#options
    const follow = (database: StreamableDatabase): void => {
      if (!this.#isWanted(database.name) || this.#subscriptions.has(database.name)) return
      this.#subscriptions.set(
        database.name,
        database.onAdvance(() => this.#mark(database.name)),
      )
      this.#mark(database.name)
    }
    const stopAdded = node.onDatabaseAdded((database) => {
      // Our replicas were told the epochs when they connected, which was before this database existed: they have to ask again.
      if (this.#options.peer === 'litefleet' && this.#isWanted(database.name)) this.end()
      else follow(database)
    })
    node.databases().forEach(follow)
    const wake = (): void => this.#wake?.()
    this.#output.closed.addEventListener('abort', wake, { once: true })
    return () => {
      stopAdded()
      for (const stop of this.#subscriptions.values()) stop()
      this.#output.closed.removeEventListener('abort', wake)
    }
  }

  #isWanted(name: string): boolean {
    return this.#options.filter?.has(name) ?? true
  }

  #mark(name: string): void {
    if (!this.#isWanted(name)) return
    this.#dirty.add(name)
    this.#wake?.()
  }

  /** Until something is marked, the stream closes or ends, or a heartbeat is due. */
  #sleep(): Promise<void> {
    if (this.#output.closed.aborted || this.#ending.signal.aborted) return Promise.resolve()
    return new Promise((resolve) => {
      const done = (): void => {
        timer.cancel()
        this.#wake = undefined
        resolve()
      }
      const timer = this.#options.clock.setTimer(this.#options.heartbeatMs, done)
      this.#wake = done
    })
  }
}
