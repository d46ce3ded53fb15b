/**
 * Turns the bytes of one `/stream` body into deliveries for the receiver of one database.
 *
 * Order is kept; consecutive records become one delivery, so that a replica that fell behind applies many at once. A small LTX is
 * collected whole; a snapshot, known by its min TXID 1, is passed on in pieces, because it is as large as the database.
 *
 * Memory: bytes are copied once, into blocks that consecutive records share. At most one record of `recordBytesMax`, plus what
 * was pushed since the last `take()`, which flow control bounds.
 */
import { ClusterError } from '../errors/cluster-error.ts'
import { LTX_HEADER_BYTES, parseLtxHeader } from '../ltx/ltx-header.ts'
import { StreamFrameReader } from '../stream-format/stream-frame.ts'

export type Delivery =
  | { readonly kind: 'records'; readonly records: Buffer[]; timestampMs: number }
  | { readonly kind: 'snapshot-begin' }
  | { readonly kind: 'snapshot-data'; readonly bytes: Buffer }
  | { readonly kind: 'snapshot-end' }
  | { readonly kind: 'ready' }
  | { readonly kind: 'heartbeat'; readonly timestampMs: number }
  | { readonly kind: 'dropped' }
  | { readonly kind: 'handoff'; readonly leaseId: string }
  | { readonly kind: 'end' }

/** Size of a block, and of the pieces of a snapshot. */
const BLOCK_BYTES = 256 * 1024

export class FrameCollector {
  readonly #database: string
  readonly #recordBytesMax: number
  readonly #reader: StreamFrameReader
  #deliveries: Delivery[] = []
  #ltx: 'none' | 'header' | 'record' | 'snapshot' = 'none'
  #timestampMs = 0
  /** The LTX (or piece of a snapshot) being collected is `#block[#start, #end)`. What is before `#start` was given away. */
  #block = Buffer.alloc(0)
  #start = 0
  #end = 0

  /** @param database the only one whose frames may come; @param recordBytesMax longest LTX that is not a snapshot */
  constructor(database: string, recordBytesMax: number) {
    this.#database = database
    this.#recordBytesMax = recordBytesMax
    this.#reader = new StreamFrameReader({
      ltxBegin: (name) => this.#begin(name),
      ltxData: (bytes) => this.#append(bytes),
      ltxEnd: () => this.#finish(),
      ready: () => this.#deliver({ kind: 'ready' }),
      end: () => this.#deliver({ kind: 'end' }),
      dropDb: (name) => {
        if (name === this.#database) this.#deliver({ kind: 'dropped' })
      },
      handoff: (leaseId) => this.#deliver({ kind: 'handoff', leaseId }),
      // Retention here goes by this node's own backup.
      hwm: () => undefined,
      heartbeat: (timestampMs) => this.#deliver({ kind: 'heartbeat', timestampMs }),
    })
  }

  /** @throws ClusterError `STREAM_FAILED` or `CORRUPT_DATA`: the connection is worth nothing any more. */
  push(chunk: Buffer): void {
    this.#reader.push(chunk)
  }

  /** What was completed since the last call, in order. */
  take(): readonly Delivery[] {
    if (this.#ltx === 'snapshot') this.#passOn()
    const deliveries = this.#deliveries
    this.#deliveries = []
    return deliveries
  }

  #deliver(delivery: Delivery): void {
    this.#deliveries.push(delivery)
  }

  #begin(name: string): void {
    if (name !== this.#database) throw failed(`the primary sent database "${name}", which was not asked for`)
    this.#ltx = 'header'
  }

  #append(bytes: Buffer): void {
    if (this.#end + bytes.length > this.#block.length) this.#makeRoom(bytes.length)
    this.#end += bytes.copy(this.#block, this.#end)
    if (this.#ltx === 'header' && this.#end - this.#start >= LTX_HEADER_BYTES) this.#readHeader()
  }

  #readHeader(): void {
    const header = parseLtxHeader(this.#block.subarray(this.#start, this.#start + LTX_HEADER_BYTES))
    this.#timestampMs = header.timestampMs
    this.#ltx = header.minTxid === 1n ? 'snapshot' : 'record'
    if (this.#ltx === 'snapshot') this.#deliver({ kind: 'snapshot-begin' })
  }

  #finish(): void {
    if (this.#ltx === 'header') throw failed('an LTX ended within its header')
    if (this.#ltx === 'snapshot') {
      this.#passOn()
      this.#deliver({ kind: 'snapshot-end' })
    } else {
      const record = this.#block.subarray(this.#start, this.#end)
      const last = this.#deliveries.at(-1)
      if (last?.kind === 'records') {
        last.records.push(record)
        last.timestampMs = this.#timestampMs
      } else {
        this.#deliver({ kind: 'records', records: [record], timestampMs: this.#timestampMs })
      }
    }
    this.#start = this.#end
    this.#ltx = 'none'
  }

  /** Gives away what is collected of a snapshot. */
  #passOn(): void {
    if (this.#end === this.#start) return
    this.#deliver({ kind: 'snapshot-data', bytes: this.#block.subarray(this.#start, this.#end) })
    this.#start = this.#end
  }

  /** A new block that begins with what is pending: blocks given away are never written again. */
  #makeRoom(bytes: number): void {
    if (this.#ltx === 'snapshot') this.#passOn()
    const pending = this.#end - this.#start
    if (pending + bytes > this.#recordBytesMax) throw failed(`an LTX is longer than ${this.#recordBytesMax} bytes`)
    const block = Buffer.allocUnsafeSlow(
      Math.max(BLOCK_BYTES, Math.min(2 * pending, this.#recordBytesMax), pending + bytes),
    )
    this.#end = this.#block.copy(block, 0, this.#start, this.#end)
    this.#start = 0
    this.#block = block
  }
}

function failed(reason: string): ClusterError {
  return new ClusterError('STREAM_FAILED', `replication stream: ${reason}`)
}
