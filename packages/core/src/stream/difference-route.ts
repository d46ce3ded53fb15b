/**
 * `POST /difference?name=&page-size=`: the pages that a replica's copy does not have as this node has them, for a replica
 * that cannot be led on by records: its history parted from this one, or the records are gone. Litefleet nodes only.
 *
 *   request   body: page checksums of the copy in the form of `PageChecksums` (8 bytes a page)
 *   answer    200: one LTX from the state of the copy to the newest one here, with `litefleet-position` and `litefleet-epochs`
 *             409 when there is no such LTX (another page size, a database at TXID 1): the replica asks for a snapshot
 *
 * Order of refusals: 401, 409 the caller (stream-gate.ts); 503 not primary, or too many at a time; 404 unknown database; 400, 413,
 * 408 the request.
 * Bounds: `DIFFERENCES_MAX` requests at a time, `CHECKSUM_BYTES_MAX` bytes each; copies under way as snapshots.
 */
import type { Clock } from '../base/clock.ts'
import { isClusterError } from '../errors/cluster-error.ts'
import { PageChecksums } from '../ltx/page-checksums.ts'
import { formatPosition } from '../position/position.ts'
import { encodeEpochHeader } from './epoch-header.ts'
import { type Exchange, readBody, refuse } from './exchange.ts'
import { maySendTo } from './may-send.ts'
import type { SendBuffer } from './send-buffer.ts'
import { sendSpool } from './send-spool.ts'
import type { SnapshotSpool } from './snapshot-spool.ts'
import type { SpoolSlots } from './spool-slots.ts'
import type { StreamGate } from './stream-gate.ts'
import type { StreamNode } from './stream-node.ts'
import { HEADER, STREAM_PROTOCOL } from './stream-protocol.ts'
import type { StreamableDatabase } from './streamable-database.ts'

export const DIFFERENCE_PATH = '/difference'
/** A database of 64 GiB in pages of 4 KiB. */
export const CHECKSUM_BYTES_MAX = 128 * 1024 * 1024
const DIFFERENCES_MAX = 4
/** How long the page checksums may be on their way. */
const REQUEST_TIMEOUT_MS = 60_000

type Headers = Readonly<Record<string, string>>

export interface DifferenceRouteParts {
  readonly node: StreamNode
  readonly gate: StreamGate
  readonly builds: SpoolSlots
  readonly clock: Clock
  readonly batchBytes: number
  /** Aborted when the server closes. */
  readonly closing: AbortSignal
  /** Answers 200 and makes the bounded output of the body. */
  readonly open: (exchange: Exchange, headers: Headers) => SendBuffer
}

export class DifferenceRoute {
  readonly #parts: DifferenceRouteParts
  #count = 0

  constructor(parts: DifferenceRouteParts) {
    this.#parts = parts
  }

  /** Answers one request; resolves when the body is complete or broken off. */
  async answer(exchange: Exchange, headers: Headers): Promise<void> {
    const { node, gate } = this.#parts
    const admission = gate.admit(exchange)
    if (admission.kind === 'refused') return refuse(exchange, admission.status, headers, admission.message)
    if (admission.kind === 'litefs') return refuse(exchange, 401, headers, 'for Litefleet nodes only')
    const ours = {
      ...headers,
      ...admission.headers,
      [HEADER.protocol]: String(STREAM_PROTOCOL),
      [HEADER.term]: String(node.term()),
    }
    if (!maySendTo(exchange, node)()) return refuse(exchange, 503, ours, 'lease expired')
    if (this.#count >= DIFFERENCES_MAX) return refuse(exchange, 503, ours, 'too many differences')
    this.#count++
    try {
      await this.#answer(exchange, ours)
    } finally {
      this.#count--
    }
  }

  async #answer(exchange: Exchange, headers: Headers): Promise<void> {
    const { node, batchBytes } = this.#parts
    const name = exchange.query.get('name') ?? ''
    const database = node.database(name)
    if (database === undefined) return refuse(exchange, 404, headers, 'database not found')
    const from = await this.#readChecksums(exchange)
    if (from.kind === 'refused') return refuse(exchange, from.status, headers, from.message)
    const spool = await this.#open(exchange, headers, database, from.checksums)
    if (spool === 'failed') return
    if (spool === undefined) return refuse(exchange, 409, headers, 'no difference leads there')
    try {
      const output = this.#parts.open(exchange, {
        ...headers,
        [HEADER.position]: formatPosition(spool.position),
        [HEADER.epochs]: encodeEpochHeader(new Map([[name, database.epochTable()]])),
        'content-type': 'application/octet-stream',
      })
      await sendSpool(spool, output, batchBytes, `the difference of ${name}`)
    } finally {
      await spool.close()
    }
  }

  async #open(
    exchange: Exchange,
    headers: Headers,
    database: StreamableDatabase,
    from: PageChecksums,
  ): Promise<SnapshotSpool | undefined | 'failed'> {
    const signal = AbortSignal.any([this.#parts.closing, exchange.closed])
    try {
      return await this.#parts.builds.open(signal, () => database.openDifference(from, signal))
    } catch (error) {
      if (signal.aborted) exchange.reset()
      else refuse(exchange, 500, headers, 'the database cannot be read')
      if (signal.aborted || isClusterError(error, 'CLOSED')) return 'failed'
      throw error
    }
  }

  async #readChecksums(exchange: Exchange): Promise<ChecksumsBody> {
    const pageSize = Number(exchange.query.get('page-size'))
    if (!Number.isInteger(Math.log2(pageSize)) || pageSize < 512 || pageSize > 65536)
      return { kind: 'refused', status: 400, message: 'malformed page size' }
    const deadline = new AbortController()
    const timer = this.#parts.clock.setTimer(REQUEST_TIMEOUT_MS, () => deadline.abort())
    const body = await readBody(exchange, CHECKSUM_BYTES_MAX, deadline.signal)
    timer.cancel()
    if (body.kind === 'refused') return body
    if (body.bytes.length % 8 !== 0) return { kind: 'refused', status: 400, message: 'malformed page checksums' }
    return { kind: 'checksums', checksums: PageChecksums.fromBuffer(pageSize, body.bytes) }
  }
}

type ChecksumsBody =
  | { readonly kind: 'checksums'; readonly checksums: PageChecksums }
  | { readonly kind: 'refused'; readonly status: number; readonly message: string }
