/**
 * What the writes of one transaction were asked for, as bytes that stand behind its record in the log of the node that ran
 * them. Should that node's history turn out not to be the cluster's, a divergence report can then say whose writes were lost, and
 * they can be run again under the same ids.
 *
 *   varint requests, each: value request id, value idempotency key, byte: 0 the operation was too large to keep, else 1 and
 *   the operation (operation-codec.ts)
 *
 * Bound: about `JOURNAL_BYTES_MAX` for one transaction. Operations beyond it are left out, ids never.
 */
import { ClusterError } from '../errors/cluster-error.ts'
import { readOperation, writeOperation } from './operation-codec.ts'
import { PlainReader } from './plain-reader.ts'
import { PlainWriter } from './plain-writer.ts'
import { parseRequestId, type RequestId } from './request-id.ts'
import type { WriteOperation } from './write-request.ts'

export interface JournaledRequest {
  readonly requestId: RequestId | undefined
  readonly idempotencyKey: string | undefined
  /** `undefined`: it was too large to keep. */
  readonly operation: WriteOperation | undefined
}

export const JOURNAL_BYTES_MAX = 1024 * 1024

/** A request that took effect. */
export interface JournaledWrite {
  readonly requestId: RequestId | undefined
  readonly idempotencyKey: string | undefined
  readonly operation: WriteOperation
  /** About the size of the operation. */
  readonly bytes: number
}

export class RequestJournal {
  readonly #writer = new PlainWriter()

  /** Encodes into memory it reuses; what it answers is the caller's. */
  encode(writes: readonly JournaledWrite[]): Buffer {
    const writer = this.#writer
    writer.reset()
    writer.varint(writes.length)
    for (const { requestId, idempotencyKey, operation, bytes } of writes) {
      writer.value(requestId)
      writer.value(idempotencyKey)
      const isKept = writer.length + bytes <= JOURNAL_BYTES_MAX
      writer.byte(isKept ? 1 : 0)
      if (isKept) writeOperation(writer, operation)
    }
    return writer.copy()
  }
}

/** @throws CORRUPT_DATA */
export function decodeRequests(bytes: Uint8Array): readonly JournaledRequest[] {
  const reader = new PlainReader(bytes)
  const requests: JournaledRequest[] = []
  for (let left = reader.count(); left > 0; left--) {
    const requestId = textOrNothing(reader)
    const idempotencyKey = textOrNothing(reader)
    const id = requestId === undefined ? undefined : parseRequestId(requestId)
    if (id === undefined && requestId !== undefined) throw damaged()
    requests.push({ requestId: id, idempotencyKey, operation: reader.byte() === 0 ? undefined : readOperation(reader) })
  }
  if (!reader.isAtEnd) throw damaged()
  return requests
}

function textOrNothing(reader: PlainReader): string | undefined {
  const value = reader.value()
  if (value === undefined || typeof value === 'string') return value
  throw damaged()
}

function damaged(): ClusterError {
  return new ClusterError('CORRUPT_DATA', 'the requests behind a record are damaged')
}
