/**
 * `GET /export?name=`: the raw SQLite file of a database, consistent at one position.
 *
 * The database is pinned only while it is copied aside; the caller then reads the copy at its own pace, within the send
 * buffer's bound. A copy that fails on the way breaks the answer off, so that half a file is never taken for a whole one.
 */
import { formatPosition } from '../position/position.ts'
import type { SpoolSlots } from './spool-slots.ts'
import { type Exchange, refuse } from './exchange.ts'
import type { SendBuffer } from './send-buffer.ts'
import { sendSpool } from './send-spool.ts'
import { HEADER } from './stream-protocol.ts'
import type { StreamableDatabase } from './streamable-database.ts'

export interface ExportOptions {
  readonly exchange: Exchange
  readonly headers: Readonly<Record<string, string>>
  readonly database: StreamableDatabase
  readonly builds: SpoolSlots
  /** Makes the bounded output of the answer. */
  readonly open: (headers: Readonly<Record<string, string>>) => SendBuffer
  readonly batchBytes: number
  /** Aborted when the server closes. */
  readonly signal: AbortSignal
}

/** Answers the request. Rejects when the copy failed after the answer had begun; the answer is broken off then. */
export async function exportDatabase(options: ExportOptions): Promise<void> {
  const { exchange, headers, database, open } = options
  const signal = AbortSignal.any([options.signal, exchange.closed])
  const image = await options.builds
    .open(signal, () => database.openImage(signal))
    .catch((error: unknown) => {
      if (signal.aborted) exchange.reset()
      else refuse(exchange, 500, headers, 'write snapshot: the database cannot be read')
      throw error
    })
  try {
    const type = { 'content-type': 'application/octet-stream', [HEADER.position]: formatPosition(image.position) }
    await sendSpool(image, open({ ...headers, ...type }), options.batchBytes, `the export of ${database.name}`)
  } finally {
    await image.close()
  }
}
